"""Claims about figures, judged by the tables of the figures.

A condition of a claim compares two numbers. If they have samples, the difference is tested (significance.py); otherwise they
are compared as they are. The conditions of a check are deterministic: they have to be true in every sample, and have no
p-value. A claim holds if all of its conditions hold, and does not hold if one of them does not. The p-values of all tested
claims are corrected together by Holm's method.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gallery.claims_file import ClaimError, read_claims
from gallery.significance import DECIMAL, LEVEL, RESOLUTION, Difference, Evidence, difference, holm
from gallery.tables import Number, Row, matching, number

Verdict = Literal["holds", "does not hold", "unresolved", "not run"]
Kind = Literal["finding", "replication", "check"]

CHANGES = ("times", "plus", "error_times")  # what a cell may do to its number
PARTIAL_SCALES = ("tiny", "quick")  # their experiments lack some tasks and rules of the other scales

Tables = dict[str, list[Row]]


class Condition(NamedTuple):
    """One comparison of a claim: a number of ours, the number with which it is compared, and the outcome.

    `ours` and `than` are None where there is no such number. `difference` is None if the condition is not run or has too few
    samples, and `reason` then says why. `rows` locate the numbers in the tables, and `quantity` is what ours is. `is_check`: it
    has to be true in every sample.
    """

    ours: Number | None
    relation: str
    than: Number | None
    tolerance: float | None
    published: float | None
    rows: tuple[str, ...]
    difference: Difference | None = None
    reason: str = ""
    is_check: bool = False
    quantity: str = ""

    @property
    def is_run(self) -> bool:
        return self.ours is not None and self.than is not None

    @property
    def is_tested(self) -> bool:
        """True if there is a p-value: the numbers vary, and the relation is about their means."""
        of_means = not self.is_check and self.relation != "equal"
        return of_means and self.difference is not None and not self.difference.is_constant

    @property
    def margin(self) -> float:
        """By how much the relation is true of the means; negative if it is false of them."""
        assert self.difference is not None
        return self._margin(self.difference.mean)

    @property
    def is_true_of_means(self) -> bool:
        assert self.difference is not None
        return self._is_true(self.difference.mean)

    @property
    def evidence(self) -> Evidence | None:
        """What the difference says about the relation. What is not tested has to be true in every sample: p is 0 or 1.

        The p-value of `near` is the larger one of two one-sided tests, doubled. It is below 0.05 if and only if the 95 %
        interval of the difference lies within the tolerance.
        """
        if self.difference is None:
            return None
        if self.is_tested:
            return self.difference.evidence(self.margin)
        is_true = all(map(self._is_true, (self.difference.mean, *self.difference.ends)))
        return Evidence(0.0, 1.0) if is_true else Evidence(1.0, 0.0)

    def _margin(self, difference: float) -> float:
        left = (self.tolerance or 0.0) - abs(difference)
        return {"above": difference, "below": -difference, "near": left, "equal": -abs(difference)}[self.relation]

    def _is_true(self, difference: float) -> bool:
        """A margin of zero is enough for `near` and `equal`; for the others it has to exceed the resolution of samples."""
        assert self.difference is not None
        margin, has_samples = self._margin(difference), self.difference.kind != "exact"
        if self.relation in ("near", "equal"):
            return margin >= (-DECIMAL * self.difference.size if self.relation == "near" else 0)
        return margin > (RESOLUTION * self.difference.size if has_samples else 0)


@dataclass(frozen=True)
class Claim:
    """A claim with its conditions.

    Attributes:
        id: unique in the experiment.
        kind: what it is: a finding, a replication or a check.
        statement: in words.
        source: who says so.
        written: "before" or "after" its data were there, or after them and "confirmed" on fresh seeds.
        why: the reason for its margin.
        published: in words, where it is not a number of one condition.
        conditions: all of them, not only the tested ones.
        corrected: the p-value after Holm's correction; None before the correction, and for a claim without a p-value.
    """

    id: str
    kind: Kind
    statement: str
    source: str
    written: str
    why: str
    published: str
    conditions: tuple[Condition, ...]
    corrected: float | None = None

    @property
    def evidence(self) -> Evidence:
        """The p-values of all conditions being true, and of one of them being false.

        All of them are true with a p-value that is the largest of theirs. One is false with the smallest p-value times the
        number of conditions (Bonferroni), since this is the smallest of several.
        """
        found = [condition.evidence or Evidence(1.0, 1.0) for condition in self.conditions]
        return Evidence(max(one.holds for one in found), min(1.0, len(found) * min(one.fails for one in found)))

    @property
    def p(self) -> float | None:
        """The p-value before the correction; None where nothing varies, where something that does not vary is false, and where
        the claim cannot be decided for lack of numbers."""
        found = [condition.evidence for condition in self.conditions]
        smallest, lacks_numbers = min(self.evidence), None in found
        exact = [one for one, condition in zip(found, self.conditions, strict=True) if one and not condition.is_tested]
        is_decided = (lacks_numbers and smallest == 1) or any(one.fails == 0 for one in exact)
        return None if is_decided or len(exact) + found.count(None) == len(found) else smallest

    @property
    def weakest(self) -> Condition | None:
        """Of the conditions with a difference, the one that is the least sure to be true."""
        run = {condition: evidence for condition in self.conditions if (evidence := condition.evidence)}
        return max(run, key=lambda condition: (run[condition].holds, -condition.margin), default=None)

    @property
    def verdict(self) -> Verdict:
        """The verdict after the correction, if there was one."""
        return self._verdict(min(self.evidence) if self.corrected is None else self.corrected)

    @property
    def uncorrected(self) -> Verdict:
        """The verdict without a correction."""
        return self._verdict(min(self.evidence))

    @property
    def direction(self) -> str:
        """What the means say about a claim that is unresolved."""
        if any(condition.difference is None for condition in self.conditions):
            return ""
        agree = all(condition.is_true_of_means for condition in self.conditions)
        return "the means agree with it" if agree else "the means contradict it"

    @property
    def reasons(self) -> list[str]:
        """The reasons why conditions are not run or not tested, without repetitions."""
        if self.verdict not in ("not run", "unresolved"):
            return []
        missing = [one for one in self.conditions if one.is_run == (self.verdict == "unresolved")]
        return list(dict.fromkeys(condition.reason for condition in missing if condition.reason))

    def _verdict(self, p: float) -> Verdict:
        if p < LEVEL:
            return "holds" if self.evidence.holds < self.evidence.fails else "does not hold"
        return "unresolved" if all(condition.is_run for condition in self.conditions) else "not run"


@dataclass(frozen=True)
class Figure:
    experiment: str
    stem: str
    title: str
    shows: str
    alt: str
    published: str
    claims: tuple[Claim, ...]
    is_supplement: bool = False  # for the few who look for it


def judge_all(paths: Sequence[Path], tables: Tables, scale: str) -> list[Figure]:
    """Every figure of every claims.yaml, with its claims judged by the tables, one for each stem.

    Raises:
        ClaimError: some claims cannot be judged; the message names all of them.
    """
    figures: list[Figure] = []
    judged: defaultdict[str, list[Claim]] = defaultdict(list)  # by stem
    mistakes: list[str] = []
    for path in paths:
        try:
            content = read_claims(path)
        except ClaimError as error:
            mistakes.append(str(error))
            continue
        for stem, claim in [(figure["stem"], claim) for figure in content for claim in figure["claims"]]:
            try:
                judged[stem].append(evaluate_claim(claim, stem, tables, scale))
            except ClaimError as error:
                mistakes.append(f"{path}: {stem}: {claim['id']}: {error}")
        for figure in content:
            about = {key: _one_line(figure[key]) for key in ("stem", "title", "shows", "alt", "published")}
            figures.append(Figure(path.parent.name, claims=(), is_supplement="supplement" in figure, **about))
    stems = [figure.stem for figure in figures]
    for stem in dict.fromkeys(stem for stem in stems if stems.count(stem) > 1):
        owners = " and ".join(figure.experiment for figure in figures if figure.stem == stem)
        mistakes.append(f"the stem {stem} belongs to figures of {owners}, expected one")
    if mistakes:
        raise ClaimError("\n".join(mistakes))
    corrected = iter(correct([claim for figure in figures for claim in judged[figure.stem]]))
    return [replace(figure, claims=tuple(islice(corrected, len(judged[figure.stem])))) for figure in figures]


def correct(claims: Sequence[Claim]) -> list[Claim]:
    """All claims, with the p-values of those that have some after Holm's correction."""
    after = iter(holm([claim.p for claim in claims if claim.p is not None]))
    return [replace(claim, corrected=None if claim.p is None else next(after)) for claim in claims]


def evaluate_claim(claim: dict[str, Any], stem: str, tables: Tables, scale: str) -> Claim:
    """A claim with its verdict according to the tables of one scale, before the correction.

    Args:
        claim: an entry of a claims.yaml, as `read_claims` gives it.
        stem: stem of the figure, whose table applies unless the claim or the cell names another `file`.
        tables: rows of the available figures by stem.
        scale: scale of these tables.

    Raises:
        ClaimError: an expected row is missing or occurs twice.
    """
    texts = {key: _one_line(str(claim.get(key, ""))) for key in ("statement", "source", "written", "why", "published")}
    conditions = tuple(_judge_one(condition, claim, stem, tables, scale) for condition in claim["all"])
    return Claim(claim["id"], claim["kind"], conditions=conditions, **texts)


def _judge_one(condition: dict[str, Any], claim: dict[str, Any], stem: str, tables: Tables, scale: str) -> Condition:
    ours, than = (_look_up(condition[side], claim, stem, tables, scale) for side in ("ours", "than"))
    relation, tolerance = condition["relation"], condition.get("tolerance")
    if tolerance is not None and condition.get("relative") and than.number is not None:
        tolerance *= abs(than.number.value)
    published = None if condition.get("published") is None else float(condition["published"])
    rows = tuple(side.row for side in (ours, than) if side.row)
    reason, is_check = ours.reason or than.reason, claim["kind"] == "check"
    quantity = condition["ours"]["where"].get("quantity", condition["ours"]["column"])
    judged = Condition(ours.number, relation, than.number, tolerance, published, rows, None, reason, is_check, quantity)
    if ours.number is None or than.number is None:
        return judged
    one, other = ours.number, than.number
    is_geometric = one.is_geometric or other.is_geometric
    if is_geometric and (tolerance is not None or min(one.value, other.value) <= 0):
        raise ClaimError(
            f"{' and '.join(rows)}: geometric means are compared by their logarithms, without a tolerance, and with "
            f"numbers above zero; got {other.value:g}."
        )
    paired = ours.file == than.file and one.is_paired_with(other)
    numbers, fewest = (one.samples or one.value, other.samples or other.value), 1 if is_check else 2
    apart = difference(*numbers, paired=paired, logarithms=is_geometric, fewest=fewest, tests=(one.tests, other.tests))
    reason = "" if apart else f"a test needs two {(one if one.samples else other).unit}s or more"
    return judged._replace(difference=apart, reason=reason)


class _Side(NamedTuple):
    """The number of one side of a comparison, or None and the reason why there is none, with its table and row."""

    number: Number | None
    reason: str = ""
    file: str = ""
    row: str = ""


def _look_up(side: dict[str, Any] | float, claim: dict[str, Any], stem: str, tables: Tables, scale: str) -> _Side:
    if not isinstance(side, dict):
        return _Side(Number(side, side, side))
    file, where = side.get("file", claim.get("file", stem)), side["where"]
    change = ", ".join(f"{name.replace('_', ' ')} {side[name]:g}" for name in CHANGES if name in side)
    row = f"{file}.csv: {side['column']} where {_spelled(where)}"
    found = partial(_Side, file=file, row=f"{row}; {change}" if change else row)
    scales = claim.get("scale", scale)
    about = [scales] if isinstance(scales, str) else scales
    if scale not in about:
        return found(None, f"is about {' and '.join(f'the {one} scale' for one in about)}")
    if file not in tables:
        return found(None, f"there is no {file}.csv")
    try:
        rows = matching(tables[file], where)
        if len(rows) > 1:
            raise ValueError(f"has {len(rows)} rows where {_spelled(where)}, expected one: name more columns")
        if not rows and "needs" in claim:
            return found(None, f"needs {claim['needs']}")
        if not rows and scale in PARTIAL_SCALES:
            return found(None, f"is left out at the {scale} scale")
        if not rows:
            raise ValueError(
                f"has no row where {_spelled(where)}; {_nearest(tables[file], where)}. "
                "Correct it, or say which `scale` or data (`needs`) the claim is about"
            )
        value = number(rows[0], side["column"])
    except ValueError as error:
        raise ClaimError(f"{file}.csv {error}.") from None
    if value is None:
        return found(None, f"{file}.csv has no number there")
    errors = side.get("error_times", 1.0)  # 1 - errors (1 - value)
    return found(value.changed(errors, 1 - errors).changed(side.get("times", 1.0), side.get("plus", 0.0)))


def _nearest(rows: list[Row], where: dict[str, Any]) -> str:
    """The first condition that leaves no row, and the values that its column has instead."""
    for name in where:
        left = matching(rows, {name: where[name]})
        if not left:
            return f"{name} there: {', '.join(dict.fromkeys(row[name] or '(empty)' for row in rows)) or 'no rows'}"
        rows = left
    raise AssertionError("called only where nothing matches")


def _spelled(where: dict[str, Any]) -> str:
    return ", ".join(f"{name} is {'empty' if wanted in (None, '') else wanted}" for name, wanted in where.items())


def _one_line(text: str) -> str:
    return " ".join(text.split())
