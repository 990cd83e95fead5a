"""``metareplay demo``: see a network forget, and see replay help."""

from __future__ import annotations

from metareplay.cli.arguments import Parser


def main(argv: list[str]) -> None:
    """Run the demo."""
    Parser(
        prog="metareplay demo",
        description="Two learners on ten tasks of real handwritten digits: one forgets, one replays what it has seen.\n"
        "There is nothing to download, and it takes less than a minute.",
    ).parse(argv)
    from metareplay.demo import demo

    demo()
