"""The backend for a Ray cluster: a run is a Ray task; streams, modules and checkpoints go through the driver alone."""

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial, partialmethod
from pathlib import Path
from typing import Any, Self

from metareplay import methods, user_code
from metareplay.errors import INSTALL, BadInput, RunFailed
from metareplay.files import Held
from metareplay.runs import trackers
from metareplay.runs.checkpoint import FileCheckpoints
from metareplay.runs.experiment import Experiment
from metareplay.runs.folder import CHECKPOINT, Note, Run, one_line
from metareplay.runs.record import Record
from metareplay.runs.request import Request
from metareplay.runs.trackers import Tracker
from metareplay.runs.trainer import Progress, Trainer
from metareplay.streams.stream import Stream
from metareplay.suites import driver
from metareplay.suites.driver import RETRIES, Ended, Event, Job
from metareplay.suites.plan import as_experiment

TOKEN = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
if "RAY_AUTH_TOKEN" in os.environ or TOKEN.is_file():
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it while it is imported

try:
    import ray
except ImportError as error:
    raise BadInput(f"this executor needs Ray: {INSTALL.format('ray')}") from error

from ray.exceptions import AuthenticationError, RayError, RayTaskError  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Payload:
    """A run, for a machine that has none of our files: all but the stream."""

    method: str
    settings: dict[str, Any]
    options: dict[str, Any]  # the other fields of the ``Experiment``
    tracker: str | None
    sources: dict[str, dict[str, bytes]]
    """For each file of the user's that is named, its content and that of all modules of the user's that it imports."""

    @classmethod
    def pack(cls, request: Request, experiment: Experiment, tracker: str | None) -> Self:
        names = [field.name for field in dataclasses.fields(Experiment) if field.init]
        options = {name: getattr(experiment, name) for name in names if name not in ("stream", "method")}
        named = [user_code.split(text) for text in (request.method, tracker, options["network"]) if text]
        sources = {str(parts[0]): user_code.contents(parts[0]) for parts in named if parts}
        return cls(request.method, dataclasses.asdict(experiment.method), options, tracker, sources)

    def unpack(self, stream: Stream, folder: Path) -> tuple[Experiment, Tracker | None]:
        """The experiment and its tracker, on a machine where ``folder`` may take the files."""
        places = {path: folder / str(number) for number, path in enumerate(self.sources)}
        for path, contents in self.sources.items():
            for relative, content in contents.items():
                (places[path] / relative).parent.mkdir(parents=True, exist_ok=True)
                (places[path] / relative).write_bytes(content)  # as it is, since its hash is part of the run's key

        def local(text: str) -> str:
            parts = user_code.split(text)
            return f"{places[str(parts[0])] / parts[0].name}:{parts[1]}" if parts else text

        method = methods.find(local(self.method))(**self.settings)
        options = self.options | {"network": local(self.options["network"])}
        tracker = trackers.find(local(self.tracker)) if self.tracker else None
        return Experiment(stream=stream, method=method, **options), tracker


class CheckpointActor:
    """The actor on the driver's machine that reads and writes checkpoints, and knows how far the runs are."""

    def __init__(self, out: str) -> None:
        self.out = Path(out)
        self.under_way: dict[str, tuple[str, Progress | None]] = {}
        self.notes: list[tuple[str, str]] = []

    def checkpoint(self, key: str, what: str, *given: Any) -> Any:
        """Do what a method of ``FileCheckpoints`` does with the checkpoint of a run."""
        return getattr(FileCheckpoints(self.out / key / CHECKPOINT), what)(*given)

    def note(self, key: str, text: str) -> None:
        self.notes.append((key, text))

    def report(self, key: str, worker: str, progress: Progress | None) -> None:
        """Take where a run is, and how far."""
        self.under_way[key] = worker, progress

    def news(self) -> tuple[dict[str, tuple[str, Progress | None]], list[tuple[str, str]]]:
        """Where each run is, and how far; and what was noted since the last call."""
        notes, self.notes = self.notes, []
        return self.under_way, notes


class RemoteCheckpoints(FileCheckpoints):
    """Checkpoints in the driver's folder."""

    def __init__(self, actor: Any, key: str) -> None:
        super().__init__(Path(key) / CHECKPOINT, note=lambda text: actor.note.remote(key, text))
        self.actor, self.key = actor, key

    def there(self, what: str, *given: Any) -> Any:
        return _result(self.actor.checkpoint.remote(self.key, what, *given))

    read: Any = partialmethod(there, "read")
    write: Any = partialmethod(there, "write")
    set_aside: Any = partialmethod(there, "set_aside")

    def clear(self) -> None:
        """The driver does it, once it has the record."""


def learn(payload: Payload, stream: Stream, key: str, actor: Any) -> Record:
    """Run on whatever machine of the cluster this is."""
    node = f"node {ray.get_runtime_context().get_node_id()[:6]}"
    actor.report.remote(key, node, None)
    experiment: Experiment | None = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            experiment, tracker = payload.unpack(stream, Path(folder))
            if experiment.key != key:
                question = "are all machines' metareplay of the same version?"
                raise RunFailed(f"this machine makes another run of it: {question}")
            checkpoints, report = RemoteCheckpoints(actor, key), partial(actor.report.remote, key, node)
            return Trainer(experiment).train(report, tracker, checkpoints, checkpoints.note)
    except (Exception, SystemExit) as error:  # a user's method may call exit()
        raise RunFailed(one_line(error, experiment)) from None


def _result(reference: Any) -> Any:
    """What a task or an actor returns; an error of its own is raised as it was, without another machine's lines."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None


class Cluster:
    """The cluster that this process is part of; ``jobs`` runs at once, or None for as many as it has CPUs then."""

    def __init__(self, jobs: int | None, out: Path, tracker: str | None) -> None:
        self.jobs, self.out, self.tracker = jobs, out, tracker
        remote: Any = ray.remote
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        forever = {"max_restarts": -1, "max_task_retries": -1}
        keeper = remote(CheckpointActor).options(num_cpus=0, scheduling_strategy=here, **forever)
        self.actor = keeper.remote(str(out.absolute()))
        self.learn = remote(learn)
        self.streams: dict[str, Any] = {}
        self.flying: dict[Any, tuple[Job, contextlib.ExitStack]] = {}  # locked until the stack is closed
        self.refused: list[tuple[Job, Event]] = []

    def room(self) -> bool:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return len(self.flying) < (self.jobs or max(1, int(resources.get("CPU", 1))))

    def start(self, job: Job) -> None:
        request = job.requests[0]
        job.worker = f"waiting for a machine, {job.key[:4]}"
        with contextlib.ExitStack() as stack:
            try:
                experiment = as_experiment(request)
                stack.enter_context(Run(self.out / job.key).locked(experiment))
                payload = Payload.pack(request, experiment, self.tracker)
            except Exception as error:  # a user's code may raise anything; the other runs go on
                state: Any = "elsewhere" if isinstance(error, Held) else "failed"
                self.refused.append((job, Ended(state, one_line(error))))
                return
            wanted = json.dumps([request.benchmark, dict(request.stream)], sort_keys=True)
            if wanted not in self.streams:
                self.streams[wanted] = ray.put(experiment.stream)  # runs on one stream share it
            gpus = int(experiment.device.startswith("cuda"))  # none can be seen but those that are asked for
            task = self.learn.options(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)
            reference = task.remote(payload, self.streams[wanted], job.key, self.actor)
            self.flying[reference] = job, stack.pop_all()

    def poll(self, seconds: float) -> Iterator[tuple[Job, Event]]:
        yield from self.refused
        self.refused.clear()
        if not self.flying:  # what is left is another process's
            time.sleep(seconds)
            return
        ended, _ = ray.wait(list(self.flying), timeout=seconds)
        under_way, notes = ray.get(self.actor.news.remote())
        for job, _ in list(self.flying.values()):
            yield from ((job, text) for key, text in notes if key == job.key)
            if job.key in under_way:
                worker, progress = under_way[job.key]
                job.worker = f"{worker}, {job.key[:4]}"
                if progress is not None:
                    yield job, progress
        for reference in self.flying.keys() & set(ended):
            job, stack = self.flying.pop(reference)
            yield job, self._ended(reference, Run(self.out / job.key), stack)

    def end(self, job: Job) -> None:
        reference = next(reference for reference, (flying, _) in self.flying.items() if flying is job)
        ray.cancel(reference, force=True)
        self.flying.pop(reference)[1].close()

    def stop(self) -> None:
        for job in [job for job, _ in self.flying.values()]:
            self.end(job)

    def _ended(self, reference: Any, run: Run, stack: contextlib.ExitStack) -> Ended:
        """Save the record that the cluster gives back."""
        try:
            with stack:
                try:
                    run.save(_result(reference))
                except RayError as error:
                    died = f"its worker or machine died {RETRIES + 1} times ({type(error).__name__})"
                    again = "it resumes from its checkpoint when the suite is started again"
                    raise RunFailed(f"{died}; {again}") from None
            run.tidy()
        except Exception as error:  # of this run alone: it is reported, and the others go on
            return Ended("failed", one_line(error))
        return Ended("done")


@contextlib.contextmanager
def backend(jobs: int | None, out: Path, tracker: str | None, address: str | None, note: Note) -> Iterator[Cluster]:
    """The cluster that this process is part of, or that at an address, or one that is started on this machine."""
    if address is not None and address.startswith("ray://"):
        how = "a suite is started on a machine of the cluster: use --address auto there"
        raise BadInput(f"--address is {address}, but {how}")
    with contextlib.redirect_stdout(sys.stderr):  # Ray reports workers that die there, where results belong
        if ours := not ray.is_initialized():
            _connect(address, jobs, note)
        try:
            yield Cluster(jobs, out, tracker)
        except KeyboardInterrupt:
            ours = False  # a shutdown takes seconds, and what was started here ends with this process
            raise
        finally:
            if ours:
                ray.shutdown()


def _connect(address: str | None, jobs: int | None, note: Note) -> None:
    if address is None:  # whoever reaches this machine must not run code on it
        if tuple(map(int, ray.__version__.split(".")[:2])) < (2, 60):
            raise BadInput(f"Ray {ray.__version__} lets in whoever reaches this machine: install Ray 2.60 or newer")
        if not TOKEN.is_file():
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one for all to read
    reached = False
    try:
        if address not in (None, "auto"):
            host, _, port = str(address).rpartition(":")
            with socket.create_connection((host, int(port)), timeout=5):  # Ray needs minutes to find that out
                reached = True
        note("starting Ray on this machine" if address is None else f"connecting to Ray (--address {address})")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(address=address or "local", num_cpus=None if address else jobs, **quiet)
    except (OSError, ValueError, RuntimeError, AuthenticationError) as error:
        why = str(error.__cause__ or error).strip().splitlines()[-1].removeprefix("ray.exceptions.")
        if address is None:
            raise BadInput(f"Ray does not start on this machine: {why}") from error
        if "InvalidAuthToken" in why or isinstance(error, AuthenticationError):
            what = (
                "the Ray cluster there does not let this process in: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to its "
                "token, which `ray get-auth-token` prints on the machine where it was started"
            )
        elif reached:
            what = f"what is there does not answer as a Ray cluster does once it has started ({why})"
        else:
            what = f"there is no Ray cluster ({why}); start one with: ray start --head"
        raise BadInput(f"--address is {address}, but {what}") from error


execute = partial(driver.execute, executor="ray")
