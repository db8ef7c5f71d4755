"""The tables of the figures: the row that a claim is about, and a number in it with its interval and its samples."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, str]

# Rows that differ in one of these columns come from other data or another network: their samples do not belong together.
SETTING = ("task", "code", "depth", "layers", "n_steps", "n", "batch", "dtype", "steps", "inputs")


class Number(NamedTuple):
    """A mean, the ends of its interval, and the samples that it is the mean of.

    Without an interval, both ends equal the mean. A number without samples is exact, for example a count. A sample is None if
    it is missing. `unit` is what a sample is of, a seed, a round or what the column `unit` says; `setting` is what samples have
    in common that belong together. `is_geometric`: the mean is the geometric one, and samples are compared by their logarithms.
    `tests` are the means over seeds for each sample of the test set, if they have one in common.
    """

    value: float
    low: float
    high: float
    samples: tuple[float | None, ...] = ()
    unit: str = "seed"
    setting: tuple[str | None, ...] = ()
    is_geometric: bool = False
    tests: tuple[float, ...] = ()

    def changed(self, times: float, plus: float) -> "Number":
        """The number times a positive factor, plus a number, and its interval and samples likewise."""
        value, low, high = (times * one + plus for one in self[:3])
        samples = tuple(None if one is None else times * one + plus for one in self.samples)
        tests = tuple(times * one + plus for one in self.tests)
        return self._replace(value=value, low=low, high=high, samples=samples, tests=tests)

    def is_paired_with(self, other: "Number") -> bool:
        """True if the samples at the same place belong together: of the same seed or round, with the same setting."""
        return (self.unit, self.setting, len(self.samples)) == (other.unit, other.setting, len(other.samples))


def read_table(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_tables(paths: Iterable[Path]) -> dict[str, list[Row]]:
    """The tables among the files of figures, by stem."""
    return {path.stem: read_table(path) for path in sorted(paths) if path.suffix == ".csv"}


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

    Its interval is in the columns `<column>_low` and `<column>_high`, and its samples are in `<column>_values`; for the column
    `mean` they are in `low`, `high` and `values`. If `<column>_mean` is "geometric", it is a geometric mean. Sums over the
    seeds for each sample of a test set that they have in common are in `<column>_tests` or `tests`.

    Raises:
        ValueError: there is no such column, or no number in it; or there is an interval without samples.
    """
    if column not in row:
        raise ValueError(f"has no column {column}, it has {', '.join(row)}")
    prefix = "" if column == "mean" else f"{column}_"
    value, low, high = (_as_number(row.get(name, ""), name) for name in (column, f"{prefix}low", f"{prefix}high"))
    if value is None:
        return None
    listed = row.get(f"{prefix}values", "").split()
    samples = tuple(None if text == "None" else _as_number(text, f"{prefix}values") for text in listed)
    if low is None or high is None:
        low = high = value
    elif not samples:
        raise ValueError(f"has an interval of {column}, but no samples in {prefix}values: `summary` writes both")
    unit = row.get("unit") or ("round" if row.get("rounds") else "seed")
    setting = tuple(row.get(name) for name in SETTING)
    tests = tuple(float(text) / len(samples) for text in row.get(f"{prefix}tests", "").split())
    return Number(value, low, high, samples, unit, setting, row.get(f"{prefix}mean") == "geometric", tests)


def spelled(place: dict[str, Any], table: str) -> tuple[str, str, dict[str, Any]]:
    """The table, the column and the values of columns of a place: by default the column `mean` of the given table."""
    where = {name: wanted for name, wanted in place.items() if name not in ("table", "column")}
    return place.get("table", table), place.get("column", "mean"), where


def find(
    place: dict[str, Any], tables: Mapping[str, Sequence[Row]], table: str = "", *, strict: bool = False
) -> tuple[Number | None, str]:
    """The number at a place, or None and the reason why there is none.

    Args:
        place: values of columns, and perhaps a `table` and a `column`.
        tables: the rows of the figures that are there, by stem.
        table: in which it is unless the place names another one.
        strict: a row that is missing is a mistake.

    Raises:
        ValueError: the place is not one row, or not in a table as it is.
    """
    stem, column, where = spelled(place, table)
    if stem not in tables:
        return None, f"there is no {stem}.csv"
    try:
        rows = matching(tables[stem], where)
        if len(rows) > 1 or (strict and not rows):
            raise ValueError(f"has {len(rows)} rows where {where}, expected one")
        value = number(rows[0], column) if rows else None
    except ValueError as error:
        raise ValueError(f"{stem}.csv {error}.") from None
    if value is None:
        return None, f"{stem}.csv has no number there" if rows else "is left out at this scale"
    return value._replace(setting=(stem, *value.setting)), ""


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
