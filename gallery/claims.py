"""Claims about figures, judged by the tables of the figures.

A condition of a claim compares two numbers. If they have samples, the difference is tested (significance.py); otherwise they
are compared as they are. A claim holds if all of its conditions hold, and does not hold if one of them does not. The p-values
of all tested claims of an experiment are corrected together by Holm's method.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gallery.claims_file import ClaimError, read_claims
from gallery.significance import (
    LEVEL,
    Difference,
    Evidence,
    difference,
    evidence,
    factor,
    holm,
    is_true_of_means,
    samples_needed,
)
from gallery.tables import Number, Row, matching, number

Verdict = Literal["holds", "does not hold", "not resolved", "not run"]

PARTIAL_SCALES = ("tiny", "quick")  # their experiments lack some tasks and rules of the other scales

Tables = dict[str, list[Row]]


class Condition(NamedTuple):
    """One comparison of a claim: a number of ours, the number with which it is compared, and the outcome.

    `ours` and `than` are None where there is no such number. `difference` and `evidence` are None if the condition is not run
    or has too few samples, and `reason` then says why. `rows` locate the numbers in the tables.
    """

    ours: Number | None
    relation: str
    than: Number | None
    tolerance: float | None
    published: float | None
    rows: tuple[str, ...]
    difference: Difference | None = None
    evidence: Evidence | None = None
    reason: str = ""

    @property
    def is_run(self) -> bool:
        return self.ours is not None and self.than is not None

    @property
    def is_tested(self) -> bool:
        return self.difference is not None and self.difference.kind != "exact"

    @property
    def is_true_of_means(self) -> bool:
        assert self.difference is not None
        return is_true_of_means(self.relation, self.difference, self.tolerance)


@dataclass(frozen=True)
class Claim:
    """A claim with its conditions.

    Attributes:
        id: unique in the experiment.
        statement: in words.
        source: who says so.
        published: in words, where it is not a number of one condition.
        conditions: all of them, not only the tested ones.
        corrected: the p-value after Holm's correction; None before the correction, and for a claim without a p-value.
        samples_needed: the number of samples that would resolve it, where it is not resolved and this number is known.
    """

    id: str
    statement: str
    source: str
    published: str
    conditions: tuple[Condition, ...]
    corrected: float | None = None
    samples_needed: int | None = None

    @property
    def evidence(self) -> Evidence:
        """The p-values of all conditions being true, and of one of them being false.

        All of them are true with a p-value that is the largest of theirs. One is false with the smallest p-value times the
        number of conditions (Bonferroni), since this is the smallest of several.
        """
        found = [condition.evidence for condition in self.conditions if condition.evidence is not None]
        holds = max((one.holds for one in found), default=1.0) if len(found) == len(self.conditions) else 1.0
        fails = len(self.conditions) * min((one.fails for one in found), default=1.0)
        return Evidence(holds, min(1.0, fails))

    @property
    def p(self) -> float | None:
        """The p-value before the correction; None where nothing varies, and where the claim cannot be decided for lack of
        numbers."""
        smallest = min(self.evidence)
        lacks_numbers = any(condition.evidence is None for condition in self.conditions)
        if not any(condition.is_tested for condition in self.conditions) or (lacks_numbers and smallest == 1):
            return None
        return smallest

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
        """What the means say about a claim that is not resolved."""
        found = [condition for condition in self.conditions if condition.difference is not None]
        if len(found) < len(self.conditions):
            return ""
        agree = all(condition.is_true_of_means for condition in found)
        return "the means agree with it" if agree else "the means contradict it"

    @property
    def reasons(self) -> list[str]:
        """The reasons why conditions are not run or not tested, without repetitions."""
        if self.verdict not in ("not run", "not resolved"):
            return []
        missing = [one for one in self.conditions if one.is_run == (self.verdict == "not resolved")]
        return list(dict.fromkeys(condition.reason for condition in missing if condition.reason))

    def _verdict(self, p: float) -> Verdict:
        if p < LEVEL:
            return "holds" if self.evidence.holds < self.evidence.fails else "does not hold"
        return "not resolved" if all(condition.is_run for condition in self.conditions) else "not run"


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
        claims: dict[str, list[Claim]] = {figure["stem"]: [] for figure in content}
        for figure in content:
            for claim in figure["claims"]:
                try:
                    claims[figure["stem"]].append(evaluate_claim(claim, figure["stem"], tables, scale))
                except ClaimError as error:
                    mistakes.append(f"{path}: {figure['stem']}: {claim['id']}: {error}")
        judged = {claim.id: claim for claim in correct([claim for of in claims.values() for claim in of])}
        for figure in content:
            about = {key: _one_line(figure[key]) for key in ("stem", "title", "shows", "alt", "published")}
            own = tuple(judged[claim.id] for claim in claims[figure["stem"]])
            figures.append(Figure(path.parent.name, claims=own, **about))
    stems = [figure.stem for figure in figures]
    for stem in dict.fromkeys(stem for stem in stems if stems.count(stem) > 1):
        owners = " and ".join(figure.experiment for figure in figures if figure.stem == stem)
        mistakes.append(f"the stem {stem} belongs to figures of {owners}, expected one")
    if mistakes:
        raise ClaimError("\n".join(mistakes))
    return figures


def correct(claims: Sequence[Claim]) -> list[Claim]:
    """The claims of one experiment, with the p-values of those that have some after Holm's correction, and the number of
    samples that would resolve those that are not resolved."""
    p_values = [claim.p for claim in claims]
    known = [p for p in p_values if p is not None]
    after = iter(holm(known))
    found = [
        replace(claim, corrected=None if p is None else next(after)) for claim, p in zip(claims, p_values, strict=True)
    ]
    still_open = sum(claim.corrected is not None and claim.corrected >= LEVEL for claim in found)
    return [replace(claim, samples_needed=_samples_needed(claim, LEVEL / max(1, still_open))) for claim in found]


def _samples_needed(claim: Claim, level: float) -> int | None:
    """The number of samples that would bring the p-value of an unresolved claim below a level: the one of Holm's next step."""
    if claim.verdict != "not resolved" or any(condition.difference is None for condition in claim.conditions):
        return None
    against = [condition for condition in claim.conditions if not condition.is_true_of_means]
    if against:
        return min(_of_condition(condition, level / len(claim.conditions)) for condition in against)
    return max(_of_condition(condition, level) for condition in claim.conditions if condition.is_tested)


def _of_condition(condition: Condition, level: float) -> int:
    assert condition.difference is not None
    return samples_needed(condition.relation, condition.difference, condition.tolerance, level)


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
    return Claim(
        claim["id"],
        _one_line(claim["statement"]),
        _one_line(claim["source"]),
        _one_line(str(claim.get("published", ""))),
        tuple(_judge_one(condition, claim, stem, tables, scale) for condition in claim["all"]),
    )


def _judge_one(condition: dict[str, Any], claim: dict[str, Any], stem: str, tables: Tables, scale: str) -> Condition:
    scales = claim.get("scale", scale)
    about = [scales] if isinstance(scales, str) else scales
    sides = [condition["ours"], condition["than"]]
    files = [side.get("file", claim.get("file", stem)) if isinstance(side, dict) else "" for side in sides]
    rows = tuple(_where(side, file) for side, file in zip(sides, files, strict=True) if file)
    published = condition.get("published")
    published = None if published is None else float(published)

    if scale in about:
        found = [_look_up(side, file, claim, tables, scale) for side, file in zip(sides, files, strict=True)]
    else:
        other = f"is about the scale {' and '.join(about)}"
        found = [(None, other) if file else (_constant(side), "") for side, file in zip(sides, files, strict=True)]
    (ours, _), (than, _) = found
    reason = next((missing for _, missing in found if missing), "")
    relation, tolerance = condition["relation"], condition.get("tolerance")
    if tolerance is not None and condition.get("relative") and than is not None:
        tolerance *= abs(than.value)
    judged = Condition(ours, relation, than, tolerance, published, rows, reason=reason)
    if ours is None or than is None:
        return judged
    paired = files[0] == files[1] and ours.is_paired_with(than)
    compare = difference
    if ours.is_geometric or than.is_geometric:
        if tolerance is not None or min(ours.value, than.value) <= 0:
            raise ClaimError(
                f"{' and '.join(rows)}: geometric means are compared by their logarithms, without a tolerance, and with "
                f"numbers above zero; got {than.value:g}."
            )
        compare = factor
    apart = compare(ours.samples or ours.value, than.samples or than.value, paired=paired)
    if apart is None:
        unit = ours.unit if ours.samples else than.unit
        return judged._replace(reason=f"a test needs two {unit}s or more")
    return judged._replace(difference=apart, evidence=evidence(relation, apart, tolerance))


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
        if not found and scale in PARTIAL_SCALES:
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
