"""What both papers and their repositories publish, beside ours: replication.yaml, judged by the tables of the figures.

An item of replication.yaml has published `numbers`, which are judged by a `rule`, by their `order`, or by both;
or `claims`, our claims that test what is published in words; or `ratios` of times; or none of these, and a `standing`.
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from experiments.drawing.statistics import ANY, count, further
from experiments.pipeline.config import read_yaml
from gallery import wording
from gallery.claims import Comparison, Figure, Tables, Verdict, claims_named, compare, verdict_of
from gallery.claims_file import ClaimError, read_checked
from gallery.significance import RESOLUTION
from gallery.tables import Number, find, matching, number, spelled

DATA = Path(__file__).with_name("replication.yaml")
SCHEMA = read_yaml(DATA.with_name("replication.schema.yaml"))
Outcome = Literal["same", "in part", "different", "unresolved", "not run", "no number", "not read"]
SYMBOLS: dict[Outcome, str] = dict(zip(get_args(Outcome), "✓◐✗≈○··", strict=True))
OF_VERDICTS: dict[Verdict, Outcome] = {
    "holds": "same",
    "does not hold": "different",
    "unresolved": "unresolved",
    "not run": "not run",
}

ONE = Number(1.0, 1.0, 1.0)
FEWEST = 5  # seeds by which `further` decides: with three, its interval extends five standard deviations to each side

Entry = dict[str, Any]


def named(outcome: Outcome) -> str:
    return f"{SYMBOLS[outcome]} {outcome}"


def together(outcomes: Iterable[Outcome]) -> Outcome | None:
    """The outcome of several: what they have in common, and "in part" if only some are the same. None without any."""
    distinct = dict.fromkeys(outcomes)
    if len(distinct) > 1 and {"same", "in part"} & distinct.keys():
        return "in part"
    return next((outcome for outcome in ("different", "unresolved") if outcome in distinct), next(iter(distinct), None))


def counted(outcomes: Iterable[Outcome], unit: str) -> str:
    """How many there are of each: "5 of 6 numbers the same, 1 unresolved". `unit` says what the same is: "numbers the same"."""
    counts = Counter(outcomes)
    rest = [f"{counts[outcome]} {outcome}" for outcome in SYMBOLS if counts[outcome] and outcome != "same"]
    return ", ".join([f"{counts['same']} of {counts.total()} {unit}", *rest])


def outcome_of(ours: Number, relation: str, than: Number, tolerance: float | None = None) -> Outcome:
    """Whether a relation is true of our number as it is of the published one, by the test of a claim without a correction."""
    found = compare(Comparison(ours, relation, than, tolerance))
    return OF_VERDICTS[verdict_of([found], found.evidence)]


def compared(ours: Number, published: float, rule: str, distance: float = 0.0, runs: int = 1) -> Outcome:
    """The outcome for a published number.

    Args:
        ours: our number.
        published: the published one.
        rule: `within`, ours with its interval lies within a distance of the published number; `seeds`, that lies between our
            smallest and our largest seed; `further`, that lies in the interval in which the mean of further seeds of ours would
            be with 95 % probability, if there are at least `FEWEST` of them; `above`, ours with its interval lies above it.
        distance: for `within`.
        runs: for `further`, of how many seeds the published number is the mean.
    """
    if rule == "seeds":
        samples = [one for one in ours.samples if one is not None] or [ours.value]
        rounding = RESOLUTION * abs(published)
        return "same" if min(samples) - rounding <= published <= max(samples) + rounding else "different"
    if rule == "further":
        low, high = further(ours.samples, ANY, runs)
        if low is None or high is None or count(ours.samples) < FEWEST:
            return "unresolved"
        return "same" if low <= published <= high else "different"
    than = Number(published, published, published)
    return outcome_of(ours, "near", than, distance) if rule == "within" else outcome_of(ours, "above", than)


def ordered(one: tuple[float, Number], other: tuple[float, Number]) -> Outcome:
    """The outcome for the order of two published numbers that differ, each with ours."""
    return outcome_of(one[1], "above" if one[0] > other[0] else "below", other[1])


class Line(NamedTuple):
    """Something published beside ours.

    `cells` are what it is and what is published; `ours` is empty where there is nothing to show, and `note` says why.
    `outcomes` has one for each published number that is judged. `published` is how many numbers there are.
    """

    cells: tuple[str, ...]
    ours: str
    outcomes: tuple[Outcome, ...]
    note: str = ""
    published: int = 1

    @property
    def verdict(self) -> str:
        """In words, with the sign; where only the order of several lines is judged, that it is."""
        outcome = together(self.outcomes)
        parts = [named(outcome) if outcome else "" if self.note else "in pairs", self.note]
        parts[1:1] = [counted(self.outcomes, "the same")] if outcome == "in part" else []
        return ": ".join(filter(None, parts))


class Pair(NamedTuple):
    """The outcome for the order of two published numbers, and what the order is here."""

    outcome: Outcome
    here: str


class Item(NamedTuple):
    """A figure, a table, a cell or a statement of a paper or its repository.

    Attributes:
        about: its entry in replication.yaml.
        columns: the titles of the cells of its lines.
        lines: what is published beside ours.
        orders: the outcomes for pairs of numbers.
        factors: of ratios on the same side of 1, the published ones and ours; how far they are from 1 is not judged.
    """

    about: Entry
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    orders: tuple[Pair, ...] = ()
    factors: tuple[tuple[float, float], ...] = ()

    @property
    def outcome(self) -> Outcome:
        of_lines = [outcome for line in self.lines for outcome in line.outcomes]
        found = together([*of_lines, *(pair.outcome for pair in self.orders)])
        return found or self.about.get("standing", "not run")

    @property
    def verdict(self) -> str:
        """The outcome with its sign, and the numbers behind it."""
        outcomes, parts = [outcome for line in self.lines for outcome in line.outcomes], []
        if self.outcome != "not run" and len(outcomes) > 1:
            parts.append(counted(outcomes, self.about.get("unit", "numbers the same")))
        if self.orders:
            parts.append(f"order of {counted([one.outcome for one in self.orders], 'pairs the same')}")
        return ": ".join(filter(None, [named(self.outcome), "; ".join(parts)]))

    @property
    def sizes(self) -> list[str]:
        """The smallest and the largest of the factors, as published and ours, each of them as one that is above 1."""
        sides = ([max(one, 1 / one) for one in side] for side in zip(*self.factors, strict=True))
        return [f"{min(side):.3g} to {max(side):.3g}" for side in sides]

    @property
    def reversed(self) -> list[str]:
        """The pairs whose order here is not the published one, in words."""
        return [pair.here for pair in self.orders if pair.outcome == "different"]

    @property
    def shown(self) -> list[Line]:
        """The lines in which something of ours is."""
        return [line for line in self.lines if line.ours]

    @property
    def table(self) -> list[tuple[str, ...]]:
        """The titles of the columns, and the cells of the lines with something of ours."""
        rows = [(*line.cells, line.ours, line.verdict) for line in self.shown]
        return [(*self.columns, "ours", "verdict"), *rows] if rows else []


class Replication(NamedTuple):
    """Everything that is published. `texts` are the parts of replication.yaml that no table changes."""

    texts: Entry
    items: list[Item]

    def numbers(self, shown: bool = False, judged: bool = False) -> int:
        """How many numbers are published, or of these stand beside ours, or have a verdict of their own. Those that two items
        compare count once."""
        numbers: dict[tuple[str, ...], int] = {}
        for item in self.items:
            for line in (item.shown if shown else item.lines) if "claims" not in item.about else ():
                # The mean of several numbers is judged as a whole, and ratios one by one.
                verdicts = len(line.outcomes) if "ratios" in item.about else line.published * len(line.outcomes)
                key = (item.about["paper"], *line.cells)
                numbers[key] = max(verdicts if judged else line.published, numbers.get(key, 0))
        return sum(numbers.values())


def replication(
    figures: Sequence[Figure], tables: Tables, path: Path = DATA, *, is_complete: bool = False
) -> Replication:
    """All items of replication.yaml, judged.

    Args:
        figures: with their judged claims.
        tables: the rows of the figures that are there.
        path: the file.
        is_complete: a row that is named, and has no reason to be missing, has to be in its table.

    Raises:
        ClaimError: the file is not valid, or an item names a claim or a cell that does not exist.
    """
    content, mistakes = read_checked(path, SCHEMA), []
    items = []
    for about in content.pop("items"):
        try:
            if "claims" in about:
                items.append(_claims(about, figures))
            elif "ratios" in about:
                items.append(_ratios(about, tables))
            else:
                items.append(_numbers(about, tables, is_complete))
        except ValueError as error:
            mistakes.append(f"{path.name}: {about['id']}: {error}")
    if mistakes:
        raise ClaimError("\n".join(mistakes))
    return Replication(content, items)


def _claims(about: Entry, figures: Sequence[Figure]) -> Item:
    """The verdicts on the claims that test a statement, each with its weakest comparison."""
    lines = []
    for claim in claims_named(about["claims"], figures):
        ours = (claim.weakest and wording.difference(claim.weakest)) or wording.in_short(claim)
        more = f"; the weakest of {len(claim.comparisons)}" if ours and len(claim.comparisons) > 1 else ""
        lines.append(Line((claim.sentence,), ours + more, (OF_VERDICTS[claim.verdict],), wording.outcome(claim)))
    return Item(about, ("our claim that tests it",), tuple(lines))


def _numbers(about: Entry, tables: Tables, is_complete: bool) -> Item:
    """The published numbers beside ours, and the outcomes for their order."""
    place, found = about.get("ours"), []
    strict = is_complete and place is not None and place["table"] in tables and "reason" not in about
    for one in about.get("numbers", ()):
        ours, lacking = find(place | one.get("at", {}), tables, strict=strict) if place else (None, "")
        if strict and ours is None:
            raise ValueError(f"{one['name']}: {lacking}, and no reason is given")
        found.append((one, ours))
    orders = tuple(_orders(about, found)) if "order" in about else ()
    return Item(about, ("what", "published"), tuple(_line(about, one, ours) for one, ours in found), orders)


def _line(about: Entry, one: Entry, ours: Number | None) -> Line:
    cells, count = (one["name"], ", ".join(f"{value:,}" for value in _listed(one))), len(_listed(one))
    if ours is None:
        return Line(cells, "", ("not run",), about.get("reason", "not at this scale"), count)
    outcomes: tuple[Outcome, ...] = ()
    if rule := about.get("rule"):
        distance = one.get("distance", rule.get("distance", 0.0))
        outcomes = (compared(ours, statistics.fmean(_listed(one)), rule["by"], distance, rule.get("runs", 1)),)
    if one.get("by_construction") and set(outcomes) <= {"same"}:  # it counts if it is not what it has to be
        return Line(cells, wording.with_interval(ours), (), "by construction", count)
    return Line(cells, wording.with_interval(ours), outcomes, "", count)


def _listed(one: Entry) -> list[float]:
    """The published number, or the numbers of which the mean is compared."""
    return one["published"] if isinstance(one["published"], list) else [one["published"]]


def _orders(about: Entry, found: Sequence[tuple[Entry, Number | None]]) -> Iterator[Pair]:
    """The outcomes for the pairs of numbers that are at the same values of the columns in `order`, and differ as published.

    A number that is fixed by construction is in no pair: on which side of it another one lies is no result either.
    """
    run = [
        (one, statistics.fmean(_listed(one)), ours) for one, ours in found if ours and not one.get("by_construction")
    ]
    for first, second in itertools.combinations(run, 2):
        (one, value, ours), (other, value_there, theirs) = first, second
        apart = not math.isclose(value, value_there, rel_tol=RESOLUTION)
        if apart and all(one["at"][name] == other["at"][name] for name in about["order"]):
            low, high = sorted((first, second), key=lambda side: side[2].value)
            texts = [f"{side['name']} ({published:.4g} published)" for side, published, _ in (low, high)]
            yield Pair(ordered((value, ours), (value_there, theirs)), " lies below ".join(texts))


def _ratios(about: Entry, tables: Tables) -> Item:
    """The published ratios of times beside ours, with a line for each library and number of units.

    Seconds on a GPU and on a CPU cannot be compared. Which of two libraries is the faster one on a device can, so each
    published ratio is judged by its side of 1. Of two kinds of inputs, the one that comes first in the table counts.
    """
    (table, _, where), devices, lines, factors = spelled(about["ratios"], ""), about["devices"], {}, []
    for row in matching(tables.get(table, []), where):
        published = [float(row[device]) for device in devices if row[device]]
        ours, key = number(row, "ratio"), (row["other"], row["n"])
        if key in lines or not published:
            continue
        cells = (about["names"][row["other"]], f"{int(row['n']):,}", *(row[device] or "-" for device in devices))
        judged = [one for one in published if one != 1]
        sides = tuple("not run" if ours is None else ordered((one, ours), (1, ONE)) for one in judged)
        factors += [(one, ours.value) for one, side in zip(judged, sides, strict=True) if ours and side == "same"]
        mine = f"{wording.with_interval(ours)}, {row['inputs']}" if ours else ""
        lines[key] = Line(cells, mine, sides, row["reason"], len(published))
    return Item(about, ("library", "units", *devices.values()), tuple(lines.values()), factors=tuple(factors))
