"""The command ``metareplay``: a thin skin over the package, with one file for each command."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from threading import Timer

from metareplay.errors import BadInput, RunFailed, handling, plain, with_flags

TYPE_CHECKING = False
if TYPE_CHECKING:  # until Ctrl-C is handled, as little is imported as can be
    from typing import NoReturn

    from metareplay.cli.arguments import Parser

TOGETHER = {
    "lists": "benchmarks methods check",
    "results": "results compare check-against report",
    "suite": "suite tune",
}
"""Files with several commands, each a function of its name; of any other command it is ``main``."""
COMMANDS = {
    "demo": "see a network forget, and see replay help",
    "benchmarks": "list the streams there are to learn from",
    "methods": "list the methods there are to learn with",
    "run": "learn one benchmark with one method: run BENCHMARK METHOD",
    "check": "check a method of your own: check FILE.py:CLASS",
    "suite": "carry out many runs: suite NAME|FILE.toml",
    "tune": "choose settings by a protocol: tune FILE.toml",
    "results": "list the runs there are: done, running, stopped, failed or broken",
    "compare": "compare methods over seeds: which differences are established",
    "check-against": "say whether runs reproduce a result set: check-against mer-paper RUNS",
    "report": "tables and figures of a folder of runs: a page, LaTeX, CSV, SVG and PDF",
    "show": "one run in the terminal: its accuracy matrix, metrics and curve",
    "data": "list the data sets there are, get one, or make a file of tasks",
}


def program(command: Callable[[list[str]], None], name: str) -> Callable[..., int]:
    """The ``main(argv=None)`` of a program; its exit status is 0, 1 (failed), 2 (bad input) or 130 (Ctrl-C)."""

    def main(argv: Sequence[str] | None = None) -> int:
        return status_of(lambda: command(list(sys.argv[1:] if argv is None else argv)), name)

    return main


def status_of(command: Callable[[], None], program: str) -> int:
    """Run a command of a program; what goes wrong becomes a line on standard error, and the exit status."""
    closed = _open_output()
    try:
        with _ctrl_c_wherever_it_falls():
            command()
        sys.stdout.flush()
    except (BadInput, RunFailed) as error:
        return _failed(program, with_flags(error), 2 if isinstance(error, BadInput) else 1)
    except MemoryError as error:
        return _failed(program, f"there is not enough memory{': ' if str(error) else ''}{error}", 1)
    except KeyboardInterrupt as stop:
        return _failed(program, str(stop) or "stopped", 130)
    except BrokenPipeError:  # whoever read our results has seen enough
        _drop_output()
        return 1
    except OSError as error:
        _drop_output()
        return _failed(program, f"{error.filename or 'standard output'}: {error.strerror or error}", 1)
    return _failed(program, "standard output is closed: nothing could be shown", 1) if closed else 0


def _open_output() -> bool:
    """Let outputs take any text, closed ones lead nowhere (a file would get their number); whether stdout was."""
    closed = sys.stdout is None
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    return closed


@contextlib.contextmanager
def _ctrl_c_wherever_it_falls() -> Iterator[None]:
    """Repeat a Ctrl-C that was ignored: in what LLVM calls while it compiles, Python can only ignore exceptions."""
    before = sys.unraisablehook

    def again(ignored: sys.UnraisableHookArgs) -> None:
        if ignored.exc_type is KeyboardInterrupt:
            Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()  # later, since this is not the place either
        else:
            before(ignored)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


def _command(argv: list[str]) -> None:
    name = argv[0] if argv else "--help"

    def leave(number: int, frame: object) -> NoReturn:
        os._exit(_failed("metareplay", "stopped", 130))

    # While it imports, nothing is lost yet, and not every import takes an exception.
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with handling(signal.SIGINT, leave) if usual else contextlib.nullcontext():
        if name.startswith("-"):
            _parser().parse([name])
        if name not in COMMANDS:
            from metareplay.settings import nearest

            _parser().error(f"there is no command {name!r}{nearest(name, COMMANDS)}")
        home = next((file for file, names in TOGETHER.items() if name in names.split()), name)
        module = importlib.import_module(f"metareplay.cli.{home}")
    getattr(module, name.replace("-", "_") if home in TOGETHER else "main")(argv[1:])


def _parser() -> Parser:
    """What ``metareplay --help`` tells; the commands read their own arguments."""
    from metareplay import __version__
    from metareplay.cli.arguments import Parser

    description = "A laboratory for online continual learning: task after task, and nothing must be forgotten."
    epilog = "`metareplay COMMAND --help` explains each. To begin with: `metareplay demo`"
    parser = Parser("metareplay", usage="metareplay COMMAND …", description=description, epilog=epilog)
    parser.add_argument("--version", action="version", version=f"metareplay {__version__}")
    parser.add_list("commands", COMMANDS)
    return parser


def _failed(program: str, message: str, status: int) -> int:
    with contextlib.suppress(OSError):  # there is nobody left to say it to
        print(f"{program}: {chr(10).join(map(plain, message.split(chr(10))))}", file=sys.stderr, flush=True)
    return status


def _drop_output() -> None:
    """Let the interpreter's last flush go nowhere, since standard output takes no more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


main = program(_command, "metareplay")
