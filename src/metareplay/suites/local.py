"""The backend for one machine: worker processes that each carry out one run after another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, NoReturn

from metareplay import user_code
from metareplay.errors import RunFailed
from metareplay.runs.experiment import Experiment
from metareplay.runs.folder import LockedElsewhere, Note, Run, one_line
from metareplay.runs.request import Request
from metareplay.runs.trainer import Progress
from metareplay.suites.driver import Died, Driver, Ended, Event, Job, Outcome, Show, as_experiment

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}

Message = dict[str, Any]
"""What a worker is sent and sends, as JSON. Down: a ``request``, the ``key`` it should have, the folder ``out`` and the
``tracker``. Up: ``progress`` or a ``note``; in the end the ``state``, as an ``Outcome`` has it, and a ``message``."""


def execute(
    requests: Sequence[Request],
    out: Path,
    *,
    jobs: int | None = None,
    report: Show = lambda progress: None,
    tracker: str | None = None,
    note: Note = lambda text: print(f"metareplay: {text}", file=sys.stderr),
) -> list[Outcome]:
    """Carry out runs, several at a time.

    What is done is not run again; what was stopped resumes from its checkpoint; what another process has locked is
    waited for. The runs of one seed come before those of the next, and of these the longest first. Ctrl-C, or SIGTERM,
    ends all workers: the outcomes of what is not done by then say ``not started``.

    Parameters
    ----------
    out
        The folder of runs.
    jobs
        How many runs at a time; None for one on each core that this process may use.
    report
        Called about ten times a second while something changes.
    tracker
        ``FILE.py:NAME`` of a function that each worker calls after every evaluation; see ``Experiment.run``.
    note
        Called with one line that the user may want to know.

    Returns
    -------
    outcomes
        In the order of the requests.

    Raises
    ------
    RunFailed
        If there can be no such folder.
    """
    workers = Workers(jobs or len(os.sched_getaffinity(0)), out, tracker)
    return Driver(requests, out, report, note).carry_out(workers)


@dataclass(eq=False)
class Worker:
    """A process and its job. It has one thread for arithmetic, and ends when this process does."""

    name: str
    job: Job | None = None
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.connection, theirs = Pipe()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        command = [sys.executable, "-u", "-P", "-m", "metareplay.suites.local", str(theirs.fileno())]
        # Until it can heed Ctrl-C in its own way, which is not at all.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # results alone go to standard output, and what a user's method prints is none
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            theirs.close()

    def take(self, job: Job, out: Path, tracker: str | None) -> None:
        """Begin a run."""
        self.job, job.progress, job.worker = job, None, self.name
        task = {"request": asdict(job.requests[0]), "key": job.key, "out": str(out), "tracker": tracker}
        with contextlib.suppress(OSError):  # it has died, as will be noticed
            self.connection.send_bytes(json.dumps(task).encode())

    def message(self) -> Message | None:
        """The next thing that it has sent; None if it is dead."""
        try:
            message: Message = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return None
        return message

    def end(self) -> str:
        """Make sure that it is dead, its locks with it; says how it died."""
        self.process.kill()
        status = self.process.wait()
        self.connection.close()
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


class Workers:
    """The worker processes of this machine, each started when there is a run for it."""

    def __init__(self, jobs: int, out: Path, tracker: str | None) -> None:
        self.out, self.tracker = out, tracker
        self.idle: list[Worker | str] = [f"worker {number}" for number in range(jobs, 0, -1)]  # names: not yet started
        self.busy: list[Worker] = []

    def room(self) -> bool:
        return bool(self.idle)

    def start(self, job: Job) -> None:
        idle = self.idle.pop()
        worker = Worker(idle) if isinstance(idle, str) else idle
        self.busy.append(worker)
        worker.take(job, self.out, self.tracker)

    def poll(self, seconds: float) -> Iterator[Event]:
        ready = wait([worker.connection for worker in self.busy], seconds)
        for worker in list(self.busy):
            if worker.connection in ready:
                yield self._heard(worker, worker.message())
            elif worker.process.poll() is not None and not worker.connection.poll():
                yield self._heard(worker, None)  # a process begun by a user's method holds its end of the pipe open

    def stop(self) -> None:
        for worker in [*self.busy, *self.idle]:
            if isinstance(worker, Worker):
                worker.end()

    def _heard(self, worker: Worker, message: Message | None) -> Event:
        job = worker.job
        assert job is not None
        if message is None:
            self.busy.remove(worker)
            self.idle.append(worker.name)
            return job, Died(worker.end())
        if "progress" in message:
            return job, Progress(**message["progress"])
        if "note" in message:
            return job, str(message["note"])
        self.busy.remove(worker)
        self.idle.append(worker)
        return job, Ended(message["state"], message["message"])


class Parent:
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

    def send(self, **message: Any) -> None:
        """Send a message."""
        try:
            self.connection.send_bytes(json.dumps(message).encode())
        except OSError:
            os._exit(1)


def work(descriptor: int) -> NoReturn:
    """Carry out what comes through a pipe: what a worker process does."""
    # Ctrl-C on a terminal goes to all processes; what happens then is for the driver to say. Not SIG_IGN, which what a
    # user's method may start would inherit.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = Parent(descriptor)
    while True:
        state, message = carry_out(parent.tasks.get(), parent)
        parent.send(state=state, message=message)


def carry_out(task: Message, parent: Parent) -> tuple[str, str]:
    """Try a run; its state then, and one line about it."""
    experiment: Experiment | None = None
    try:
        experiment = as_experiment(Request(**task["request"]))
        if experiment.key != task["key"]:
            raise RunFailed("its data or its method's file changed while the suite was under way: start that again")
        tracker = user_code.load(task["tracker"], "--tracker") if task["tracker"] else None
        Run(Path(task["out"]) / task["key"]).carry_out(
            experiment,
            lambda progress: parent.send(progress=asdict(progress)),
            tracker,
            note=lambda text: parent.send(note=text),
        )
    except LockedElsewhere as error:
        return "elsewhere", str(error)
    except (Exception, SystemExit) as error:  # a user's method may call exit()
        return "failed", one_line(error, experiment)
    return "done", ""


if __name__ == "__main__":
    work(int(sys.argv[1]))
