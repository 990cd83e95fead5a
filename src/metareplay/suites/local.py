"""The executor for one machine: worker processes that each carry out one run after another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Pipe, wait
from pathlib import Path

from metareplay.runs.folder import Note
from metareplay.runs.request import Request
from metareplay.runs.trainer import Progress
from metareplay.suites.outcome import Outcome, SuiteProgress, name
from metareplay.suites.queue import Job, Queue
from metareplay.suites.worker import Message

SECONDS_BETWEEN_LOOKS = 0.5
"""For workers that died without a word."""
SECONDS_BETWEEN_REPORTS = 0.1
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


def execute(
    requests: Sequence[Request],
    out: Path,
    *,
    jobs: int | None = None,
    report: Callable[[SuiteProgress], None] = lambda progress: None,
    tracker: str | None = None,
    note: Note = lambda text: print(f"metareplay: {text}", file=sys.stderr),
) -> list[Outcome]:
    """Carry out runs, several at a time, and tell what became of each.

    What is done is not run again; what was stopped goes on from its checkpoint; what another process has in hand is
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
        Told in one line what the user may want to know.

    Returns
    -------
    outcomes
        In the order of the requests.

    Raises
    ------
    RunFailed
        If there can be no such folder.
    """
    execution = Execution(Queue(requests, out, note), jobs or len(os.sched_getaffinity(0)), report, tracker)
    with _terminated_as_by_ctrl_c():
        try:
            execution.go()
        except KeyboardInterrupt:
            pass
        finally:
            execution.stop()
    return execution.in_order()


@dataclass(eq=False)
class Worker:
    """A process, and what it is at. It has one thread for arithmetic, and ends when this process does."""

    name: str
    job: Job | None = None
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.connection, theirs = Pipe()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        command = [sys.executable, "-u", "-P", "-m", "metareplay.suites.worker", str(theirs.fileno())]
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
        self.job, job.progress = job, None
        task = {"request": asdict(job.requests[0]), "key": job.key, "out": str(out), "tracker": tracker}
        with contextlib.suppress(OSError):  # it has died, as will be noticed
            self.connection.send_bytes(json.dumps(task).encode())

    def said(self) -> Message | None:
        """The next thing that it has told; None if it is dead."""
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


class Execution:
    """A suite under way."""

    def __init__(self, queue: Queue, jobs: int, report: Callable[[SuiteProgress], None], tracker: str | None) -> None:
        self.queue, self.report, self.tracker = queue, report, tracker
        self.idle: list[Worker | str] = [f"worker {number}" for number in range(jobs, 0, -1)]  # names: not yet started
        self.busy: list[Worker] = []
        self.shown = (0.0, -1)

    def go(self) -> None:
        """Until nothing is left."""
        self.queue.prepare()
        while self.busy or not self.queue.is_empty:
            self._hand_out()
            self._show()
            self._listen()
        self._show()

    def stop(self) -> None:
        """End all workers, at once: a run that is killed loses nothing but the time since its last checkpoint."""
        for worker in [*self.busy, *self.idle]:
            if isinstance(worker, Worker):
                worker.end()

    def in_order(self) -> list[Outcome]:
        """The outcomes in the order of the requests; what is not over is ``not started``."""
        return self.queue.in_order(worker.job for worker in self.busy if worker.job)

    def _hand_out(self) -> None:
        """Give each idle worker a run."""
        while self.idle and (job := self.queue.next()):
            idle = self.idle.pop()
            worker = Worker(idle) if isinstance(idle, str) else idle
            self.busy.append(worker)
            worker.take(job, self.queue.out, self.tracker)

    def _listen(self) -> None:
        """Take in what workers tell, and their deaths."""
        ready = wait([worker.connection for worker in self.busy], SECONDS_BETWEEN_LOOKS)
        for worker in list(self.busy):
            if worker.connection in ready:
                self._hear(worker, worker.said())
            elif worker.process.poll() is not None and not worker.connection.poll():
                self._hear(worker, None)  # another process, begun by a user's method, holds its end of the pipe open

    def _hear(self, worker: Worker, message: Message | None) -> None:
        job = worker.job
        assert job is not None
        if message is None:
            self.busy.remove(worker)
            self.idle.append(worker.name)
            self.queue.died(job, worker.end())
        elif "progress" in message:
            job.progress = Progress(**message["progress"])
        elif "note" in message:
            self.queue.note(f"{name(job.requests[0])}: {message['note']}")
        else:
            self.busy.remove(worker)
            self.idle.append(worker)
            self.queue.over(job, message["state"], message["message"])

    def _show(self) -> None:
        now, ended = time.monotonic(), len(self.queue.outcomes)
        if now - self.shown[0] < SECONDS_BETWEEN_REPORTS and ended == self.shown[1]:
            return
        self.shown = now, ended
        running = {worker.name: (worker.job.requests[0], worker.job.progress) for worker in self.busy if worker.job}
        self.report(SuiteProgress(len(self.queue.requests), self.queue.outcomes, running))


@contextlib.contextmanager
def _terminated_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
