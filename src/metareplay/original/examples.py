"""The original's ``mer_examples.sh``: the 57 runs of the MER paper, one after another."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from metareplay.cli import program
from metareplay.cli.arguments import Parser
from metareplay.errors import BadInput, RunFailed, with_flags
from metareplay.original.arguments import DATA_FILES, MODELS, experiment, read
from metareplay.original.main import learn, written
from metareplay.runs import display, recipes
from metareplay.streams.catalogue import BENCHMARKS

NAME = "mer_examples.sh"
note = partial(display.note, program=NAME)


def _examples(argv: list[str]) -> None:
    """Carry out the 57 runs of the MER paper, each with this seed, as main.py would one after another.

    Started again, it goes on where it was stopped and skips what is done: results/runs/ has a folder for each,
    named after the hash of all that decides the run.
    """
    epilog = "Many seeds, on all processors or a cluster: metareplay suite --help"
    parser = Parser(NAME, _examples, usage="./mer_examples.sh SEED [--dry-run]", epilog=epilog)
    parser.add_argument("seed", metavar="SEED", help="decides examples, their order, initial weights and replay")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands, on standard output")
    given = parser.parse(argv)
    if not given.seed.isdecimal():
        raise BadInput(f"SEED is {given.seed!r}, but must be a whole number of at least 0: ./mer_examples.sh 0")
    wanted = list(runs(int(given.seed)))
    if given.dry_run:
        print("\n".join(map(command_line, wanted)))
    else:
        carry_out(wanted)


def runs(seed: int) -> Iterator[list[str]]:
    """The flags of ``main.py`` for each run: model by model, most memories first, stream by stream."""
    same = {"n_layers": 2, "n_hiddens": 100, "data_path": "data/", "save_path": "results/", "batch_size": 1}
    same |= {"log_every": 100}
    for model in MODELS:
        found = [(dict(one), file) for file, name in DATA_FILES.items() for one in recipes.entries(name, model)]
        published = [(settings, file) for settings, file in found if settings.get("published", True)]
        for settings, file in sorted(published, key=lambda entry: -entry[0].get("memories", 0)):
            benchmark = BENCHMARKS[DATA_FILES[file]]
            if model == "gem":  # its flag is for each task
                settings["n_memories"] = settings.pop("memories") // benchmark.tasks
            own = {"samples_per_task": benchmark.samples_per_task, "data_file": file, "cuda": "no", "seed": seed}
            given = same | own | {"model": model} | settings
            yield [word for name, value in given.items() for word in (f"--{name}", str(value))]


def command_line(flags: list[str]) -> str:
    """What one would type for a run."""
    return f"python main.py {shlex.join(flags)}"


def carry_out(wanted: Sequence[list[str]]) -> None:
    """Carry out runs in turn, but for those whose key is among the ones done; RunFailed at the first that fails."""
    for number, flags in enumerate(wanted, 1):
        which = f"run {number} of {len(wanted)}"
        note(f"{which}: {command_line(flags)}")
        try:
            options = read(flags)
            if there := written(options.save_path, experiment(options).key):
                note(f"{which} is there already: {there}")
            else:
                learn(options)
        except (BadInput, RunFailed) as error:
            what = f"{which} failed, so this stops; started again, it skips what is done"
            raise RunFailed(f"{what}: {with_flags(error)}") from error


main = program(_examples, NAME)

if __name__ == "__main__":
    sys.exit(main())
