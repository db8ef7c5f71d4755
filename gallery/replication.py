"""What both papers and their repositories publish, beside ours: replication.yaml, judged by the tables of the figures.

An item of replication.yaml has published `numbers`, which are judged by a `rule` (outcomes.py), by their `order`, or by both;
or `claims`, our claims that test what is published in words; or `times` of libraries; or none of these, and a `standing`.
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.pipeline.config import read_yaml
from gallery import wording
from gallery.claims import Claim, Figure, Tables
from gallery.claims_file import ClaimError, read_checked
from gallery.outcomes import Line, Outcome, Pair, compared, counted, named, ordered, together
from gallery.quantifiers import replaced
from gallery.replication_times import times
from gallery.significance import RESOLUTION
from gallery.tables import Number, matching, number

DATA = Path(__file__).with_name("replication.yaml")
SCHEMA = read_yaml(DATA.with_name("replication.schema.yaml"))
FULL = "full"  # the scale at which each row that is named has to be there, or a reason
OF_CLAIMS: dict[str, Outcome] = {
    "holds": "same",
    "does not hold": "different",
    "unresolved": "unresolved",
    "not run": "not run",
}

# The rules in words, after "the same if".
RULES = {
    "within": "our number and its interval lie within {} of the published one",
    "seeds": "the published number lies between our smallest and our largest seed",
    "above": "our number and its interval lie above the published one",
}
ORDER = "the larger of two published numbers is the larger one here, and our interval of the difference excludes 0"
OF_TIMES = (
    "the library is slower than slax 0.0.1 both here and there, or faster, and our interval of the factor excludes 1"
)

Entry = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """A figure, a table, a cell or a statement of a paper or its repository.

    Attributes:
        about: its entry in replication.yaml.
        columns: the titles of the cells of its lines.
        lines: what is published beside ours.
        orders: the outcomes for pairs of numbers.
    """

    about: Entry
    columns: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    orders: tuple[Pair, ...] = ()

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for line in self.lines for outcome in line.outcomes]

    @property
    def outcome(self) -> Outcome:
        orders = [pair.outcome for pair in self.orders]
        return together([*self.outcomes, *orders]) or self.about.get("standing", "not run")

    @property
    def verdict(self) -> str:
        """The outcome with its sign, and the numbers behind it."""
        is_run = self.outcome != "not run" and len(self.outcomes) > 1
        same, words = ("same side", "on the same side") if "times" in self.about else ("same", "the same")
        parts = [counted(self.outcomes, self.about.get("unit", "numbers"), words)] if is_run else []
        parts += [f"order of {counted((pair.outcome for pair in self.orders), 'pairs')}"] if self.orders else []
        return ": ".join(filter(None, [named(self.outcome, same), "; ".join(parts)]))

    @property
    def reversed(self) -> list[str]:
        """The pairs whose order here is not the published one, in words."""
        return [pair.here for pair in self.orders if pair.outcome == "different"]

    @property
    def shown(self) -> list[Line]:
        """The lines in which something of ours is."""
        return [line for line in self.lines if line.ours]

    @property
    def rest(self) -> list[Line]:
        """The other lines."""
        return [line for line in self.lines if not line.ours]

    def table(self, lines: Sequence[Line]) -> list[tuple[str, ...]]:
        """The titles of the columns, and the cells of these lines.

        There is no column of ours if none has one, nor of verdicts if no line has one. The reason why nothing of an item is
        compared belongs to the item, and to a claim.
        """
        ours = any(line.ours for line in lines)
        verdict = (bool(self.shown) or "claims" in self.about) and any(line.verdict for line in lines)
        title = "verdict, p after Holm" if "claims" in self.about else "verdict"
        rows = [(line.cells, line.ours or "none", line.verdict or "in pairs") for line in lines]
        return [
            (*cells, *([mine] if ours else []), *([said] if verdict else []))
            for cells, mine, said in [(self.columns, "ours", title), *rows]
        ]

    @property
    def example(self) -> tuple[str, str]:
        """What is published and ours in its first line that is judged, or that has something of ours; of times, in the first
        line of each library."""
        if "claims" in self.about:
            return "in words", f"{len(self.lines)} claims"
        lines = [line for line in self.shown if line.judged] or self.shown or list(self.lines)
        first = {line.cells[0]: line for line in reversed(lines)} if "times" in self.about else {"": lines[0]}
        told = [(f"{line.cells[0]}: {line.factors or line.cells[1]}", line.ours) for line in reversed(first.values())]
        return "; ".join(one for one, _ in told), "; ".join(filter(None, (mine for _, mine in told))) or "none"

    @property
    def how(self) -> str:
        """The rules of the comparison, in words."""
        rule = self.about.get("rule", {})
        distances = [one.get("distance", rule.get("distance")) for one in self.about.get("numbers", ())]
        distance = " or ".join(dict.fromkeys(map(str, distances)))
        parts = [f"{RULES[rule['by']].format(distance)} ({rule['why']})"] if rule else []
        parts += [ORDER] if "order" in self.about else []
        parts += [OF_TIMES] if "times" in self.about else []
        return "; and for an order, if ".join(parts)


@dataclass(frozen=True)
class Replication:
    """Everything that is published. `texts` are the parts of replication.yaml that no table changes."""

    texts: Entry
    items: tuple[Item, ...]

    @property
    def counts(self) -> Counter[Outcome]:
        return Counter(item.outcome for item in self.items)

    @property
    def published(self) -> int:
        """How many numbers are published. Those that two items compare count once."""
        return sum(self._numbers(shown=False).values())

    @property
    def beside(self) -> int:
        """How many of them stand beside a number of ours."""
        return sum(self._numbers(shown=True).values())

    @property
    def judged(self) -> int:
        """How many of them have a verdict of their own."""
        return sum(self._numbers(shown=True, judged=True).values())

    def of(self, key: str, value: str) -> list[Item]:
        """The items whose entries have a value, such as the paper `slax`."""
        return [item for item in self.items if item.about.get(key) == value]

    def outcome(self, topic: str) -> Outcome:
        """What the items of a topic have in common."""
        return together(item.outcome for item in self.of("topic", topic)) or "not run"

    def _numbers(self, shown: bool, judged: bool = False) -> dict[tuple[str, ...], int]:
        """The numbers of each line, which several items may compare."""
        numbers: dict[tuple[str, ...], int] = {}
        for item in self.items:
            for line in (item.shown if shown else item.lines) if "claims" not in item.about else ():
                # Times are judged one by one, and the mean of several numbers as a whole.
                verdicts = line.judged if "times" in item.about else line.published * line.judged
                count = verdicts if judged else line.published
                key = (item.about["paper"], *line.cells)
                numbers[key] = max(count, numbers.get(key, 0))
        return numbers


def replication(figures: Sequence[Figure], tables: Tables, scale: str, path: Path = DATA) -> Replication:
    """All items of replication.yaml, judged.

    Raises:
        ClaimError: the file is not valid, or an item names a claim or a cell that does not exist.
    """
    content, mistakes = read_checked(path, SCHEMA), []
    claims = {f"{figure.experiment}/{claim.id}": claim for figure in figures for claim in figure.claims}
    items = []
    for about in content["items"]:
        try:
            items.append(_judged(about, claims, tables, scale))
        except ValueError as error:
            mistakes.append(f"{about['id']}: {error}")
    if mistakes:
        raise ClaimError("\n".join(f"{path.name}: {mistake}" for mistake in mistakes))
    return Replication({key: value for key, value in content.items() if key != "items"}, tuple(items))


def _judged(about: Entry, claims: dict[str, Claim], tables: Tables, scale: str) -> Item:
    if "claims" in about:
        known = {name: claims[name] for name in about["claims"] if name in claims}
        here = {name.split("/")[0] for name in claims}
        if unknown := [name for name in about["claims"] if name not in known and name.split("/")[0] in here]:
            raise ValueError(f"there is no claim {', '.join(unknown)}: name one as EXPERIMENT/ID")
        return Item(about, ("our claim that tests it",), tuple(map(_claimed, known.values())))
    if "times" in about:
        columns, lines = times(about["times"], tables)
        return Item(about, columns, tuple(lines))
    found = [(one, _number(about, one, tables, scale)) for one in about.get("numbers", ())]
    orders = tuple(_orders(about, found)) if "order" in about else ()
    return Item(about, ("what", "published"), tuple(_line(about, one, ours) for one, ours in found), orders)


def _claimed(claim: Claim) -> Line:
    """The verdict on a claim, with its weakest condition."""
    weakest = claim.weakest
    ours = "" if weakest is None else wording.difference(weakest) or wording.ours(weakest)
    more = f"; the weakest of {len(claim.conditions)} conditions" if len(claim.conditions) > 1 else ""
    return Line(
        (claim.statement,), ours and ours + more, (OF_CLAIMS[claim.verdict],), note="; ".join(wording.outcome(claim))
    )


def _number(about: Entry, one: Entry, tables: Tables, scale: str) -> Number | None:
    """The number of ours for a published one, None if there is none."""
    if "ours" not in about:
        return None
    cell = replaced(about["ours"], one)
    rows = matching(tables.get(cell["file"], []), cell["where"])
    if len(rows) > 1:
        raise ValueError(f"{cell['file']}.csv has {len(rows)} rows where {cell['where']}, expected one")
    ours = number(rows[0], cell["column"]) if rows else None
    if ours is None and scale == FULL and cell["file"] in tables and "reason" not in about:
        raise ValueError(
            f"{cell['file']}.csv has no row or no number where {cell['where']}: correct it, or give a reason"
        )
    return ours


def _line(about: Entry, one: Entry, ours: Number | None) -> Line:
    listed = one["published"] if isinstance(one["published"], list) else [one["published"]]
    cells = (replaced(about["label"], one), ", ".join(f"{value:,}" for value in listed))
    if ours is None:
        return Line(cells, "", ("not run",), note=about.get("reason", "not at this scale"), published=len(listed))
    rule = about.get("rule", {})
    distance = one.get("distance", rule.get("distance", 0.0))
    outcomes = (compared(ours, _value(one), rule["by"], distance),) if rule else ()
    mine = wording.with_interval(ours)
    if one.get("by_construction") and set(outcomes) <= {"same"}:  # it counts if it is not what it has to be
        return Line(cells, mine, standing="by construction", published=len(listed))
    return Line(cells, mine, outcomes, published=len(listed))


def _value(one: Entry) -> float:
    """The published number, or the mean of several."""
    return statistics.fmean(one["published"]) if isinstance(one["published"], list) else float(one["published"])


def _orders(about: Entry, found: list[tuple[Entry, Number | None]]) -> Iterator[Pair]:
    """The outcomes for the pairs of numbers that have the same values of the variables in `order`, and differ as published.

    A number that is fixed by construction is in no pair: on which side of it another one lies is no result either.
    """
    run = [(one, ours) for one, ours in found if ours is not None and not one.get("by_construction")]
    for (one, ours), (other, theirs) in itertools.combinations(run, 2):
        apart = not math.isclose(_value(one), _value(other), rel_tol=RESOLUTION)
        if apart and all(one[name] == other[name] for name in about["order"]):
            low, high = sorted(((one, ours), (other, theirs)), key=lambda side: side[1].value)
            told = [f"{replaced(about['label'], side)} ({_value(side):.4g} published)" for side, _ in (low, high)]
            yield Pair(ordered((_value(one), ours), (_value(other), theirs)), " lies below ".join(told))
