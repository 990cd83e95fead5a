"""``metareplay tune``: choose settings by a protocol that can be defended."""

from __future__ import annotations

import shlex
from pathlib import Path

from metareplay.cli import suite
from metareplay.cli.arguments import Parser
from metareplay.cli.tables import check_file, console, say
from metareplay.errors import plain
from metareplay.results import choices
from metareplay.runs.display import note
from metareplay.studies.file import read
from metareplay.studies.tune import tune
from metareplay.suites.plan import plan
from metareplay.suites.progress import SuiteDisplay


def main(argv: list[str]) -> None:
    """Choose settings, and write a suite of them."""
    parser = Parser(
        prog="metareplay tune",
        description="Choose settings as a study file says: trials are runs, and what comes out is a suite file.\n"
        "It goes on where it was stopped.",
    )
    parser.add_argument("file", metavar="FILE.toml", help="methods, benchmarks, the protocol and how many trials")
    text = "the suite of what was chosen (default: tuned.toml)"
    parser.add_argument("-o", "--output", metavar="FILE", default="tuned.toml", help=text)
    suite.add_flags(parser, "runs/tuning")
    given = parser.parse(argv)
    suite.check(given)
    check_file("--output", given.output)
    file = read(given.file)
    if suite.fetch([request for study in file.studies for request in study.needed], given.quiet):
        file = read(given.file)  # now with its data, which the check wants too
    for text in file.notes:
        note(text, given.quiet)
    out = Path(given.out)
    spare = [each.seconds or 1.0 for study in file.studies for each in plan([study.request], out) * study.runs]
    display = SuiteDisplay([], given.quiet, spare)
    try:
        with display:
            chosen = tune(
                file, out=out, write=given.output, jobs=given.jobs, executor=given.executor, address=given.address,
                report=display, note=display.note,
            )  # fmt: skip
    except KeyboardInterrupt:
        command = shlex.join(["metareplay", "tune", *argv])
        raise KeyboardInterrupt(f"stopped: {display.done} runs are done, in {given.out}; to go on: {command}") from None
    for choice in chosen:
        shown = choices.table(choice)
        console().print(shown.terminal())
        for line in shown.notes:
            say(line)
    print(f"the settings are in {plain(given.output)}; to report them: metareplay suite {plain(given.output)}")
