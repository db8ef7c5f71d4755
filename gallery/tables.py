"""The tables of the figures: the row that a claim is about, and a number in it with its interval."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, str]


class Number(NamedTuple):
    """A mean and the ends of its interval; without an interval, both ends equal the mean.

    `unknown` says why there is no interval where one is expected; an exact number needs none.
    """

    value: float
    low: float
    high: float
    unknown: str = ""

    @property
    def has_interval(self) -> bool:
        return self.low < self.high


def read_table(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def matching(rows: Sequence[Row], where: dict[str, Any]) -> list[Row]:
    """The rows whose cells match `where`: numbers are compared as numbers, the rest as text, and None is an empty cell.

    Raises:
        ValueError: a name in `where` is not a column of the table.
    """
    columns = list(rows[0]) if rows else []
    unknown = [name for name in where if name not in columns]
    if rows and unknown:
        raise ValueError(f"has no column {', '.join(unknown)}, it has {', '.join(columns)}")
    return [row for row in rows if all(_same(row[name], wanted) for name, wanted in where.items())]


def number(row: Row, column: str) -> Number | None:
    """The number of a column, None for an empty cell.

    Its interval is in the columns `<column>_low` and `<column>_high`, or `low` and `high` for the column `mean`. Where they
    are empty, the interval is unknown; a number without such columns is exact.

    Raises:
        ValueError: there is no such column, or no number in it.
    """
    if column not in row:
        raise ValueError(f"has no column {column}, it has {', '.join(row)}")
    value = _as_number(row[column], column)
    if value is None:
        return None
    names = ("low", "high") if column == "mean" else (f"{column}_low", f"{column}_high")
    low, high = (_as_number(row.get(name, ""), name) for name in names)
    if low is None or high is None:
        return Number(value, value, value, _without_interval(row) if set(names) & row.keys() else "")
    return Number(value, low, high)


def _without_interval(row: Row) -> str:
    """The reason why a mean has no interval, as far as the row shows."""
    of_one = [f": one {name.removesuffix('s')}" for name in ("seeds", "rounds") if row.get(name) == "1"]
    return "no interval" + "".join(of_one)


def _same(cell: str, wanted: Any) -> bool:
    text = "" if wanted is None else str(wanted)
    try:
        return float(cell) == float(text)
    except ValueError:
        return cell == text


def _as_number(cell: str, column: str) -> float | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        raise ValueError(f"has {cell!r} in the column {column}, expected a number") from None
