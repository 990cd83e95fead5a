"""A process that carries out runs, one after another, for the executor in ``local.py``."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, NoReturn

from metareplay import user_code
from metareplay.errors import RunFailed
from metareplay.runs.experiment import Experiment
from metareplay.runs.folder import LockedElsewhere, Run, one_line
from metareplay.runs.request import Request
from metareplay.runs.trainer import Progress
from metareplay.streams import catalogue as benchmarks
from metareplay.streams.stream import Stream

Message = dict[str, Any]
"""What driver and worker tell each other, as JSON. Down: a ``request``, the ``key`` it should have, the folder ``out``
and the ``tracker``. Up: ``progress`` or a ``note``; in the end the ``state``, as an outcome has it, and ``message``."""


class Driver:
    """The other end of the pipe. When it is gone this process ends at once, wherever it is: a run loses nothing."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self.connection = Connection(descriptor)
        self.tasks: SimpleQueue[Message] = SimpleQueue()
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                self.tasks.put(json.loads(self.connection.recv_bytes()))
            except (EOFError, OSError):
                os._exit(1)

    def tell(self, **message: Any) -> None:
        """Send a message."""
        try:
            self.connection.send_bytes(json.dumps(message).encode())
        except OSError:
            os._exit(1)


def main(descriptor: int) -> NoReturn:
    """Carry out what comes through a pipe."""
    # Ctrl-C on a terminal goes to all processes; what happens then is for the driver to say. Not SIG_IGN, which what a
    # user's method may start would inherit.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    driver = Driver(descriptor)
    while True:
        state, message = carry_out(driver.tasks.get(), driver)
        driver.tell(state=state, message=message)


def carry_out(task: Message, driver: Driver) -> tuple[str, str]:
    """The state of a run when it has been tried, and one line about it."""
    experiment: Experiment | None = None

    def report(progress: Progress) -> None:
        driver.tell(progress=asdict(progress))

    try:
        experiment = as_experiment(Request(**task["request"]))
        if experiment.key != task["key"]:
            raise RunFailed("its data or its method's file changed while the suite was under way: start that again")
        tracker = user_code.load(task["tracker"], "--tracker") if task["tracker"] else None
        Run(Path(task["out"]) / task["key"]).carry_out(
            experiment, report, tracker, note=lambda text: driver.tell(note=text)
        )
    except LockedElsewhere as error:
        return "elsewhere", str(error)
    except (Exception, SystemExit) as error:  # a user's method may call exit()
        return "failed", one_line(error, experiment)
    return "done", ""


def as_experiment(request: Request) -> Experiment:
    """What is asked for; requests of one stream share it."""
    request.resolved()  # complains of everything before data are loaded
    return request.experiment(stream=_stream(request.benchmark, json.dumps(dict(request.stream), sort_keys=True)))


@lru_cache(maxsize=4)
def _stream(benchmark: str, options: str) -> Stream:
    return benchmarks.find(benchmark).stream(**json.loads(options), progress=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
