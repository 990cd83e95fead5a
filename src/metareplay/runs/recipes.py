"""Recipes: which hyper-parameters to use for a benchmark, a method and a number of memories."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

Entry = dict[str, Any]


def settings(benchmark: str, method: str, memories: int | None = None) -> tuple[Entry, str | None]:
    """The hyper-parameters to use unless the user gives others, and a sentence for the user where no recipe fits.

    ``memories`` is how many examples the method may keep, over all tasks together; None for the most that a recipe has.
    It is among the settings, where it was asked for; what is left out is the method's default.
    """
    asked = {} if memories is None else {"memories": memories}
    entry = _nearest(benchmark, method, memories)
    if entry is None:
        return asked, f"There are no settings for {method} on {benchmark}: the method's defaults are used."
    note = None
    if memories is not None and entry.get("memories", memories) != memories:
        note = (
            f"There are no settings for {method} on {benchmark} with {memories} memories: "
            f"those for {entry['memories']} memories are used."
        )
    return {name: value for name, value in (entry | asked).items() if name != "published"}, note


def published(benchmark: str, method: str, name: str, memories: int | None = None) -> str | None:
    """Say in one sentence which value of a hyper-parameter was published, for the end of an error message."""
    entry = _nearest(benchmark, method, memories)
    if entry is None or name not in entry or not entry.get("published", True):
        return None
    with_memories = f" with {entry['memories']} memories" if "memories" in entry and name != "memories" else ""
    return f"The published value for {benchmark}{with_memories} is {entry[name]}."


def entries(benchmark: str, method: str) -> list[Entry]:
    """All of ``recipes.toml`` for a benchmark and a method: one entry for each number of memories."""
    return _recipes().get(benchmark, {}).get(method, [])


def _nearest(benchmark: str, method: str, memories: int | None) -> Entry | None:
    """The entry with the number of memories nearest to what is asked; of two as near, that with more."""

    def distance(entry: Entry) -> tuple[int, int]:
        has = entry.get("memories", 0)
        return 0 if memories is None else abs(has - memories), -has

    return min(entries(benchmark, method), key=distance, default=None)


@cache
def _recipes() -> dict[str, dict[str, list[Entry]]]:
    return tomllib.loads((files("metareplay.runs") / "recipes.toml").read_text(encoding="utf-8"))
