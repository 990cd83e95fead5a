"""The page in a real browser: everything is drawn, nothing is fetched, filters and copying work, no name breaks it."""

import contextlib
import itertools
import re
import shutil
from pathlib import Path

import pytest

from made_records import record, results, study, untested

pytest.importorskip("vl_convert", reason="the extra report is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")


from metareplay.results import tables
from metareplay.results.figures import FIGURES
from metareplay.results.page import page
from metareplay.runs.folder import Status

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian: apt-get install chromium)"),
    pytest.mark.slow,
]
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
NASTY = r"""my_100%&$#{}~^\file.py:<script>document.title="broken"</script></script><!--'|[0]"""
DRAWN = """[...document.querySelectorAll('.panel')].every((panel) => panel.offsetParent === null ||
  panel.dataset.state === 'empty' || panel.querySelector('svg'))"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@contextlib.contextmanager
def opener(browser, folder):
    """Opens reports of records; at the end nothing may have been fetched, and nothing complained of."""
    contexts, told, fetched = [], [], []

    def opened(records, absent=(), **options):
        file = folder / f"report-{len(contexts)}.html"
        file.write_text(page(results(records, absent, "runs")), encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        shown = context.new_page()
        shown.on("console", lambda message: told.append(message.text))
        shown.on("pageerror", lambda error: told.append(str(error)))
        shown.on("request", lambda request: fetched.append(request.url))
        shown.goto(file.as_uri())
        draw_all(shown)
        return shown

    yield opened
    for context in contexts:
        context.close()
    assert told == []
    assert {url.split(":")[0] for url in fetched} <= {"file", "data"}
    assert len([url for url in fetched if url.startswith("file")]) == len(contexts)


@pytest.fixture
def open_page(browser, tmp_path):
    with opener(browser, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def shown(browser, tmp_path_factory):
    with opener(browser, tmp_path_factory.mktemp("shown")) as opened:
        yield opened(study())


def draw_all(shown):
    """Have drawn what is far from the window too, as for printing."""
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown.wait_for_function(DRAWN, timeout=60_000)


def marks(shown, figure):
    selector = ".mark-symbol path, .mark-rect path, .mark-line path"
    return shown.evaluate(
        f"""[...document.querySelectorAll('#{figure} .panel:not([hidden])')].flatMap((panel) =>
          [...panel.querySelectorAll({selector!r})].filter((mark) => mark.getAttribute('d')?.length > 3)).length"""
    )


def rows(shown, table):
    return shown.evaluate(
        f"""[...document.querySelectorAll('#{table} tbody tr')].filter((row) => row.offsetParent).map((row) =>
          [...row.cells].filter((cell) => !cell.hidden).map((cell) => cell.textContent.trim()))"""
    )


def test_every_figure_is_drawn_and_described_and_the_tables_have_their_numbers(shown):
    for index in (0, 1):
        for figure in FIGURES:
            name = f"figure-{index}-{figure.id}"
            assert marks(shown, name) >= 4, name
            for panel in shown.locator(f"#{name} .panel").all():
                assert panel.get_attribute("data-state") == "drawn"
                assert figure.title in panel.locator(".view").get_attribute("aria-label")
    label = shown.locator("#figure-0-retained .view").first.get_attribute("aria-label")
    (value,) = re.findall(r"meralg1 ([\d.]+) %", label)
    assert rows(shown, "answer-0-50")[0][2].startswith(value)
    made = results(study())
    assert rows(shown, "answer-0-50") == texts(tables.answers(made)["little"][0].table)
    assert rows(shown, "paper-table") == texts(tables.paper(made))


def texts(table):
    return [["–" if cell is None else str(cell) for cell in row.cells] for row in table.rows]


def test_a_figures_data_are_there_as_a_table(shown):
    figure = shown.locator("#figure-0-average")
    figure.locator("summary").press("Enter")
    figure.locator("table").wait_for()
    head = figure.locator("thead th").all_inner_texts()
    assert head == ["method", "batches learned", "mean, %", "interval from", "to", "seeds"]
    body = figure.locator("tbody tr").all_inner_texts()
    assert len(body) == 6 * 4
    assert figure.locator("tbody th").first.get_attribute("scope") == "row"
    shown.locator("#figure-0-matrix summary").click()
    assert shown.locator("#figure-0-matrix tbody tr").count() == 6 * 16


def test_filters_choose_benchmark_memory_and_methods(open_page):
    shown = open_page(study())
    status = shown.locator("#shown")
    assert status.inner_text() == "All 12 configurations are shown."
    shown.select_option("[name=problem]", "little-turned")
    draw_all(shown)
    assert status.inner_text() == "6 of 12 configurations are shown."
    assert not shown.locator("#answer-0-50").is_visible()
    assert shown.locator("#figure-1-average").is_visible()
    assert not shown.locator("#figure-0-average").is_visible()
    assert shown.locator("#paper-table thead tr").last.locator("th:visible").count() == 4
    shown.select_option("[name=size]", "20")
    draw_all(shown)
    assert status.inner_text() == "4 of 12 configurations are shown."
    assert shown.locator("#figure-1-average .panel:visible").count() == 1
    assert shown.locator("#figure-1-matrix .panel:visible").count() == 4
    assert [row[0] for row in rows(shown, "paper-table")] == [
        "ewc", "online", "eralg4, 20 memories", "meralg1, 20 memories",
    ]  # fmt: skip
    before = marks(shown, "figure-1-average")
    shown.get_by_role("checkbox", name="eralg4").uncheck()
    draw_all(shown)
    assert status.inner_text() == "3 of 12 configurations are shown."
    assert 0 < marks(shown, "figure-1-average") < before
    legend = shown.locator("#figure-1-average .panel:not([hidden]) .role-legend-label text").all_text_contents()
    assert sorted(legend) == ["ewc", "meralg1", "online"]
    shown.get_by_role("button", name="none").click()
    draw_all(shown)
    assert status.inner_text() == "0 of 12 configurations are shown."
    assert shown.locator("#figure-1-average .panel:visible .nothing").is_visible()
    shown.get_by_role("button", name="all", exact=True).click()
    draw_all(shown)
    assert marks(shown, "figure-1-average") == before


def test_values_are_shown_on_hover(open_page):
    shown = open_page([*study(), record(NASTY, 0, level=0.95)])
    shown.locator("#figure-0-retained").scroll_into_view_if_needed()
    box = shown.locator("#figure-0-retained .panel").first.locator(".mark-symbol path").first.bounding_box()
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.mouse.move(box["x"] + box["width"] / 2 + 1, box["y"] + box["height"] / 2)
    tip = shown.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    told = tip.inner_text()
    assert NASTY in told
    assert rows(shown, "answer-0-50")[0][2] in told
    shown.mouse.move(1, 1)
    tip.wait_for(state="hidden")


def test_a_method_chosen_in_a_legend_stands_out(open_page):
    shown = open_page(study())
    figure = shown.locator("#figure-0-average .panel").first
    figure.scroll_into_view_if_needed()
    before = figure.locator(".mark-line path").evaluate_all("lines => lines.map((l) => l.getAttribute('opacity'))")
    assert set(before) == {"1"}
    figure.locator(".role-legend-label text", has_text="ewc").click()
    after = figure.locator(".mark-line path").evaluate_all("lines => lines.map((l) => l.getAttribute('opacity'))")
    assert sorted(after, key=float)[-2:] == ["0.125", "1"]


def test_tables_are_copied_as_csv_and_latex(open_page):
    records = [*study(), *(record(NASTY, seed, level=0.9) for seed in range(3))]
    shown = open_page(records, permissions=["clipboard-read", "clipboard-write"])
    table = tables.paper(results(records))
    paper = shown.locator("#paper-table")
    for kind, expected in (("LaTeX", table.latex()), ("CSV", table.csv())):
        paper.get_by_role("button", name=kind).click()
        shown.locator("#copied", has_text=kind).wait_for(state="attached")
        assert shown.evaluate("navigator.clipboard.readText()") == expected


def test_it_has_the_structure_that_screen_readers_want(shown):
    assert shown.evaluate("document.documentElement.lang") == "en"
    for landmark in ("header", "main", "nav", "[role=search]"):
        assert shown.locator(landmark).count() == 1
    levels = shown.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5')].map((title) => Number(title.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert shown.locator("thead th:not([scope])").count() == 0
    assert shown.locator("tbody th:not([scope=row])").count() == 0
    assert shown.locator("main table:not(:has(caption))").count() == 0
    assert shown.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id).length") == shown.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size"
    )
    named = "aria-labelledby", "aria-describedby"
    for attribute in named:
        assert shown.evaluate(
            f"""[...document.querySelectorAll('[{attribute}]')].every((element) =>
              document.getElementById(element.getAttribute('{attribute}')))"""
        )
    assert shown.locator("figure:not([aria-labelledby])").count() == 0
    assert shown.locator("#shown").get_attribute("aria-live") == "polite"


def test_it_can_be_used_with_the_keyboard_alone(open_page):
    shown = open_page(study())
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.textContent") == "Skip to the answer"
    reached = set()
    for _ in range(40):
        shown.keyboard.press("Tab")
        reached.add(shown.evaluate("document.activeElement.name || document.activeElement.dataset.copy || ''"))
        outline = shown.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
    assert {"problem", "size", "method", "every", "none", "csv", "latex"} <= reached


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_it_fits_phone_and_desk_and_is_readable_in_both_schemes(open_page, width, scheme):
    shown = open_page(study(), viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    for figure in ("average", "time"):
        place = shown.locator(f"#figure-0-{figure} .panel").first
        assert place.bounding_box()["width"] > (300 if width == 360 else 550)
        assert place.locator("svg").bounding_box()["width"] >= place.bounding_box()["width"] - 4
        assert place.locator("svg").bounding_box()["height"] >= place.locator(".view").bounding_box()["height"] - 2
    ink, paper = shown.evaluate(
        "[getComputedStyle(document.documentElement).color, getComputedStyle(document.documentElement).backgroundColor]"
    )
    dark = [sum(map(int, re.findall(r"\d+", colour)[:3])) < 384 for colour in (ink, paper)]
    assert dark == ([True, False] if scheme == "light" else [False, True])
    tick = "getComputedStyle(document.querySelector('#figure-0-average .role-axis-label text')).fill"
    assert shown.evaluate(tick) == ink


def test_it_prints_light_and_whole_even_from_the_dark_scheme(open_page):
    shown = open_page(study(), color_scheme="dark")
    assert shown.pdf(format="A4").startswith(b"%PDF")
    shown.emulate_media(media="print")
    label = "document.querySelector('#figure-0-average .role-axis-label text')"
    colours = shown.evaluate(f"[document.documentElement, {label}].map((e) => getComputedStyle(e).color)")
    assert colours == ["rgb(0, 0, 0)"] * 2
    assert not shown.locator("#filters").is_visible()
    assert shown.locator("#figure-1-matrix svg").first.is_visible()


def test_printed_at_once_every_figure_is_there(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(results(study())), encoding="utf-8")
    shown = browser.new_page(viewport={"width": 1280, "height": 900})
    shown.goto(file.as_uri())
    drawn = shown.evaluate(  # in the first task after the event, which is before the browser prints
        f"""new Promise((done) => {{
          const channel = new MessageChannel();
          channel.port1.onmessage = () => done({DRAWN});
          dispatchEvent(new Event('beforeprint'));
          channel.port2.postMessage(0);
        }})"""
    )
    shown.close()
    assert drawn


@pytest.mark.parametrize(
    "records",
    [
        [record()],
        [record("a", tasks=1)],
        [record("a", 0), record("a", 1), record("b", 0), record("c", 7)],
        [record("a", seed, tasks=tasks) for seed, tasks in ((0, 2), (1, 3), (2, 3))],
        [record("a", seed, inside=3) for seed in range(2)],
        [record("a", seed, memories=memories) for seed in range(2) for memories in (0, 10)],
        [record("a", lr=lr, hyperparameters={"lr": lr}) for lr in (0.1, 0.2, 0.3)],
        [record("a"), untested("a"), untested("b")],
    ],
    ids=[
        "one run", "one task", "missing seeds", "mixed task counts of one benchmark",
        "evaluated inside tasks", "no memories and some", "a grid of settings", "never tested",
    ],
)  # fmt: skip
def test_odd_data_make_a_page(open_page, records):
    shown = open_page(records)
    assert shown.locator("h1").count() == 1
    assert marks(shown, "figure-0-retained") > 0
    assert shown.locator("text=NaN").count() == 0
    said = shown.locator(":is(.note, .answer) >> text=undefined").count()
    assert shown.locator("text=undefined >> visible=true").count() == said


def test_runs_that_failed_are_told_at_the_top_and_listed(open_page):
    gem = record("gem", 2).configuration
    absent = (Status(Path("0123"), "failed", f"the loss is not finite {NASTY}", None, gem),)
    shown = open_page([record("a", 0), record("a", 1), record("b", 0)], absent)
    warning = shown.locator(".warning").first.inner_text()
    assert "1 run has no result; 1 configuration lacks seeds that others have" in warning
    found = rows(shown, "missing-table")
    assert found[0][:2] == ["little, gem, seed 2", "failed"]
    assert NASTY in found[0][2]
    assert found[1][:2] == ["little, b", "seeds missing"]


def test_a_name_is_never_taken_for_code(open_page):
    records = [record(NASTY, seed, benchmark=NASTY, hyperparameters={"lr": NASTY, "memories": 5}) for seed in range(2)]
    shown = open_page([*records, record(f"{NASTY}2", benchmark=NASTY, memories=5, data_sha256=NASTY)])
    assert shown.title() == "Runs in runs · metareplay"
    assert NASTY in shown.locator("#answer-0").inner_text()
    assert rows(shown, "answer-0-5")[0][0].startswith(NASTY[:20])
    shown.select_option("[name=problem]", index=1)
    draw_all(shown)
    assert marks(shown, "figure-0-average") > 0
    assert shown.locator("script").count() == 4


def test_a_page_stays_under_its_limit_by_showing_fewer_points(monkeypatch):
    records = [record(f"m{n}", 0, tasks=60, inside=1, memories=10) for n in range(60)]
    whole = len(page(results(records)).encode())
    limit = whole - 100_000
    monkeypatch.setattr("metareplay.results.page.LIMIT", limit)
    assert len(page(results(records)).encode()) < limit


def test_no_name_puts_a_character_on_the_page_that_a_terminal_obeys():
    nasty = "a\x1b]0;title\x07\n\u202e\udcff"
    shown = page(results([record(nasty, benchmark=nasty)])).partition('<script type="application/json"')[0]
    assert "x1b]0;title" in shown
    assert shown.replace("\n", "").isprintable()
