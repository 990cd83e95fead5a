"""The two ways in which a run can go wrong, each with its exit status; and text that is safe to show."""

INSTALL = "pip install '.[{0}]' in a clone of metareplay, or pip install 'FILE.whl[{0}]' with its wheel"
"""How an extra is installed, until the name is on the package index (docs/releasing.md)."""


class BadInput(ValueError):
    """What the user gave cannot be used: wrong usage or bad data (exit status 2).

    The message says what was given, what was expected, and what to do.
    """


class RunFailed(RuntimeError):
    """A run that was properly asked for could not be carried out (exit status 1)."""


class Refused(Exception):
    """Why a file cannot be used; whoever catches it knows which file, and tells the user."""


def plain(text: str) -> str:
    """Text of which every character can be shown: others, which a terminal might obey, are written as in Python."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
