"""Fill the tables of Markdown pages from the tables of the figures at the scale full, and from those of benchmarks/results.

    python -m gallery.page_tables            # write them
    python -m gallery.page_tables --check    # fail if one is not current

A comment before the table says what its cells are, in YAML, and another one ends it. Each begins a line of its own:

    <!-- numbers deep: {rows: rule, columns: task, where: {quantity: accuracy}, times: 100} -->
    <!-- end -->

This is the accuracy of each rule on each task in deep.csv. The keys are the fields of `Cells`. In place of the name of a column
of the file, `columns` may be a mapping from the titles of the columns to keys that differ from the others', such as `{loss:
{where: {quantity: loss}}}`. Between `<!-- table NAME -->` and its end stands benchmarks/results/NAME.csv, whose rows are those
of the table; it begins with the command that measured its numbers, the machine and the date. Between `<!-- tasks -->` and its
end stands the table of your_task.yaml. A figure that has not been run at the scale full has no file, and its tables no row.
"""

import csv
import dataclasses
import itertools
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.drawing import names
from experiments.pipeline.command_line import parser_of
from experiments.pipeline.job import experiment_names, figures_of
from experiments.pipeline.results import FIGURES
from gallery import your_task
from gallery.significance import difference
from gallery.tables import Number, Row, find, matching, number, read_table
from gallery.wording import plus_minus
from slax_rules import RULES

MARK = re.compile(r"(?<=^<!-- numbers )(\w+): (\{.*?\})( -->\n).*?(?=^<!-- end -->$)", flags=re.DOTALL | re.MULTILINE)
MEASURED = re.compile(r"(?<=^<!-- table )(\w+)( -->\n).*?(?=^<!-- end -->$)", flags=re.DOTALL | re.MULTILINE)
TASKS_HERE = re.compile(r"(?<=^<!-- tasks -->\n).*?(?=^<!-- end -->$)", flags=re.DOTALL | re.MULTILINE)
BENCHMARKS = Path("benchmarks/results")
TITLES = {name: rule.title for name, rule in RULES.items()}
NAMES = {
    **dict.fromkeys(("rule", "gradient"), TITLES | names.LESS_MEMORY),
    **{"way": TITLES | names.WAYS, "variant": TITLES | names.FORMS | {"default": ""}},
    **{"optimizer": names.OPTIMIZERS, "training": names.TRAININGS_IN_DEPTH, "task": names.TASKS, "code": names.CODES},
    **dict.fromkeys(("rules", "feedback"), names.SETS),
    "temporal": {"bptt": "BPTT", "fixed": names.SPATIAL["fixed"], **names.TEMPORAL},
    **{"comparison": names.COMPARISONS, "spatial": names.SPATIAL},
    **{"peer": names.LIBRARIES, "library": names.LIBRARIES | {"slax_original_jax04": "slax 0.0.1"}},
}


@dataclasses.dataclass(frozen=True)
class Cells:
    """What is in the cells of a table.

    Args:
        rows: the column of the file, or several, whose values are the rows; a mapping to lists of values chooses and orders.
        where: the values that rows of the file have in other columns.
        value: the column with the number.
        minus: values of columns; the number is its difference from the one that has these, seed by seed.
        times: a factor, such as 100 for percent.
        digits: digits after the point; by default, as many as are significant beside the interval.
        join: a column; the numbers of its values, such as layers, follow each other in a cell, without intervals.
        slash: a column and two values, whose numbers are in a cell as `a / b`.
    """

    rows: str | list[str] | dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    where: dict[str, Any] = dataclasses.field(default_factory=dict)
    value: str = "mean"
    minus: dict[str, Any] = dataclasses.field(default_factory=dict)
    times: float = 1.0
    digits: int | None = None
    join: str = ""
    slash: dict[str, list[Any]] = dataclasses.field(default_factory=dict)

    def text(self, table: Sequence[Row], where: dict[str, Any]) -> str:
        """The cell at values of columns, empty if the table has nothing there."""
        where = self.where | where
        for column, values in self.slash.items():
            parts = [dataclasses.replace(self, slash={}).text(table, where | {column: value}) for value in values]
            return " / ".join(part or "-" for part in parts) if any(parts) else ""
        if self.join:
            numbers = [one.value for row in matching(table, where) if (one := number(row, self.value))]
            digits = 2 if self.digits is None else self.digits
            return " ".join(plus_minus(Number(one, one, one), self.times, digits) for one in numbers)
        place = where | {"column": self.value}
        ours, _ = find(place, {"": table})
        if ours and self.minus:
            other, lacking = find(place | self.minus, {"": table}, strict=True)
            apart = difference(ours, other) if other else None
            if apart is None:
                raise ValueError(f"`minus` has no difference at {place | self.minus}: {lacking}")
            ours = Number(apart.mean, *apart.interval)
        return plus_minus(ours, self.times, self.digits) if ours else ""


def name_of(column: str, value: Any) -> str:
    """The name of a value for readers, empty where it says nothing beside another one."""
    return str(NAMES.get(column, {}).get(value, value))


def in_order(column: str, table: Iterable[Row]) -> list[str]:
    """The values of a column, known names in their order first, and without empty ones."""
    values = dict.fromkeys(row[column] for row in table if row[column])
    known = [name for name in NAMES.get(column, {}) if name in values]
    return [*known, *(value for value in values if value not in known)]


def lines_of(table: Sequence[Row], columns: str | dict[str, dict[str, Any]], **keys: Any) -> list[list[str]]:
    """The titles of the columns, and the rows with their names."""
    base = Cells(**keys)
    chosen = [base.rows] if isinstance(base.rows, str) else base.rows
    rows: Mapping[str, list[Any] | None] = chosen if isinstance(chosen, dict) else dict.fromkeys(chosen)
    shown = matching(table, base.where)
    if isinstance(columns, str):
        columns = {name_of(columns, value) or value: {"where": {columns: value}} for value in in_order(columns, shown)}
    cells = [Cells(**(keys | more | {"where": base.where | more.get("where", {})})) for more in columns.values()]
    lines = [["", *columns]]
    for column, wanted in rows.items():
        missing = {str(value) for value in wanted or ()} - {row[column] for row in table}
        if table and missing:  # a table without rows has not been run
            raise ValueError(f"The file of a table lacks the {column} {', '.join(sorted(missing))}.")
    for some in itertools.product(*(wanted or in_order(column, table) for column, wanted in rows.items())):
        values = dict(zip(rows, some, strict=True))
        texts = [one.text(table, values) for one in cells]
        if any(texts):
            named = ", ".join(filter(None, (name_of(*item) for item in values.items())))
            lines.append([named or ", ".join(some), *texts])
    return lines


def filled(table: Sequence[Row], **keys: Any) -> str:
    """A table in Markdown."""
    titles, *rows = lines_of(table, **keys)
    return in_markdown([titles, ["---"] * len(titles), *rows])


def in_markdown(lines: Iterable[Sequence[str]]) -> str:
    return "".join("".join(f"| {cell} " if cell else "| " for cell in line) + "|\n" for line in lines)


def measured(name: str) -> str:
    """A table of a benchmark; a column whose first cell begins with a digit stands at the right."""
    lines = (BENCHMARKS / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    header, *rows = csv.reader(line for line in lines if not line.startswith("#"))
    return in_markdown([header, ["--:" if cell[:1].isdigit() else "---" for cell in rows[0]], *rows])


def rows_of(stem: str, figures: Path) -> list[Row]:
    """The rows of a figure's table, none if it has not been run."""
    path = figures / f"{stem}.csv"
    if not path.exists() and not any(stem in figures_of(experiment) for experiment in experiment_names()):
        raise ValueError(f"There is no figure {stem}.")
    return read_table(path) if path.exists() else []


def page(text: str, figures: Path) -> str:
    """The page with its tables filled."""

    def fill(mark: re.Match[str]) -> str:
        return f"{mark[1]}: {mark[2]}{mark[3]}" + filled(rows_of(mark[1], figures), **yaml.safe_load(mark[2]))

    def tasks(_: re.Match[str]) -> str:
        return in_markdown(your_task.lines(lambda stem: rows_of(stem, figures)))

    if not text.count("<!-- numbers") == len(MARK.findall(text)) <= text.count("<!-- end -->"):
        raise ValueError('A mark has no end, or is not written as "<!-- numbers NAME: {...} -->" on lines of its own.')
    return TASKS_HERE.sub(tasks, MEASURED.sub(lambda mark: mark[1] + mark[2] + measured(mark[1]), MARK.sub(fill, text)))


def main() -> None:
    parser = parser_of("python -m gallery.page_tables", __doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a table is not current")
    options = parser.parse_args()
    pages = subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout.split()
    for path in map(Path, pages):
        text = path.read_text(encoding="utf-8")
        try:
            new = page(text, FIGURES / "full")
        except ValueError as error:
            raise SystemExit(f"{path}: {error}") from None
        if new == text:
            continue
        if options.check:
            raise SystemExit(f"{path}: its tables are not current. Write them: `make claims`.")
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
