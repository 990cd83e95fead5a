"""The two ways in which a run can go wrong, each with its exit status; and text that is safe to show."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

INSTALL = "pip install '.[{0}]' in a clone of metareplay, or pip install 'FILE.whl[{0}]' with its wheel"
"""How an extra is installed, until the name is on the package index (docs/releasing.md)."""
ARGUMENTS = {"from": "from_", "layers": "hidden", "hiddens": "hidden"}  # flags whose name in Python is another one


class Flagged(Exception):
    """A message for people, written with flags; its ``str`` names Python's arguments in their place."""

    @property
    def flagged(self) -> str:
        """As a command line shows it."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        import re  # what a start can do without

        def argument(found: re.Match[str]) -> str:
            name = found[2]
            return ARGUMENTS.get(name, name.replace("-", "_")) if name else found[0]

        return re.sub(r"(`[^`]*`|(?:metareplay|ray) [a-z]+ [^;:,]*)|--([a-z][a-z-]*)", argument, self.flagged)


def with_flags(error: BaseException) -> str:
    """An error's text for the command line."""
    return error.flagged if isinstance(error, Flagged) else str(error)


class BadInput(Flagged, ValueError):
    """What the user gave cannot be used: wrong usage or bad data (exit status 2).

    The message says what was given, what was expected, and what to do.

    Examples
    --------
    >>> try:
    ...     metareplay.MER(lr=-1)
    ... except metareplay.BadInput as error:
    ...     print(error)
    lr is -1.0, but must lie in (0, inf): it is the learning rate of every SGD step
    """


class RunFailed(Flagged, RuntimeError):
    """A run that was properly asked for could not be carried out (exit status 1).

    Examples
    --------
    >>> try:
    ...     metareplay.run(stream, metareplay.Online(lr=1e20))
    ... except metareplay.RunFailed as error:
    ...     print(error)
    the loss is not finite at example ..., in task 0: lower lr (it is 1e+20)
    """


@contextmanager
def failing(kind: type[Flagged], what: str, to_do: str = "") -> Iterator[None]:
    """Raise ``kind`` where the block raises OSError: what failed, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error.strerror or error}{to_do and f'; {to_do}'}") from error


@contextmanager
def handling(number: int, handler: Callable[..., object]) -> Iterator[None]:
    """Have a signal handled in this way while the block runs, where it runs in the main thread."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


class Refused(Exception):
    """Why a file cannot be used; whoever catches it knows which file, and tells the user."""


def plain(text: str) -> str:
    """Text of which every character can be shown: others, which a terminal might obey, are written as in Python."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
