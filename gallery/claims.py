"""Claims about figures, judged by the tables of the figures.

A relation is tested twice: for the means, and for every pair of numbers from the two intervals. For the intervals, `above`
requires that the low end of ours is above the high end of the other side, and `near` that no two numbers of the intervals are
further apart than the tolerance. With an unknown interval, a claim is at best not resolved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gallery.claims_file import ClaimError, read_claims
from gallery.tables import Number, Row, matching, number

Verdict = Literal["holds", "does not hold", "not resolved", "not run"]
# In order of precedence: the first of these found among the conditions is the verdict of the claim.
VERDICTS: tuple[Verdict, ...] = ("does not hold", "not run", "not resolved", "holds")

SCALE_OF_TESTS = "tiny"  # its experiments lack some tasks and rules of the other scales

Tables = dict[str, list[Row]]


class Condition(NamedTuple):
    """One comparison of a claim: a number of ours, the number with which it is compared, and the outcome.

    `ours` and `than` are None where there is no such number. `reason` says why a claim is not run, whether the intervals leave
    open a claim that does not hold, and for any claim why an interval is unknown. `rows` locate the numbers in the tables.
    """

    ours: Number | None
    relation: str
    than: Number | None
    tolerance: float | None
    published: float | None
    rows: tuple[str, ...]
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Claim:
    id: str
    statement: str
    source: str
    published: str  # in words, where it is not a number of one condition
    conditions: tuple[Condition, ...]

    @property
    def verdict(self) -> Verdict:
        found = {condition.verdict for condition in self.conditions}
        return next(verdict for verdict in VERDICTS if verdict in found)

    @property
    def reasons(self) -> list[str]:
        """The reasons of the conditions that decide the verdict, without repetitions."""
        deciding = [condition for condition in self.conditions if condition.verdict == self.verdict]
        return list(dict.fromkeys(condition.reason for condition in deciding if condition.reason))


@dataclass(frozen=True)
class Figure:
    experiment: str
    stem: str
    title: str
    shows: str
    alt: str
    published: str
    claims: tuple[Claim, ...]


def judge_all(paths: Sequence[Path], tables: Tables, scale: str) -> list[Figure]:
    """Every figure of every claims.yaml, with its claims judged by the tables, one for each stem.

    Raises:
        ClaimError: some claims cannot be judged; the message names all of them.
    """
    figures: list[Figure] = []
    mistakes: list[str] = []
    for path in paths:
        try:
            content = read_claims(path)
        except ClaimError as error:
            mistakes.append(str(error))
            continue
        for figure in content:
            claims = []
            for claim in figure["claims"]:
                try:
                    claims.append(evaluate_claim(claim, figure["stem"], tables, scale))
                except ClaimError as error:
                    mistakes.append(f"{path}: {figure['stem']}: {claim['id']}: {error}")
            about = {key: _one_line(figure[key]) for key in ("stem", "title", "shows", "alt", "published")}
            figures.append(Figure(path.parent.name, claims=tuple(claims), **about))
    stems = [figure.stem for figure in figures]
    for stem in dict.fromkeys(stem for stem in stems if stems.count(stem) > 1):
        owners = " and ".join(figure.experiment for figure in figures if figure.stem == stem)
        mistakes.append(f"the stem {stem} belongs to figures of {owners}, expected one")
    if mistakes:
        raise ClaimError("\n".join(mistakes))
    return figures


def evaluate_claim(claim: dict[str, Any], stem: str, tables: Tables, scale: str) -> Claim:
    """A claim with its verdict according to the tables of one scale.

    Args:
        claim: an entry of a claims.yaml.
        stem: stem of the figure, whose table applies unless the claim or the cell names another `file`.
        tables: rows of the available figures by stem.
        scale: scale of these tables.

    Raises:
        ClaimError: an expected row is missing or occurs twice.
    """
    several = "all" in claim
    conditions = claim["all"] if several else [claim]
    published = claim.get("published", "")
    return Claim(
        claim["id"],
        _one_line(claim["statement"]),
        _one_line(claim["source"]),
        _one_line(str(published)) if several or isinstance(published, str) else "",
        tuple(_judge_one(condition, claim, stem, tables, scale) for condition in conditions),
    )


class Comparison(NamedTuple):
    """The truth of a relation for the means, for all pairs of numbers from the intervals, and for some pair of them."""

    of_means: bool
    of_all: bool
    of_some: bool


def compare(relation: str, ours: Number, than: Number, tolerance: float | None) -> Comparison:
    if relation == "above":
        return Comparison(ours.value > than.value, ours.low > than.high, ours.high > than.low)
    if relation == "below":
        return Comparison(ours.value < than.value, ours.high < than.low, ours.low < than.high)
    allowed = tolerance or 0.0  # 0 for `equal`
    if allowed:  # 0.3 and 0.2 are 0.1 apart, but not as binary numbers
        allowed += 1e-12 * max(abs(ours.value), abs(than.value))
    largest = max(ours.high - than.low, than.high - ours.low)
    smallest = max(ours.low - than.high, than.low - ours.high, 0.0)
    return Comparison(abs(ours.value - than.value) <= allowed, largest <= allowed, smallest <= allowed)


def _judge_one(condition: dict[str, Any], claim: dict[str, Any], stem: str, tables: Tables, scale: str) -> Condition:
    scales = claim.get("scale", scale)
    about = [scales] if isinstance(scales, str) else scales
    sides = [condition["ours"], condition["than"]]
    files = [side.get("file", claim.get("file", stem)) if isinstance(side, dict) else "" for side in sides]
    rows = tuple(_where(side, file) for side, file in zip(sides, files, strict=True) if file)
    published = condition.get("published")
    published = float(published) if isinstance(published, int | float) else None

    if scale in about:
        found = [_look_up(side, file, claim, tables, scale) for side, file in zip(sides, files, strict=True)]
    else:
        other = f"is about the scale {' and '.join(about)}"
        found = [(None, other) if file else (_constant(side), "") for side, file in zip(sides, files, strict=True)]
    (ours, _), (than, _) = found
    reason = next((missing for _, missing in found if missing), "")
    tolerance = condition.get("tolerance")
    if tolerance is not None and condition.get("relative") and than is not None:
        tolerance *= abs(than.value)
    if ours is None or than is None:
        verdict: Verdict = "not run"
    else:
        true = compare(condition["relation"], ours, than, tolerance)
        unknown = ours.unknown or than.unknown
        verdict, reason = _of_means_alone(true, unknown) if unknown else _verdict(true)
    return Condition(ours, condition["relation"], than, tolerance, published, rows, verdict, reason)


def _verdict(true: Comparison) -> tuple[Verdict, str]:
    if not true.of_means:
        return "does not hold", "the intervals leave it open" if true.of_some else ""
    return ("holds" if true.of_all else "not resolved"), ""


def _of_means_alone(true: Comparison, unknown: str) -> tuple[Verdict, str]:
    return ("not resolved" if true.of_means else "does not hold"), unknown


def _look_up(
    side: dict[str, Any] | float, file: str, claim: dict[str, Any], tables: Tables, scale: str
) -> tuple[Number | None, str]:
    """The number that one side of a comparison names, or None and the reason why there is none."""
    if not isinstance(side, dict):
        return _constant(side), ""
    if file not in tables:
        return None, f"there is no {file}.csv"
    try:
        found = matching(tables[file], side["where"])
        if len(found) > 1:
            raise ValueError(f"has {len(found)} rows where {_spelled(side['where'])}, expected one: name more columns")
        if not found and "needs" in claim:
            return None, f"needs {claim['needs']}"
        if not found and scale == SCALE_OF_TESTS:
            return None, f"is left out at the scale {scale}"
        if not found:
            raise ValueError(
                f"has no row where {_spelled(side['where'])}; {_nearest(tables[file], side['where'])}. "
                "Correct it, or say which `scale` or data (`needs`) the claim is about"
            )
        value = number(found[0], side["column"])
    except ValueError as error:
        raise ClaimError(f"{file}.csv {error}.") from None
    return (value, "") if value is not None else (None, f"{file}.csv has no number there")


def _constant(value: float) -> Number:
    return Number(value, value, value)


def _nearest(rows: list[Row], where: dict[str, Any]) -> str:
    """The first condition that leaves no row, and the values that its column has instead."""
    left: dict[str, Any] = {}
    for name, wanted in where.items():
        before = matching(rows, left)
        left[name] = wanted
        if not matching(rows, left):
            return f"{name} there: {', '.join(dict.fromkeys(row[name] or '(empty)' for row in before)) or 'no rows'}"
    raise AssertionError("called only where nothing matches")


def _where(side: dict[str, Any], file: str) -> str:
    return f"{file}.csv: {side['column']} where {_spelled(side['where'])}"


def _spelled(where: dict[str, Any]) -> str:
    return ", ".join(f"{name} is {'empty' if wanted in (None, '') else wanted}" for name, wanted in where.items())


def _one_line(text: str) -> str:
    return " ".join(text.split())
