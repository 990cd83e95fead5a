"""``metareplay results``, ``compare``, ``check-against`` and ``report``: what the runs of a folder say."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metareplay.cli.arguments import Parser
from metareplay.cli.tables import check_file, console, progress, say, write
from metareplay.errors import BadInput, RunFailed
from metareplay.results import compare as comparisons
from metareplay.results import groups, require_drawing, sets, statistics, tables
from metareplay.results.compare import Pair, Section, Selection
from metareplay.results.groups import Contents
from metareplay.results.statistics import Difference
from metareplay.runs.display import note
from metareplay.runs.folder import Status
from metareplay.runs.metrics import METRICS, Undefined
from metareplay.settings import Hyperparameter

NOT_DONE = {"running": "a process is running them"} | {
    state: f"they {do} when they are started again"
    for state, do in (
        ("stopped", "go on from where they are"),
        ("failed", "are tried again"),
        ("broken", "are run again"),
    )
}
COSTS = {"gradients": "gradients", "seconds": "train_seconds"}
WHICH = (
    Hyperparameter("memories", int, None, "[0, inf)", "how many memories those compared keep", optional=True),
    Hyperparameter("metric", str, "retained_accuracy", "", "what is compared", tuple(METRICS)),
    Hyperparameter("matched", str, None, "", "what the control beside each costs as much of", tuple(COSTS), True),
)
NAMED = 10  # unfinished runs of which so many are named


def _load(folder: str) -> Contents:
    return groups.load(Path(folder), progress("runs read"))


def results(argv: list[str]) -> None:
    """List the runs there are: means over seeds with 95 % intervals, in percent, and what is not done."""
    parser = Parser("metareplay results", results)
    parser.add_argument("--out", metavar="DIR", default="runs", help="where the records are (default: runs)")
    parser.add_argument("--csv", metavar="FILE", help="write a row for each run there, as CSV; - is standard output")
    given = parser.parse(argv)
    check_file("--csv", given.csv)
    found = _load(given.out)
    if given.csv != "-":
        _show_results(found)
    if given.csv is not None:
        write("--csv", given.csv, tables.each_run(found).csv())


def _show_results(found: Contents) -> None:
    out = console()
    if there := groups.groups([*(run for group in found.groups for run in group.runs), *found.unfinished]):
        out.print(tables.listing(there).terminal("bold"))
        meanings = "; ".join(f"{METRICS[name].short}: {METRICS[name].meaning}" for name in tables.PAPER)
        interval = "; ±: the mean's 95 % interval over seeds" if any(len(one.runs) > 1 for one in there) else ""
        out.print(f"[dim]{meanings}{interval}[/]")
    for state, meaning in NOT_DONE.items():
        if those := [run for run in found.unfinished if run.state == state]:
            out.print(f"\n[bold]{len(those)} {state}: {meaning}[/]", soft_wrap=True)
        for run in those:
            say(f"  {run.name} ({run.folder}){f': {run.why}' if run.why else ''}")
    done = sum(len(group.runs) for group in found.groups)
    out.print()
    say(f"{done} of {done + len(found.unfinished)} runs in {found.source} are done")


def compare(argv: list[str]) -> None:
    """Compare methods: their means over seeds, the differences, and whether these are established."""
    epilog = "metareplay compare runs/ meralg1 eralg4 --memories 200\n"
    epilog += "metareplay compare runs/ meralg1:lr=0.03 meralg1:lr=0.1   where a method was run with several settings"
    parser = Parser("metareplay compare", compare, epilog=epilog)
    parser.add_argument("runs", metavar="DIR", help="the folder of runs")
    parser.add_argument("methods", metavar="METHOD", nargs="+", help="two methods or more, or METHOD:SETTING=VALUE,…")
    parser.add_argument("--benchmark", metavar="NAME", help="only on this benchmark (default: on each)")
    parser.add_options(WHICH, memories="each number", matched="no control")
    parser.add_argument("--csv", metavar="FILE", help="write it there as CSV, in fractions; - is standard output")
    given = parser.parse(argv)
    if len(given.methods) < 2 and not given.matched:
        parser.error("a comparison needs two methods at least")
    check_file("--csv", given.csv)
    there, selections = _load(given.runs), [Selection.read(text) for text in given.methods]
    cost = COSTS.get(given.matched)
    found = comparisons.sections(there.groups, selections, given.benchmark, given.memories, cost)
    if cost and (without := [f"{text} ({one.title})" for one in found for text in one.without_control]):
        control = "er-matched" if given.matched == "gradients" else "er-matched:seconds"
        what = f"no control within 15 % of the cost of {', '.join(without)}"
        note(f'{what}: controls = ["{control}"] in a suite makes it')
    judged = comparisons.judge((pair for section in found for _, pair in section.pairs), given.metric)
    if given.csv != "-":
        _show_comparison(found, judged, given.metric, there.unfinished)
    if given.csv is not None:
        write("--csv", given.csv, comparisons.tidy(found, judged, given.metric).csv())


def _show_comparison(
    found: Sequence[Section], judged: Mapping[Pair, Difference], metric: str, unfinished: Sequence[Status]
) -> None:
    out = console()
    for section in found:
        say(section.title, "bold")
        say(f"{METRICS[metric].meaning} (%)", "dim")
        out.print(comparisons.means(section, metric).terminal())
        out.print(comparisons.differences(section, judged, metric).terminal())
        values = [group.values(metric) for group in section.entrants.values()]
        undefined = dict.fromkeys(f"{METRICS[metric].short}: {one}" for one in values if isinstance(one, Undefined))
        for line in (*comparisons.more_seeds(section, judged, metric), *undefined, ""):
            say(line)
    lines = []
    if judged:
        number = f"the {len(judged)} differences" if len(judged) != 1 else "the one difference"
        text = "Intervals: Student's t, 95 %. Differences: paired by seed. p: exact permutation test, two-sided; "
        text += f"corrected by Holm's method for {number} above. Established: "
        lines.append(f"{text}corrected p ≤ {statistics.LEVEL}.")
    if any(not difference.established and difference.estimate.n > 1 for difference in judged.values()):
        lines.append(f"More seeds: with so many, {100 * statistics.POWER:.0f} % of simulated studies establish it.")
    if any(difference.estimate.n > statistics.EXACT for difference in judged.values()):
        lines.append(f"With more than {statistics.EXACT} seeds p is estimated from {statistics.DRAWS} draws.")
    if unfinished:
        lines.append(f"Not counted: {len(unfinished)} without a whole record")
    lines += [f"  {it.name} ({it.folder.name}): {it.state}{it.why and f', {it.why}'}" for it in unfinished[:NAMED]]
    if len(unfinished) > NAMED:
        lines.append(f"  and {len(unfinished) - NAMED} more; `metareplay results` lists all")
    for line in lines:
        say(line, wrap=True)


def check_against(argv: list[str]) -> None:
    """Say row by row whether runs of yours reproduce a result set, within what seeds make of it."""
    parser = Parser("metareplay check-against", check_against)
    parser.add_argument("set", metavar="SET", help=f"the result set: {', '.join(sets.sets())}")
    parser.add_argument("runs", metavar="RUNS", help="the folder of runs, as `metareplay suite SET` fills it")
    given = parser.parse(argv)
    rows = sets.read(given.set)
    table, differing, run = sets.check(rows, _load(given.runs).groups)
    if not run:
        how = f"`metareplay suite {given.set} --out {given.runs}` runs it"
        raise BadInput(f"{given.runs} has no run of {given.set}: {how}")
    console().print(table.terminal())
    say(f"{run - differing} of {run} rows that were run are reproduced; {len(rows) - run} were not run")
    if differing:
        raise RunFailed(f"{differing} of {run} rows of {given.set} are not reproduced here")


def report(argv: list[str]) -> None:
    """Put the runs of a folder into a page to look at, and into tables and figures for a paper."""
    usage = "metareplay report [DIR] [-o FILE] [--latex FILE] [--csv FILE] [--figures DIR]"
    epilog = "Without any flag it writes report.html: one file that needs nothing else. Mail it, print it."
    parser = Parser("metareplay report", report, usage=usage, epilog=epilog)
    parser.add_argument("runs", metavar="DIR", nargs="?", default="runs", help="the folder of runs (default: runs)")
    parser.add_argument("-o", "--output", metavar="FILE", help="the page (HTML)")
    parser.add_argument("--latex", metavar="FILE", help="methods by benchmarks, with rules of the package booktabs")
    parser.add_argument("--csv", metavar="FILE", help="a row for each configuration, with all metrics and costs")
    parser.add_argument("--figures", metavar="DIR", help="a folder for every figure as SVG and PDF")
    given = parser.parse(argv)
    if not (given.output or given.latex or given.csv or given.figures):
        given.output = "report.html"
    for flag in ("output", "latex", "csv"):
        check_file(f"--{flag}", getattr(given, flag))
    if given.figures and Path(given.figures).exists() and not Path(given.figures).is_dir():
        raise BadInput(f"--figures is {given.figures}, but that is a file: name a folder")
    if given.output or given.figures:
        require_drawing()
    found = _load(given.runs)
    if not found.groups and not found.unfinished:
        raise BadInput(f"there are no runs in {given.runs}: `metareplay run … --out {given.runs}` puts one there")
    if not found.groups:
        states = ", ".join(f"{run.folder.name} {run.state}" for run in found.unfinished[:3])
        raise BadInput(f"no run in {given.runs} is done ({states}): `metareplay results --out {given.runs}` says more")
    done = []
    if given.output:
        from metareplay.results.page import page

        write("--output", given.output, page(found, progress))
        where = Path(given.output).absolute().as_uri()
        done.append(f"the page is {given.output}; to see it, open {where} in a browser")
    if given.latex:
        write("--latex", given.latex, tables.paper(found).latex())
        done.append(f"the table for LaTeX is {given.latex}")
    if given.csv:
        write("--csv", given.csv, tables.tidy(found).csv())
        done.append(f"all numbers are in {given.csv}")
    if given.figures:
        from metareplay.results.figures import draw

        try:
            drawn = draw(found, Path(given.figures), progress("figures drawn"))
        except OSError as error:
            raise RunFailed(f"{error.filename} cannot be written: {error.strerror}") from error
        done.append(f"{len(drawn) // 2} figures, each as SVG and PDF, are in {given.figures}")
    for line in done:
        say(line)
