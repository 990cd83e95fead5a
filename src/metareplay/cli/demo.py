"""``metareplay demo``: see a network forget, and see replay help."""

from __future__ import annotations

from pathlib import Path

from metareplay.cli.arguments import Parser


def main(argv: list[str]) -> None:
    """Run the demo."""
    parser = Parser(
        prog="metareplay demo",
        description="Two learners on ten tasks of real handwritten digits: one forgets, one replays what it has seen.\n"
        "There is nothing to download, and it takes less than a minute.",
    )
    parser.add_argument("--out", metavar="DIR", default="runs/demo", help="where it is kept (default: runs/demo)")
    given = parser.parse(argv)
    from metareplay.cli.demonstration import demo

    demo(Path(given.out))
