"""The methods by name; those of the published ten are the original code's names.

A method is a class in a file of this folder: commands, reports and estimators find it by what it declares.

Examples
--------
>>> metareplay.METHODS["derpp"] is metareplay.DERPP
True
"""

import pkgutil
from importlib import import_module
from typing import Any

from metareplay import user_code
from metareplay.errors import BadInput
from metareplay.methods.base import FAMILIES, METHODS, Method
from metareplay.settings import nearest

for _module in pkgutil.iter_modules(__path__):
    if _module.name != "nonnegative_least_squares":  # Numba alone would take most of the start
        import_module(f"{__name__}.{_module.name}")
_ordered = sorted(METHODS.items(), key=lambda item: FAMILIES.index(item[1].family))
METHODS.clear()
METHODS.update(_ordered)


def find(text: str) -> type[Method]:
    """The method of that name, or for ``FILE.py:CLASS`` the one in a user's file; BadInput offers the nearest name."""
    if text in METHODS:
        return METHODS[text]
    if text.endswith(".py"):
        raise BadInput(f"METHOD is {text!r}, but must say which class of that file too: {text}:CLASS")
    parts = user_code.split(text)
    if parts is None:
        hint = nearest(text, METHODS) or ";"
        raise BadInput(f"there is no method {text!r}{hint} `metareplay methods` lists all of them")
    path, name = parts
    module = user_code.module(path)
    there: dict[str, Any] = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    }
    if name not in there:
        has = f"it has {', '.join(there)}" if there else "it has none: write class MyMethod(metareplay.Method)"
        raise BadInput(f"there is no method {name!r} in {path}{nearest(name, there) or ';'} {has}")
    if there[name].observe is Method.observe:
        raise BadInput(f"{name} in {path} does not say how to learn: give it an observe(self, rows)")
    method: type[Method] = there[name]
    return method


__all__ = ["FAMILIES", "METHODS", "Method", "find"]
