"""What a user gives as FILE.py:NAME, with its modules outside library and packages, as read once: that runs."""

import ast
import builtins
import functools
import hashlib
import importlib.util
import inspect
import os
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from metareplay.errors import BadInput
from metareplay.files import read_regular
from metareplay.settings import nearest

PREFIX = "metareplay_user_"
_PACKAGES = {
    os.path.realpath(folder)
    for folder in (*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages())
    if folder.endswith(("-packages", f"python{sys.version_info[0]}.{sys.version_info[1]}"))
}
_LOADED: dict[str, dict[str, bytes]] = {}  # by the name of the module that was made of the user's file
_SEEN: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()


def split(text: str) -> tuple[Path, str] | None:
    """The file and the name in ``FILE.py:NAME``; None if the text is no such thing."""
    path, colon, name = text.rpartition(":")
    return (Path(path), name) if colon and path.endswith(".py") else None


def sources(what: Any) -> dict[str, str]:
    """SHA-256 of every source of the user's that decides what a class, a function, or a ``FILE.py:NAME`` does.

    By file, relative to the folder of the user's file: ``{"mine.py": "ab12…", "helpers/steps.py": …}``; empty for what
    belongs to metareplay or an installed package. Of an object that ``load`` gave they are those of its loading,
    whatever happened to the files since. Of any other they are taken at the first call. What was typed in, as in a
    notebook, counts with its own text.
    """
    if isinstance(what, str) and (parts := split(what)):
        return _hashes(contents(parts[0]))
    if what.__module__ in _LOADED:
        return _hashes(_LOADED[what.__module__])
    if what not in _SEEN:
        file = getattr(sys.modules.get(what.__module__), "__file__", None)
        if file is None or file.startswith("<"):  # such as <stdin>
            read = {what.__qualname__: _typed_in(what)}
        elif what.__module__.partition(".")[0] == "metareplay" or not _is_users(file):
            read = {}
        else:
            read = _closure(Path(file), read_regular(Path(file)))
        _SEEN[what] = _hashes(read)
    return _SEEN[what]


def contents(path: Path) -> dict[str, bytes]:
    """The sources that were read when a user's file was loaded: put into one folder, they load in the same way."""
    return _LOADED[module(path).__name__]


def module(path: Path) -> ModuleType:
    """Run a user's file, once for each content of it and its imports; BadInput, with the line, if that cannot be."""
    if path.suffix != ".py" or not path.is_file():
        raise BadInput(f"there is no such Python file as {path}; give FILE.py:NAME")
    try:
        content = read_regular(path)
        code = compile(content, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        raise BadInput(f"{path} cannot be read: {line}{error.msg}") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    read = _closure(path, content)
    digest = hashlib.sha256(repr((os.fsencode(path.resolve()), sorted(_hashes(read).items()))).encode()).hexdigest()
    name = f"{PREFIX}{path.stem}_{digest[:12]}".replace(".", "_")
    if name in _LOADED:
        return sys.modules[name]
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    loaded = ModuleType(name)
    loaded.__file__ = str(path)
    loaded.__path__ = [str(path.resolve().parent)]  # so that the modules beside it are its own: NAME.helpers
    tops = {file.split("/")[0].removesuffix(".py") for file in read}
    vars(loaded)["__builtins__"] = _builtins(name, {top for top in tops if _beside(top, loaded.__path__[0])})
    sys.modules[name] = loaded  # where dataclasses and type hints look for it
    _LOADED[name] = read
    try:
        exec(code, vars(loaded))
    except (Exception, SystemExit) as error:
        for own in [other for other in sys.modules if other == name or other.startswith(f"{name}.")]:
            del sys.modules[own]
        del _LOADED[name]
        text = " ".join(f"{type(error).__name__}: {error}".replace(f"{name}.", "").split())
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        raise BadInput(f"{path} cannot be loaded: {f'line {lines[-1]}: ' if lines else ''}{text}") from error
    return loaded


def load(text: str, what: str) -> Any:
    """The object that ``FILE.py:NAME`` names; BadInput if there is none, about ``what`` it is for: "a tracker"."""
    parts = split(text)
    if parts is None:
        raise BadInput(f"{what} is {text!r}, but must be FILE.py:NAME")
    path, name = parts
    found = vars(module(path))
    if name not in found:
        named = [key for key, value in found.items() if getattr(value, "__module__", "") == found["__name__"]]
        own = [key for key in named if callable(found[key])]
        has = ", ".join(own) or "nothing that could be called"
        raise BadInput(f"there is no {name!r} in {path}{nearest(name, own) or ';'} it has {has}")
    return found[name]


def _hashes(read: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in read.items()}


def _typed_in(what: Any) -> bytes:
    """The text of a class or a function that lies in no file, and of all typed in beside it that it refers to."""
    texts, left = {}, [what]
    while left:
        item = left.pop()
        if id(item) in texts:
            continue
        texts[id(item)] = item.__qualname__
        functions = [item]
        if inspect.isclass(item):
            left += [base for base in item.__mro__[1:] if base.__module__ == item.__module__]
            functions = [getattr(value, "__func__", value) for value in vars(item).values()]
            texts[id(item)] += _plain(vars(item))
        for function in filter(inspect.isfunction, functions):
            used = {name: function.__globals__.get(name) for name in function.__code__.co_names}
            texts[id(item)] += _text(function) + _plain(used)
            left += [value for value in used.values() if getattr(value, "__module__", None) == what.__module__]
    return "\n".join(sorted(texts.values())).encode()


def _text(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # nothing but the compiled code is known
        code = function.__code__
        return repr((code.co_code, code.co_names)) + repr([c for c in code.co_consts if not inspect.iscode(c)])


def _plain(values: Mapping[str, Any]) -> str:
    return repr(sorted((name, v) for name, v in values.items() if isinstance(v, int | float | str | tuple)))


def _closure(path: Path, content: bytes) -> dict[str, bytes]:
    """A user's file and all modules of the user's that it imports, wherever in it, and that those import."""
    importlib.invalidate_caches()  # a module may have been written this very second
    folder = path.resolve().parent
    read, left = {path.name: content}, [(content, "")]
    while left:
        for name in _imported(*left.pop()):
            spec = _spec(name, folder)
            if spec is None or spec.origin is None or not _is_users(spec.origin):
                continue
            is_package = spec.submodule_search_locations is not None
            file = _file_of(name, is_package)
            if file not in read:
                try:
                    read[file] = read_regular(Path(spec.origin))
                except OSError:
                    continue
                left.append((read[file], name if is_package else name.rpartition(".")[0]))
    return read


def _file_of(name: str, is_package: bool) -> str:
    return name.replace(".", "/") + ("/__init__.py" if is_package else ".py")


def _imported(content: bytes, package: str) -> set[str]:
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError, RecursionError):  # said where it is run, if it ever is
        return set()
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level and package else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base} | {f"{base}.{alias.name}" if base else alias.name for alias in node.names}
    return {name.rsplit(".", cut)[0] for name in names if name for cut in range(name.count(".") + 1)}


def _spec(name: str, folder: Path) -> ModuleSpec | None:
    """Where a module would be imported from: beside the user's file first, as Python has it for a script."""
    whole, *rest = name.split(".")
    spec = _beside(whole, str(folder))
    if spec is None and whole != "metareplay":
        try:
            spec = importlib.util.find_spec(whole)
        except (ImportError, ValueError):
            return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        whole = f"{whole}.{part}"
        spec = PathFinder.find_spec(whole, list(spec.submodule_search_locations))
    return spec


@functools.cache
def _is_users(origin: str) -> bool:
    """Whether a source lies outside the standard library and the installed packages."""
    real = Path(os.path.realpath(origin))
    return real.suffix == ".py" and not any(str(parent) in _PACKAGES for parent in real.parents)


def _beside(top: str, folder: str) -> ModuleSpec | None:
    """The module or package of that name in the user's folder; one without ``__init__.py`` only if all else fails."""
    if top in sys.stdlib_module_names or top == "metareplay":
        return None
    spec = PathFinder.find_spec(top, [folder])
    return None if spec and spec.origin is None and PathFinder.find_spec(top) else spec


class _Finder:
    """Finds the modules of a loaded file, ``metareplay_user_….helpers``; they run as they were read with it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(PREFIX) or path is None:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> Any:  # never from a cache, which cannot tell two edits of one second apart
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True)

    def get_data(self, path: str) -> bytes:
        root, _, name = self.name.partition(".")
        file, read = _file_of(name, Path(path).name == "__init__.py"), _LOADED[root]
        if file not in read:  # imported by a name that its source does not show
            read[file] = read_regular(Path(path))
        return read[file]

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = vars(sys.modules[self.name.partition(".")[0]])["__builtins__"]
        super().exec_module(module)


def _builtins(root: str, beside: set[str]) -> dict[str, Any]:
    """Python's own, but for an ``import`` that finds the modules beside the user's file."""
    standard: Callable[..., Any] = builtins.__import__

    def find(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top = name.partition(".")[0]
        if level or top not in beside:
            return standard(name, globals, locals, fromlist, level)
        found = standard(f"{root}.{name}", globals, locals, fromlist, 0)
        return found if fromlist else getattr(found, top)

    return vars(builtins) | {"__import__": find}
