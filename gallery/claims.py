"""Claims about figures, judged by the tables of the figures.

A claim compares two numbers, or several pairs of numbers. If they have samples, the difference is tested (significance.py);
otherwise they are compared as they are. A check is deterministic: it has to be true in every sample, and has no p-value. A
claim holds if all of its comparisons hold, and does not hold if one of them does not. The p-values of all tested claims are
corrected together by Holm's method.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gallery.claims_file import ClaimError, form_of, read_claims
from gallery.significance import DECIMAL, LEVEL, RESOLUTION, Difference, Evidence, difference
from gallery.tables import Number, Row, find, spelled
from slax_rules.train.intervals import holm

Verdict = Literal["holds", "does not hold", "unresolved", "not run"]
Kind = Literal["finding", "replication", "check"]
PARTIAL_SCALES = ("tiny", "quick")  # their experiments lack some tasks and rules of the other scales

Tables = Mapping[str, Sequence[Row]]  # by the stem of their figure


class Comparison(NamedTuple):
    """Two numbers of a claim, the relation between them, and the outcome.

    `left` and `right` are None where there is no such number; the margin of the claim is already in `right`, which it moved by
    `moved`, or is the `tolerance`. `rows` locate the numbers in the tables, `places` are the cells as in the claim, and
    `quantity` is what the left number is. `is_check`: it has to be true in every sample. `difference` is None if there is a
    number too few or too few samples, and `reason` then says why.
    """

    left: Number | None
    relation: str
    right: Number | None
    tolerance: float | None = None
    moved: float = 0.0
    rows: tuple[str, ...] = ()
    quantity: str = ""
    places: tuple[Any, ...] = ()
    is_check: bool = False
    difference: Difference | None = None
    reason: str = ""

    @property
    def is_run(self) -> bool:
        return self.left is not None and self.right is not None

    @property
    def is_tested(self) -> bool:
        """True if there is a p-value: the numbers vary, and the relation is about their means."""
        of_means = not self.is_check and self.relation != "equal"
        return of_means and self.difference is not None and not self.difference.is_constant

    @property
    def evidence(self) -> Evidence:
        """What the difference says about the relation. What is not tested has to be true in every sample: p is 0 or 1.

        The p-value of `near` is the larger one of two one-sided tests, doubled. It is below 0.05 if and only if the 95 %
        interval of the difference lies within the tolerance. Without a difference, nothing is sure.
        """
        if self.difference is None:
            return Evidence(1.0, 1.0)
        if self.is_tested:
            return self.difference.evidence(self.margin(self.difference.mean))
        is_true = all(map(self.is_true, (self.difference.mean, *self.difference.ends)))
        return Evidence(0.0, 1.0) if is_true else Evidence(1.0, 0.0)

    def margin(self, difference: float) -> float:
        """By how much the relation is true of a difference; negative if it is false."""
        within = (self.tolerance or 0.0) - abs(difference)
        return {"above": difference, "below": -difference}.get(self.relation, within)

    def is_true(self, difference: float) -> bool:
        """A margin of zero is enough for `near` and `equal`; for the others it has to exceed the resolution of samples."""
        assert self.difference is not None
        if self.relation in ("near", "equal"):
            return self.margin(difference) >= -DECIMAL * self.difference.size
        has_samples = self.difference.kind != "exact"
        return self.margin(difference) > (RESOLUTION * self.difference.size if has_samples else 0)


def verdict_of(comparisons: Sequence[Comparison], evidence: Evidence, p: float | None = None) -> Verdict:
    """The verdict on comparisons with this evidence for all of them, by a p-value after a correction if there is one."""
    if (min(evidence) if p is None else p) < LEVEL:
        return "holds" if evidence.holds < evidence.fails else "does not hold"
    return "unresolved" if all(one.is_run for one in comparisons) else "not run"


@dataclass(frozen=True)
class Claim:
    """A claim with its comparisons.

    Attributes:
        id: unique in the experiment.
        kind: what it is: a finding, a replication or a check.
        sentence: in words.
        source: who says so.
        why: the reason for its margin.
        form: a digest of what it compares.
        comparisons: all of them, not only the tested ones.
        corrected: the p-value after Holm's correction; None before the correction, and for a claim without a p-value.
        written: frozen "before" the run that is shown, or not ("after"), or frozen and "confirmed" (looks.py).
        earlier: the verdicts on it of earlier looks, with their names.
    """

    id: str
    kind: Kind
    sentence: str
    source: str
    why: str
    form: str
    comparisons: tuple[Comparison, ...]
    corrected: float | None = None
    written: str = "after"
    earlier: tuple[tuple[str, str], ...] = ()

    @property
    def evidence(self) -> Evidence:
        """The p-values of all comparisons being true, and of one of them being false.

        All of them are true with a p-value that is the largest of theirs. One is false with the smallest p-value times the
        number of comparisons (Bonferroni), since this is the smallest of several.
        """
        found = [one.evidence for one in self.comparisons]
        return Evidence(max(one.holds for one in found), min(1.0, len(found) * min(one.fails for one in found)))

    @property
    def p(self) -> float | None:
        """The p-value before the correction; None where nothing is tested, and where something that does not vary is false.

        Whether a claim has one must not depend on the p-value itself, or the correction would be for too few claims.
        """
        is_tested = any(one.is_tested for one in self.comparisons)
        is_false = any(one.evidence == (1, 0) and not one.is_tested for one in self.comparisons)
        return min(self.evidence) if is_tested and not is_false else None

    @property
    def weakest(self) -> Comparison | None:
        """Of the comparisons with a difference, the one that is the least sure to be true."""
        run = [
            (one.evidence.holds, -one.margin(one.difference.mean), one) for one in self.comparisons if one.difference
        ]
        return max(run, key=lambda weak: weak[:2], default=(0, 0, None))[2]

    @property
    def verdict(self) -> Verdict:
        """The verdict after the correction, if there was one."""
        return verdict_of(self.comparisons, self.evidence, self.corrected)

    @property
    def uncorrected(self) -> Verdict:
        """The verdict without a correction."""
        return verdict_of(self.comparisons, self.evidence)

    @property
    def direction(self) -> str:
        """What the means say about a claim that is unresolved."""
        found = [one.difference and one.is_true(one.difference.mean) for one in self.comparisons]
        if None in found:
            return ""
        return "the means agree with it" if all(found) else "the means contradict it"

    @property
    def reasons(self) -> list[str]:
        """The reasons why comparisons are not run or not tested, without repetitions."""
        if self.verdict not in ("not run", "unresolved"):
            return []
        missing = [one for one in self.comparisons if one.is_run == (self.verdict == "unresolved")]
        return list(dict.fromkeys(one.reason for one in missing if one.reason))


@dataclass(frozen=True)
class Figure:
    experiment: str
    stem: str
    title: str
    shows: str
    alt: str
    published: str
    claims: tuple[Claim, ...] = ()


def judge_all(paths: Sequence[Path], tables: Tables, scale: str, *, is_complete: bool = True) -> list[Figure]:
    """Every figure of every claims.yaml, with its claims judged by the tables.

    Args:
        paths: the files, EXPERIMENT/claims.yaml.
        tables: the rows of the figures that are there.
        scale: scale of the tables.
        is_complete: no job of the scale was left out. Then a row that a claim names has to be there, except at the tiny and
            quick scales, which leave out tasks and rules.

    Raises:
        ClaimError: some claims cannot be judged; the message names all of them.
    """
    strict = is_complete and scale not in PARTIAL_SCALES
    figures: list[Figure] = []
    mistakes: list[str] = []
    for path in paths:
        try:
            content = read_claims(path)
        except ClaimError as error:
            mistakes.append(str(error))
            continue
        for figure in content:
            judged = []
            for claim in figure["claims"]:
                try:
                    judged.append(judge(claim, figure["stem"], tables, scale, strict))
                except ValueError as error:
                    mistakes.append(f"{path}: {figure['stem']}: {claim['id']}: {error}")
            texts = {key: figure.get(key, "") for key in ("stem", "title", "shows", "alt", "published")}
            figures.append(Figure(path.parent.name, **texts, claims=tuple(judged)))
    names = [f"the stem {figure.stem}" for figure in figures]
    names += [f"the claim {figure.experiment}/{claim.id}" for figure in figures for claim in figure.claims]
    mistakes += [f"{name} occurs twice" for name, count in Counter(names).items() if count > 1]
    if mistakes:
        raise ClaimError("\n".join(mistakes))
    corrected = iter(correct([claim for figure in figures for claim in figure.claims]))
    return [replace(figure, claims=tuple(next(corrected) for _ in figure.claims)) for figure in figures]


def correct(claims: Sequence[Claim]) -> list[Claim]:
    """All claims, with the p-values of those that have some after Holm's correction."""
    after = iter(holm([claim.p for claim in claims if claim.p is not None]))
    return [replace(claim, corrected=None if claim.p is None else next(after)) for claim in claims]


def claims_named(names: Sequence[str], figures: Sequence[Figure]) -> list[Claim]:
    """The claims of names, EXPERIMENT/ID, except for experiments that are not among the figures.

    Raises:
        ClaimError: an experiment that is there has no such claim.
    """
    claims = {f"{figure.experiment}/{claim.id}": claim for figure in figures for claim in figure.claims}
    experiments = {figure.experiment for figure in figures}
    here = [name for name in names if name.partition("/")[0] in experiments]
    if unknown := [name for name in here if name not in claims]:
        raise ClaimError(f"there is no claim {', '.join(unknown)}: name one as EXPERIMENT/ID")
    return [claims[name] for name in here]


def judge(claim: dict[str, Any], stem: str, tables: Tables, scale: str, strict: bool) -> Claim:
    """A claim with its verdict according to the tables of one scale, before the correction.

    Args:
        claim: an entry of a claims.yaml, as `read_claims` gives it.
        stem: stem of the figure, in whose table a cell is unless it names another `table`.
        tables: the rows of the figures that are there.
        scale: scale of these tables.
        strict: a row that is missing is a mistake.

    Raises:
        ValueError: an expected row is missing or occurs twice.
    """
    scales = claim.get("scale", scale)
    scales = [scales] if isinstance(scales, str) else scales
    elsewhere = "" if scale in scales else f"is about {' and '.join(f'the {one} scale' for one in scales)}"

    def number_at(side: dict[str, Any] | float) -> tuple[Number | None, str]:
        if not isinstance(side, dict):
            return Number(side, side, side), ""
        return (None, elsewhere) if elsewhere else find(side, tables, stem, strict=strict)

    comparisons = []
    for one in claim["comparisons"]:
        (left, lacking), (right, lacking_too) = number_at(one["left"]), number_at(one["right"])
        rows = [_row(side, stem) for side in (one["left"], one["right"]) if isinstance(side, dict)]
        if one["margin"] is not None:
            rows[-1] += f"; margin {str(one['margin']).strip('{}').replace(chr(39), '')}"
        # Tables of ways to learn, or of variants of rules, that have no column `quantity` have accuracies.
        of_ways = "accuracy" if {"way", "variant"} & one["left"].keys() else "mean"
        quantity = one["left"].get("quantity", one["left"].get("column", of_ways))
        places = (one["left"], one["right"])
        about = {"rows": tuple(rows), "quantity": quantity, "places": places, "is_check": claim["kind"] == "check"}
        than, tolerance = _with_margin(right, one["relation"], one["margin"])
        moved = than.value - right.value if than and right else 0.0
        comparison = Comparison(left, one["relation"], than, tolerance, moved, **about, reason=lacking or lacking_too)
        comparisons.append(compare(comparison))
    texts = {key: claim.get(key, "") for key in ("id", "kind", "sentence", "source", "why")}
    return Claim(**texts, form=form_of(claim, stem), comparisons=tuple(comparisons))


def _row(place: dict[str, Any], stem: str) -> str:
    """Where a number is, in words."""
    table, column, where = spelled(place, stem)
    texts = (f"{name} is {'empty' if one in (None, '') else one}" for name, one in where.items())
    return f"{table}.csv: {column} where {', '.join(texts)}"


def _with_margin(right: Number | None, relation: str, margin: Any) -> tuple[Number | None, float | None]:
    """The number at the right with the margin of a claim in it, and the tolerance of `near`."""
    if right is None or margin is None:
        return right, None
    if relation == "near":
        return right, margin
    if isinstance(margin, dict):
        errors = margin.get("errors", 1.0)  # 1 - errors (1 - right)
        return right.changed(errors, 1 - errors).changed(margin.get("times", 1.0), 0.0), None
    return right.changed(1.0, margin if relation == "above" else -margin), None


def compare(one: Comparison) -> Comparison:
    """The same with the difference of its numbers, if they have one."""
    if one.left is None or one.right is None:
        return one
    is_geometric = one.left.is_geometric or one.right.is_geometric
    if is_geometric and (one.tolerance is not None or min(one.left.value, one.right.value) <= 0):
        raise ValueError(
            f"{' and '.join(one.rows)}: geometric means are compared by their logarithms, without a tolerance, and with "
            f"numbers above zero; got {one.right.value:g}."
        )
    apart = difference(one.left, one.right, fewest=1 if one.is_check else 2)
    unit = (one.left if one.left.samples else one.right).unit
    return one._replace(difference=apart, reason="" if apart else f"a test needs two {unit}s or more")
