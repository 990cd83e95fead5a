"""The backend for one machine: worker processes that each carry out one run after another."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NoReturn

from metareplay.errors import RunFailed
from metareplay.files import Held
from metareplay.runs import trackers
from metareplay.runs.experiment import Experiment
from metareplay.runs.folder import Note, Run, one_line
from metareplay.runs.request import Request
from metareplay.suites.driver import Ended, Event, Job
from metareplay.suites.plan import as_experiment

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


@contextlib.contextmanager
def backend(jobs: int | None, out: Path, tracker: str | None, address: str | None, note: Note) -> Iterator["Workers"]:
    """As many jobs as this process may use cores, unless given."""
    yield Workers(jobs or len(os.sched_getaffinity(0)), out, tracker)


@dataclass(eq=False)
class Worker:
    """A process and its job. It has one thread for arithmetic, and ends when this process does."""

    name: str
    job: Job | None = None
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.connection, theirs = Pipe()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        # Until it can heed Ctrl-C in its own way, which is not at all.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-P", "-m", "metareplay.suites.local", str(theirs.fileno())],
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output is for results, and what a user's method prints is none
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            theirs.close()

    def take(self, job: Job, out: Path, tracker: str | None) -> None:
        self.job, job.worker = job, self.name
        with contextlib.suppress(OSError):  # it has died, as will be noticed
            self.connection.send((job.requests[0], job.key, out, tracker))

    def end(self) -> str:
        """Make sure that it is dead, its locks with it; say how it died."""
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

    def poll(self, seconds: float) -> Iterator[tuple[Job, Event]]:
        ready = wait([worker.connection for worker in self.busy], seconds)
        for worker in list(self.busy):
            # A process that a user's method began holds the pipe of a dead worker open.
            if worker.connection in ready or (worker.process.poll() is not None and not worker.connection.poll()):
                assert worker.job is not None
                yield worker.job, self._heard(worker, worker.connection in ready)

    def end(self, job: Job) -> None:
        worker = next(worker for worker in self.busy if worker.job is job)
        worker.end()
        self.busy.remove(worker)
        self.idle.append(worker.name)

    def stop(self) -> None:
        for worker in [*self.busy, *self.idle]:
            if isinstance(worker, Worker):
                worker.end()

    def _heard(self, worker: Worker, alive: bool) -> Event:
        try:
            event: Event | None = worker.connection.recv() if alive else None
        except (EOFError, OSError):
            event = None
        if event is None or isinstance(event, Ended):
            self.busy.remove(worker)
            self.idle.append(worker if event else worker.name)
        return Ended("died", worker.end()) if event is None else event


def work(descriptor: int) -> NoReturn:
    """Carry out what comes through a pipe: a worker process, which ends at once when the other end is gone."""
    # Ctrl-C on a terminal goes to all processes; what happens then is for the driver to say. Not SIG_IGN, which what a
    # user's method may start would inherit.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    tasks: SimpleQueue[tuple[Request, str, Path, str | None]] = SimpleQueue()

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                tasks.put(connection.recv())
        os._exit(1)

    def send(event: Event) -> None:
        try:
            connection.send(event)
        except OSError:
            os._exit(1)

    Thread(target=listen, daemon=True).start()
    while True:
        send(carry_out(*tasks.get(), send))


def carry_out(request: Request, key: str, out: Path, tracker: str | None, send: Callable[[Event], None]) -> Ended:
    """Try a run, and say what became of it."""
    experiment: Experiment | None = None
    try:
        experiment = as_experiment(request)
        if experiment.key != key:
            raise RunFailed("its data or its method's file changed while the suite was under way: start that again")
        Run(out / key).carry_out(experiment, send, trackers.find(tracker) if tracker else None, note=send)
    except Held as error:
        return Ended("elsewhere", str(error))
    except (Exception, SystemExit) as error:  # a user's method may call exit()
        return Ended("failed", one_line(error, experiment))
    return Ended("done")


if __name__ == "__main__":
    work(int(sys.argv[1]))
