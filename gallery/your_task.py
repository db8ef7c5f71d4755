"""The table of docs/your_task.md: what each rule reached on each of our tasks, in which time and memory, by your_task.yaml."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.drawing.names import WAYS
from experiments.pipeline.config import read_yaml
from gallery.tables import Number, Row, find
from gallery.wording import plus_minus
from slax_rules import RULES

DATA = Path(__file__).with_suffix(".yaml")
PARTS: dict[str, Callable[[Number], str]] = {
    "reached": plus_minus,
    "milliseconds": lambda number: f"{number.value:.3g} ms",
    "bytes": lambda number: f"{number.value / 1e3:.3g} kB",
}


def number_of(
    place: dict[str, Any], rule: str, rules: Sequence[str], tables: Mapping[str, Sequence[Row]]
) -> Number | None:
    """The number of a rule, times the factor of the place: the first that is there, where the place lists several values."""
    own = place.get(rule, {place.get("by", "rule"): rule})
    where = {key: value for key, value in place.items() if key not in ("times", "by", *rules)} | own
    lists = [value if isinstance(value, list) else [value] for value in where.values()]
    found = (find(dict(zip(where, some, strict=True)), tables)[0] for some in itertools.product(*lists))
    number = next((one for one in found if one), None)
    return number and number.changed(place.get("times", 1), 0)


def cell(task: dict[str, Any], rule: str, rules: Sequence[str], tables: Mapping[str, Sequence[Row]]) -> str:
    """What a rule reached, its milliseconds and its kilobytes, each on a line of its own if it was measured."""
    found = {of: number_of(task[of], rule, rules, tables) for of in PARTS if of in task}
    return "<br>".join(PARTS[of](one) for of, one in found.items() if one)


def lines(rows_of: Callable[[str], list[Row]], path: Path = DATA) -> list[list[str]]:
    """The header and the rows of the table, from the rows of a figure's table by its stem.

    Raises:
        ValueError: a figure has rows, but no number of any rule at the places of a task.
    """
    content = read_yaml(path)
    rules, titles = content["rules"], {name: rule.title for name, rule in RULES.items()} | WAYS | {"tbptt": "TBPTT"}
    places = [task[of] for task in content["tasks"] for of in PARTS if of in task]
    tables = {stem: rows_of(stem) for stem in {place["table"] for place in places}}
    found = [["yours if", "our task", *(titles[rule] for rule in rules)], ["---"] * (2 + len(rules))]
    for task in content["tasks"]:
        cells = [cell(task, rule, rules, tables) for rule in rules]
        if not any(cells):
            if tables[task["reached"]["table"]]:
                raise ValueError(f"{path.name}: there is no number of {task['task']}.")
            cells[0] = "not run yet"
        found.append([task["yours_if"], task["task"], *cells])
    return found
