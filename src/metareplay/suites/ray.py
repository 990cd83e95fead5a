"""The executor for a Ray cluster: every run is a Ray task; what it leaves is written by the driver.

No machine of the cluster but the driver's needs to see the folder of runs, the data or a user's files: streams go
through Ray's object store, once to each machine, and files of Python as they are. Checkpoints come back to the driver's
machine, so a run whose machine dies goes on from there on another one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from metareplay import methods, user_code
from metareplay.errors import BadInput, RunFailed
from metareplay.runs.checkpoint import FileCheckpoints
from metareplay.runs.experiment import Experiment
from metareplay.runs.folder import CHECKPOINT, LockedElsewhere, Note, Run, one_line
from metareplay.runs.record import Record
from metareplay.runs.request import Request
from metareplay.runs.trainer import Progress
from metareplay.streams.stream import Stream
from metareplay.suites.outcome import Outcome, SuiteProgress, name
from metareplay.suites.queue import RETRIES, Job, Queue
from metareplay.suites.worker import as_experiment

try:
    import ray
except ImportError as error:
    raise BadInput('this executor needs Ray; install it with: pip install "metareplay[ray]"') from error

from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SECONDS_BETWEEN_LOOKS = 0.2

Show = Callable[[SuiteProgress], None]


@dataclasses.dataclass(frozen=True)
class Parcel:
    """What a run is, for a machine that has none of our files: all but the stream.

    Parameters
    ----------
    method, settings
        The method's id, or ``FILE.py:CLASS``, and its hyper-parameters.
    options
        The other fields of the ``Experiment``.
    tracker
        ``FILE.py:NAME``, or None.
    sources
        The content of each such file.
    """

    method: str
    settings: dict[str, Any]
    options: dict[str, Any]
    tracker: str | None
    sources: dict[str, bytes]

    @classmethod
    def pack(cls, request: Request, experiment: Experiment, tracker: str | None) -> Parcel:
        """Put a run into a parcel."""
        options = {
            field.name: getattr(experiment, field.name)
            for field in dataclasses.fields(Experiment)
            if field.name not in ("stream", "method")
        }
        named = [user_code.split(text) for text in (request.method, tracker, options["network"]) if text]
        sources = {str(parts[0]): parts[0].read_bytes() for parts in named if parts}
        return cls(request.method, dataclasses.asdict(experiment.method), options, tracker, sources)

    def unpack(self, stream: Stream, folder: Path) -> tuple[Experiment, Callable[..., None] | None]:
        """The experiment and its tracker, on a machine where ``folder`` may take the files."""
        here: dict[str, Path] = {}
        for number, (path, content) in enumerate(self.sources.items()):
            here[path] = folder / str(number) / Path(path).name
            here[path].parent.mkdir()
            here[path].write_bytes(content)  # as it is, since its hash is part of the run's key

        def local(text: str) -> str:
            parts = user_code.split(text)
            return f"{here[str(parts[0])]}:{parts[1]}" if parts else text

        method = methods.find(local(self.method))(**self.settings)
        options = self.options | {"network": local(self.options["network"])}
        tracker = user_code.load(local(self.tracker), "--tracker") if self.tracker else None
        return Experiment(stream=stream, method=method, **options), tracker


class Keeper:
    """The actor on the driver's machine that keeps checkpoints, and knows how far the runs are."""

    def __init__(self, out: str) -> None:
        self.out = Path(out)
        self.under_way: dict[str, tuple[str, Progress | None]] = {}
        self.notes: list[tuple[str, str]] = []

    def load(self, key: str) -> bytes | None:
        """The checkpoint of a run."""
        return FileCheckpoints(self.out / key / CHECKPOINT).read()

    def save(self, key: str, content: bytes) -> None:
        """Keep a checkpoint."""
        FileCheckpoints(self.out / key / CHECKPOINT).write(content)

    def note(self, key: str, text: str) -> None:
        """Be told in one line what the user may want to know of a run."""
        self.notes.append((key, text))

    def report(self, key: str, worker: str, progress: Progress | None) -> None:
        """Be told how far a run is, and where it is."""
        self.under_way[key] = (worker, progress)

    def news(self) -> tuple[dict[str, tuple[str, Progress | None]], list[tuple[str, str]]]:
        """Where each run is, and how far; and what was noted since this was asked before."""
        notes, self.notes = self.notes, []
        return self.under_way, notes


class KeptCheckpoints(FileCheckpoints):
    """Checkpoints in another machine's folder."""

    def __init__(self, keeper: Any, key: str) -> None:
        super().__init__(Path(key) / CHECKPOINT, note=lambda text: keeper.note.remote(key, text))
        self.keeper, self.key = keeper, key

    def read(self) -> bytes | None:
        content: bytes | None = _given_back(self.keeper.load.remote(self.key))
        return content

    def write(self, content: bytes) -> None:
        _given_back(self.keeper.save.remote(self.key, content))

    def clear(self) -> None:
        """The driver does it, once it has the record."""


def live(parcel: Parcel, stream: Stream, key: str, keeper: Any) -> Record:
    """Run on whatever machine of the cluster this is."""
    node = ray.get_runtime_context().get_node_id()[:6]
    keeper.report.remote(key, f"node {node}", None)
    experiment: Experiment | None = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            experiment, tracker = parcel.unpack(stream, Path(folder))
            if experiment.key != key:
                raise RunFailed(
                    "this machine makes another run of it: are all machines' metareplay of the same version?"
                )
            kept = KeptCheckpoints(keeper, key)
            return experiment.run(
                lambda progress: keeper.report.remote(key, f"node {node}", progress), tracker, kept, kept.note
            )
    except (Exception, SystemExit) as error:  # a user's method may call exit()
        raise RunFailed(one_line(error, experiment)) from None


def _given_back(reference: Any) -> Any:
    """What a task or an actor gives back; an error of its own is raised as it was, without another machine's lines."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None


@dataclasses.dataclass
class Flight:
    """A run that the cluster has in hand: until the stack is closed, nobody else can have it."""

    job: Job
    run: Run
    stack: contextlib.ExitStack
    worker: str = "waiting for a machine"


class Execution:
    """A suite under way: the driver's side hands runs out, and keeps what comes back.

    Parameters
    ----------
    jobs
        How many runs at once; None for as many as the cluster has CPUs at that moment.
    """

    def __init__(self, queue: Queue, jobs: int | None, report: Show, tracker: str | None) -> None:
        self.queue, self.jobs, self.report, self.tracker = queue, jobs, report, tracker
        remote: Any = ray.remote
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.keeper = (
            remote(Keeper)
            .options(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1)
            .remote(str(queue.out.absolute()))
        )
        self.live = remote(live)
        self.streams: dict[str, Any] = {}
        self.flying: dict[Any, Flight] = {}

    def go(self) -> None:
        """Until nothing is left."""
        self.queue.prepare()
        while self.flying or not self.queue.is_empty:
            while len(self.flying) < self._room() and (job := self.queue.next()):
                self._start(job)
            self._look()
            if not self.flying:  # what is left is another process's
                time.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            ended, _ = ray.wait(list(self.flying), timeout=SECONDS_BETWEEN_LOOKS)
            for task in ended:
                self._end(task, self.flying.pop(task))
        self._look()

    def stop(self) -> None:
        """Leave what is under way to its checkpoints."""
        for task, flight in self.flying.items():
            ray.cancel(task, force=True)
            flight.stack.close()

    def in_order(self) -> list[Outcome]:
        """The outcomes in the order of the requests; what is not over is ``not started``."""
        return self.queue.in_order(flight.job for flight in self.flying.values())

    def _room(self) -> int:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return self.jobs or max(1, int(resources.get("CPU", 1)))

    def _start(self, job: Job) -> None:
        """Hand a run to the cluster."""
        run = Run(self.queue.out / job.key)
        with contextlib.ExitStack() as stack:
            try:
                experiment = as_experiment(job.requests[0])
                stack.enter_context(run.locked(experiment))
                parcel = Parcel.pack(job.requests[0], experiment, self.tracker)
            except LockedElsewhere:
                self.queue.over(job, "elsewhere")
                return
            except Exception as error:
                self.queue.over(job, "failed", one_line(error))
                return
            stream = self._stored(job.requests[0], experiment.stream)
            gpus = int(experiment.device.startswith("cuda"))  # none can be seen but those that are asked for
            task = self.live.options(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)
            self.flying[task.remote(parcel, stream, job.key, self.keeper)] = Flight(job, run, stack.pop_all())

    def _stored(self, request: Request, stream: Stream) -> Any:
        """Where a stream lies in the object store; runs on one stream share it."""
        wanted = json.dumps([request.benchmark, dict(request.stream)], sort_keys=True)
        if wanted not in self.streams:
            self.streams[wanted] = ray.put(stream)
        return self.streams[wanted]

    def _end(self, task: Any, flight: Flight) -> None:
        """Keep what the cluster gives back."""
        try:
            with flight.stack:
                flight.run.keep(_result(task))
            flight.run.tidy()
        except Exception as error:
            self.queue.over(flight.job, "failed", one_line(error))
        else:
            self.queue.over(flight.job, "done")

    def _look(self) -> None:
        """Where the runs are, and how far."""
        under_way, notes = ray.get(self.keeper.news.remote())
        for flight in self.flying.values():
            for text in (text for key, text in notes if key == flight.run.key):
                self.queue.note(f"{name(flight.job.requests[0])}: {text}")
            flight.worker, flight.job.progress = under_way.get(flight.run.key, (flight.worker, None))
        running = {
            f"{flight.worker}, {flight.run.key[:4]}": (flight.job.requests[0], flight.job.progress)
            for flight in self.flying.values()
        }
        self.report(SuiteProgress(len(self.queue.requests), tuple(self.queue.outcomes), running))


def _result(task: Any) -> Record:
    """The record that a task gives back, or what it met."""
    try:
        record: Record = _given_back(task)
    except RayError as error:
        raise RunFailed(
            f"its worker or machine died {RETRIES + 1} times ({type(error).__name__}); "
            "it goes on from its checkpoint when the suite is started again"
        ) from None
    return record


@contextlib.contextmanager
def _cluster(address: str | None, jobs: int | None) -> Iterator[None]:
    """Be part of a cluster, or start one on this machine."""
    if address is not None and address.startswith("ray://"):
        raise BadInput(
            f"--address is {address}, but a suite is started on a machine of the cluster: use --address auto there"
        )
    ours = not ray.is_initialized()
    if ours:
        try:
            if address not in (None, "auto"):
                _reach(str(address))
            ray.init(
                address=address or "local",
                num_cpus=None if address else jobs,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise BadInput(
                f"--address is {address}, but there is no Ray cluster ({str(error).splitlines()[0]}); "
                "start one with: ray start --head"
            ) from error
    try:
        yield
    except KeyboardInterrupt:
        ours = False  # a shutdown takes seconds, and what was started here ends with this process
        raise
    finally:
        if ours:
            ray.shutdown()


def _reach(address: str) -> None:
    """Find out in seconds what Ray would need minutes for: that nobody is there."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass


def execute(
    requests: Sequence[Request],
    out: Path,
    *,
    address: str | None = None,
    jobs: int | None = None,
    report: Show = lambda progress: None,
    tracker: str | None = None,
    note: Note = lambda text: None,
) -> list[Outcome]:
    """Carry out runs on a Ray cluster.

    Parameters
    ----------
    address
        The cluster's, or ``auto`` for that which this machine is part of; None to start one here.
    jobs
        How many runs at once; None for as many as the cluster has CPUs, also those that come later.

    Raises
    ------
    BadInput
        If there is no cluster.
    KeyboardInterrupt
        After Ctrl-C; what is under way is left to its checkpoints.
    """
    queue = Queue(requests, out, note)
    # Of workers that die Ray tells on standard output, which is for results.
    with contextlib.redirect_stdout(sys.stderr), _cluster(address, jobs):
        execution = Execution(queue, jobs, report, tracker)
        try:
            execution.go()
        finally:
            execution.stop()
        return execution.in_order()
