"""The flags of the original's ``main.py``, in its spelling and with its defaults, and the run that they ask for."""

import contextlib
import math
import re
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from metareplay.cli.arguments import Parser
from metareplay.cli.lists import summary
from metareplay.errors import BadInput, RunFailed, with_flags
from metareplay.learners import engines
from metareplay.methods import METHODS
from metareplay.runs.experiment import Experiment
from metareplay.settings import Hyperparameter, hyperparameters
from metareplay.streams import catalogue as benchmarks
from metareplay.streams import task_list
from metareplay.streams.stream import DOMAIN, Stream

PUBLISHED = ["online", "taskinput", "independent", "ewc", "gem", "eralg4", "eralg5", "meralg1", "meralg6", "meralg7"]
MODELS = {name: METHODS[name] for name in PUBLISHED}  # what the original has, in its order; this package has more
YES_OR_NO = ("yes", "no")


class Flag(Hyperparameter):
    """A flag, spelled as in the original."""

    @property
    def flag(self) -> str:
        return f"--{self.name}"


# In the original's order, which is that of the options in its console line.
FLAGS = (
    Flag("model", str, "single", "", "how to learn: one of the models below"),
    Flag("n_hiddens", int, 100, "[1, inf)", "how many units each hidden layer has"),
    Flag("n_layers", int, 2, "[0, inf)", "how many hidden layers the network has"),
    Flag("finetune", str, "yes", "", "independent: yes if a task's network starts as a copy of the previous task's",
         YES_OR_NO),
    Flag("n_epochs", int, 1, "[1, inf)", "how often a task's examples are seen before the next task comes"),
    Flag("batch_size", int, 1, "[1, inf)", "how many examples come at once"),
    Flag("lr", float, 1e-3, "", "the learning rate of every SGD step"),
    Flag("n_memories", int, 0, "[0, inf)", "ewc, gem: how many examples are kept of each task"),
    Flag("memory_strength", float, 0, "", "ewc: how strongly past tasks hold their parameters; gem: the margin"),
    Flag("memories", int, 5120, "", "eralg*, meralg*: how many examples are kept, over all tasks"),
    Flag("gamma", float, 1.0, "", "meralg1: the share of an example's change that is kept; meralg6, 7: of a batch's"),
    Flag("batches_per_example", float, 1, "", "meralg1, 6: in how many batches each new example is learned"),
    Flag("s", float, 1, "", "meralg7: what the current example's learning rate is multiplied by"),
    Flag("replay_batch_size", float, 20, "", "eralg*, meralg*: how many memories are replayed in each batch"),
    Flag("beta", float, 1.0, "", "meralg1: the share of each batch's change that is kept"),
    Flag("cuda", str, "no", "",
         "yes to learn on a CUDA device, with PyTorch; for one example at a time no is far faster", YES_OR_NO),
    Flag("seed", int, 0, "[0, inf)", "decides which examples are seen, their order, initial weights and replay"),
    Flag("log_every", int, 100, "[1, inf)",
         "how many batches lie between evaluations; there is one after every task, too"),
    Flag("save_path", str, "results/", "", "the folder that results go to"),
    Flag("data_path", str, "data/", "", "the folder that data_file is in"),
    Flag("data_file", str, "mnist_permutations.pt", "", "what is learned: a file of tasks, or one of the names below"),
    Flag("samples_per_task", int, -1, "", "how many training examples of each task are seen; 0 or less: all"),
    Flag("shuffle_tasks", str, "no", "", "yes to have the tasks in a random order, decided by the seed", YES_OR_NO),
)  # fmt: skip
_MADE = ("rotations", "permutations", "many-permutations")
DATA_FILES = {f"mnist_{name.replace('-', '')}.pt": f"mnist-{name}" for name in _MADE}
"""The original's own files, and the benchmark that each is here while there is no such file."""
THEIR_WORDS = {"--device is cuda": "--cuda is yes", "--device cpu": "--cuda no", "--engine is torch": "--cuda is yes"}
THEIR_WORDS |= {flag.flag.replace("_", "-"): flag.flag for flag in FLAGS}
THEIR_WORDS |= {"--eval-every": "--log_every", "--hiddens": "--n_hiddens", "--layers": "--n_layers"}
THEIR_WORDS |= {"--epochs": "--n_epochs", "--out": "--save_path"}
"""Our flags, as messages name them, in the original's words."""


def read(argv: list[str]) -> Namespace:
    """The options, as the original's parser gives them; BadInput for a flag or a value that cannot be used."""
    options = _parser().parse(argv)
    if options.model not in MODELS:
        never = ", the default, which never existed" if options.model == "single" else ""
        raise BadInput(f"--model is {options.model!r}{never}; there are {', '.join(MODELS)}")
    return options


def _parser() -> Parser:
    parser = Parser(
        "main.py",
        usage="python main.py --model MODEL [flags]",
        description="Learn a stream of tasks with one of ten models, print a line with the result, and write it to\n"
        "two files: what the main.py of the MER paper's code does, with its flags and their defaults.",
        epilog="For example:\n"
        "  python main.py --data_file mnist_rotations.pt --samples_per_task 1000 --model meralg1 --lr 0.03\n"
        "      --beta 0.03 --memories 5120 --replay_batch_size 100 --batches_per_example 10\n"
        "A flag that the model has no use for is read and left alone. What differs from the original, and why:\n"
        "docs/migration.md. The same with more choices: metareplay run --help",
    )
    parser.allow_abbrev = True
    parser.add_options(FLAGS, parser.add_argument_group("flags"))
    parser.add_list("models", {name: summary(model) for name, model in MODELS.items()})
    title = "data files that need not exist, since their tasks are made from MNIST as they are needed"
    parser.add_list(title, {file: f"the benchmark {name}" for file, name in DATA_FILES.items()})
    return parser


def experiment(options: Namespace) -> Experiment:
    """The run that is asked for; BadInput for an option out of its range, if possible before data are fetched."""
    model, given = MODELS[options.model], vars(options) | {"finetune": options.finetune == "yes"}
    if options.model == "gem":
        given["memories"] = options.n_memories
    own = [parameter for parameter in hyperparameters(model) if parameter.name in given]
    settings = {parameter.name: given[parameter.name] for parameter in own}
    # Numbers of batches and of examples are read as fractions, and then cut.
    settings |= {p.name: int(given[p.name]) for p in own if p.type is int and math.isfinite(given[p.name])}
    model(**settings)
    run: dict[str, Any] = {"seed": options.seed, "epochs": options.n_epochs, "batch_size": options.batch_size}
    run |= {"device": "cuda" if options.cuda == "yes" else "cpu", "hidden": (options.n_hiddens,) * options.n_layers}
    run |= {"eval_every": options.log_every, "order": "shuffled" if options.shuffle_tasks == "yes" else "tasks"}
    run["engine"] = engines.chosen(None, run["device"], "mlp")
    stream, samples = _stream(options), options.samples_per_task
    if options.model == "gem":  # its flag is for each task
        settings["memories"] *= len(stream.tasks)
    samples = samples if any(len(task.train) > samples > 0 for task in stream.tasks) else 0
    return Experiment(stream=stream, method=model(**settings), samples_per_task=samples, **run)


def _stream(options: Namespace) -> Stream:
    path = Path(options.data_path) / options.data_file
    if path.exists():  # the original's perceptron masked no class, whichever a task shows
        return replace(task_list.read(path), scenarios=(DOMAIN,))
    if options.data_file in DATA_FILES:
        return benchmarks.benchmark(DATA_FILES[options.data_file])
    raise BadInput(
        f"there is no {path}: --data_file is a task list in --data_path, or one of {', '.join(DATA_FILES)}, which need "
        "no file; `metareplay data make --help` tells how to make one, and `python get_data.py --help` which can be had"
    )


def printed(options: Namespace) -> dict[str, Any]:
    """The options as the original showed them: the model has changed some of them by then."""
    yes = {name: getattr(options, name) == "yes" for name in ("cuda", "finetune")}
    return vars(options) | yes | {"n_layers": options.n_layers - (options.model == "taskinput")}


@contextlib.contextmanager
def their_words() -> Iterator[None]:
    """Let messages name the original's flags."""
    try:
        yield
    except (BadInput, RunFailed) as error:
        kind = BadInput if isinstance(error, BadInput) else RunFailed
        ours = rf"({'|'.join(THEIR_WORDS)})(?![a-z-])"
        raise kind(re.sub(ours, lambda words: THEIR_WORDS[words[0]], with_flags(error))) from error
