"""Arguments of the command line: hyper-parameters as flags, and errors that are one line each."""

import argparse
import contextlib
import inspect
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn

from rich_argparse import RawDescriptionRichHelpFormatter

from metareplay.errors import BadInput
from metareplay.settings import Hyperparameter, nearest

Group = argparse._ActionsContainer


class Help(RawDescriptionRichHelpFormatter):
    """The formatter of rich-argparse without console markup, so that ranges such as (0, 1] are shown as they are."""

    help_markup = False
    text_markup = False
    group_name_formatter = str

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{"max_help_position": 28} | settings)


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that raises BadInput and takes no abbreviated flags."""

    def __init__(self, prog: str, command: Callable[..., Any] | None = None, **settings: Any) -> None:
        if command is not None:  # whose docstring describes it
            settings["description"] = inspect.getdoc(command)
        super().__init__(prog, formatter_class=Help, allow_abbrev=False, **settings)
        self.options: list[Hyperparameter] = []

    def add_options(self, options: Iterable[Hyperparameter], group: Group | None = None, **defaults: str) -> None:
        """Add flags whose values ``parse`` checks; ``defaults`` are in words."""
        for option in options:
            add_flag(group or self, option, defaults.get(option.name, option.default))
            self.options.append(option)

    def add_list(self, title: str, lines: Mapping[str, str]) -> None:
        indent, columns = " " * (max(map(len, lines)) + 2), shutil.get_terminal_size().columns - 4
        fill = partial(textwrap.fill, width=columns, subsequent_indent=indent)
        filled = [fill(line, initial_indent=f"{name:<{len(indent)}}") for name, line in lines.items()]
        self.add_argument_group(title, "\n".join(filled))

    def choice(self, argv: list[str], what: str, names: Iterable[str]) -> str:
        """The first argument, if it is one of the names; BadInput if not, and help where that is asked for."""
        name = argv[0] if argv else ""
        if name in names:
            return name
        if name.startswith("-"):
            self.parse(argv)
        *others, last = names
        self.error(f"there is no {what} {name!r}{nearest(name, names)}" if name else f"{', '.join(others)}, or {last}?")

    def parse(self, argv: list[str], elsewhere: Callable[[], Mapping[str, Iterable[str]]] = dict) -> argparse.Namespace:
        """Read the arguments; BadInput if one is missing or not known, whom ``elsewhere`` may know to belong to."""
        given, unknown = self.parse_known_args(argv)
        for word in unknown:
            flag = word.split("=")[0]
            if not flag.startswith("-"):
                self.error(f"{word!r} is one argument too many")
            if owners := elsewhere().get(flag):
                self.error(f"{flag} does not apply here: it belongs to {', '.join(owners)}")
            self.error(f"there is no flag {flag}{nearest(flag, self._option_string_actions)}")
        chosen = values(self.options, given)
        for option in self.options:
            setattr(given, option.name, option.check(chosen[option.name]) if option.name in chosen else option.default)
        return given

    def error(self, message: str) -> NoReturn:
        """Raise BadInput instead of printing the usage and leaving."""
        joint = " " if message.endswith("?") else "; "
        raise BadInput(f"{message.removeprefix('argument ')}{joint}`{self.prog} --help` explains")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave, after the help was written; a reader that is gone shows here and not after ``main``."""
        sys.stdout.flush()
        super().exit(status, message)


def add_flag(group: Group, parameter: Hyperparameter, default: Any) -> None:
    """Add a parameter as a flag, whose value stays text for ``values`` to convert; BadInput if there is such a flag."""
    within = f"; in {parameter.valid}" if parameter.valid not in ("", "(-inf, inf)") else ""
    within = f"; one of {', '.join(parameter.words)}" if parameter.words else within
    kind: dict[str, Any] = {"metavar": {int: "N", float: "X"}.get(parameter.type, "TEXT")}
    if parameter.type is bool:
        kind = {"action": argparse.BooleanOptionalAction}
    text = f"{parameter.help}{within} (default: {default})".replace("%", "%%")
    try:
        group.add_argument(parameter.flag, help=text, dest=parameter.name, **kind)
    except argparse.ArgumentError:
        what = f"{parameter.name} cannot be the name of a hyper-parameter: {parameter.flag} is a flag of "
        raise BadInput(f"{what}`metareplay run` itself; give it another name") from None


def owners(of: Mapping[str, Iterable[Hyperparameter]], written: Callable[[str], str] = str) -> dict[str, list[str]]:
    """By flag, as it is written, the names of those that declare it."""
    found: dict[str, list[str]] = {}
    for name, parameters in of.items():
        for parameter in parameters:
            found.setdefault(written(parameter.flag), []).append(name)
    return found


def typed(parameter: Hyperparameter, given: Any) -> Any:
    """Convert to the parameter's type; return the input unchanged if that fails, for ``check`` to report."""
    if isinstance(given, str) and (name := given.replace("-", "_")) in parameter.words:
        return name
    with contextlib.suppress(ValueError):
        return parameter.type(given)
    return given


def values(parameters: Iterable[Hyperparameter], given: argparse.Namespace) -> dict[str, Any]:
    """Those parameters that were given, as their types; whether they lie in their ranges is not checked."""
    texts = {p: getattr(given, p.name) for p in parameters}
    return {p.name: typed(p, text) for p, text in texts.items() if text is not None}
