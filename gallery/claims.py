"""Claims about figures, judged by the tables of the figures.

A claim compares two numbers, or several pairs of numbers. If they have samples, the difference is tested (significance.py);
otherwise they are compared as they are. A check is deterministic: it has to be true in every sample, and has no p-value. A
claim holds if all of its comparisons hold, and does not hold if one of them does not. The p-values of all tested claims are
corrected together by Holm's method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gallery.claims_file import ClaimError, read_claims
from gallery.significance import DECIMAL, LEVEL, RESOLUTION, Difference, Evidence, difference, holm
from gallery.tables import Number, Row, find, spelled

Verdict = Literal["holds", "does not hold", "unresolved", "not run"]
Kind = Literal["finding", "replication", "check"]
PARTIAL_SCALES = ("tiny", "quick")  # their experiments lack some tasks and rules of the other scales

Tables = Mapping[str, Sequence[Row]]  # by the stem of their figure


class Comparison(NamedTuple):
    """Two numbers of a claim, the relation between them, and the outcome.

    `left` and `right` are None where there is no such number; the margin of the claim is already in `right`, or is the
    `tolerance`. `difference` is None if there is a number too few or too few samples, and `reason` then says why. `rows` locate
    the numbers in the tables, and `quantity` is what the left one is. `is_check`: it has to be true in every sample.
    """

    left: Number | None
    relation: str
    right: Number | None
    tolerance: float | None = None
    rows: tuple[str, ...] = ()
    difference: Difference | None = None
    reason: str = ""
    is_check: bool = False
    quantity: str = ""

    @property
    def is_run(self) -> bool:
        return self.left is not None and self.right is not None

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
    """A claim with its comparisons.

    Attributes:
        id: unique in the experiment.
        kind: what it is: a finding, a replication or a check.
        sentence: in words.
        source: who says so.
        written: "before" or "after" its data were there, or after them and "confirmed" on fresh seeds.
        why: the reason for its margin.
        comparisons: all of them, not only the tested ones.
        corrected: the p-value after Holm's correction; None before the correction, and for a claim without a p-value.
    """

    id: str
    kind: Kind
    sentence: str
    source: str
    written: str
    why: str
    comparisons: tuple[Comparison, ...]
    corrected: float | None = None

    @property
    def evidence(self) -> Evidence:
        """The p-values of all comparisons being true, and of one of them being false.

        All of them are true with a p-value that is the largest of theirs. One is false with the smallest p-value times the
        number of comparisons (Bonferroni), since this is the smallest of several.
        """
        found = [one.evidence or Evidence(1.0, 1.0) for one in self.comparisons]
        return Evidence(max(one.holds for one in found), min(1.0, len(found) * min(one.fails for one in found)))

    @property
    def p(self) -> float | None:
        """The p-value before the correction; None where nothing varies, where something that does not vary is false, and where
        the claim cannot be decided for lack of numbers."""
        found = [one.evidence for one in self.comparisons]
        smallest, lacks_numbers = min(self.evidence), None in found
        exact = [one for one, of in zip(found, self.comparisons, strict=True) if one and not of.is_tested]
        is_decided = (lacks_numbers and smallest == 1) or any(one.fails == 0 for one in exact)
        return None if is_decided or len(exact) + found.count(None) == len(found) else smallest

    @property
    def weakest(self) -> Comparison | None:
        """Of the comparisons with a difference, the one that is the least sure to be true."""
        run = [(evidence.holds, -one.margin, one) for one in self.comparisons if (evidence := one.evidence)]
        return max(run, key=lambda weak: weak[:2], default=(0, 0, None))[2]

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
        if any(one.difference is None for one in self.comparisons):
            return ""
        agree = all(one.is_true_of_means for one in self.comparisons)
        return "the means agree with it" if agree else "the means contradict it"

    @property
    def reasons(self) -> list[str]:
        """The reasons why comparisons are not run or not tested, without repetitions."""
        if self.verdict not in ("not run", "unresolved"):
            return []
        missing = [one for one in self.comparisons if one.is_run == (self.verdict == "unresolved")]
        return list(dict.fromkeys(one.reason for one in missing if one.reason))

    def _verdict(self, p: float) -> Verdict:
        if p < LEVEL:
            return "holds" if self.evidence.holds < self.evidence.fails else "does not hold"
        return "unresolved" if all(one.is_run for one in self.comparisons) else "not run"


@dataclass(frozen=True)
class Figure:
    experiment: str
    stem: str
    title: str
    shows: str
    alt: str
    published: str
    claims: tuple[Claim, ...] = ()
    is_supplement: bool = False  # for the few who look for it


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
                    strict = is_complete and scale not in PARTIAL_SCALES
                    judged.append(judge(claim, figure["stem"], tables, scale, strict))
                except ValueError as error:
                    mistakes.append(f"{path}: {figure['stem']}: {claim['id']}: {error}")
            texts = {key: _one_line(figure.get(key, "")) for key in ("stem", "title", "shows", "alt", "published")}
            is_supplement = "supplement" in figure
            figures.append(Figure(path.parent.name, claims=tuple(judged), is_supplement=is_supplement, **texts))
    stems = [figure.stem for figure in figures]
    mistakes += [f"the stem {stem} belongs to two figures" for stem in {*stems} if stems.count(stem) > 1]
    if mistakes:
        raise ClaimError("\n".join(mistakes))
    corrected = iter(correct([claim for figure in figures for claim in figure.claims]))
    return [replace(figure, claims=tuple(next(corrected) for _ in figure.claims)) for figure in figures]


def correct(claims: Sequence[Claim]) -> list[Claim]:
    """All claims, with the p-values of those that have some after Holm's correction."""
    after = iter(holm([claim.p for claim in claims if claim.p is not None]))
    return [replace(claim, corrected=None if claim.p is None else next(after)) for claim in claims]


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
    comparisons = []
    for one in claim["comparisons"]:
        left, right = (_find(one[side], stem, tables, elsewhere, strict) for side in ("left", "right"))
        comparisons.append(_compare(one, left, right, claim["kind"] == "check"))
    sentence, source, written, why = (_one_line(claim.get(key, "")) for key in ("sentence", "source", "written", "why"))
    return Claim(claim["id"], claim["kind"], sentence, source, written, why, tuple(comparisons))


class _Found(NamedTuple):
    """A number, or None and the reason why there is none, with its table and row."""

    number: Number | None
    reason: str = ""
    table: str = ""
    row: str = ""


def _find(side: dict[str, Any] | float, stem: str, tables: Tables, elsewhere: str, strict: bool) -> _Found:
    if not isinstance(side, dict):
        return _Found(Number(side, side, side))
    table, column, where = spelled(side, stem)
    texts = (f"{name} is {'empty' if one in (None, '') else one}" for name, one in where.items())
    value, reason = (None, elsewhere) if elsewhere else find(side, tables, stem, strict=strict)
    return _Found(value, reason, table, f"{table}.csv: {column} where {', '.join(texts)}")


def _compare(written: dict[str, Any], left: _Found, right: _Found, is_check: bool) -> Comparison:
    ours, than, relation, margin = left.number, right.number, written["relation"], written["margin"]
    tolerance, rows = None, tuple(side.row for side in (left, right) if side.row)
    if than and isinstance(margin, dict):
        errors = margin.get("errors", 1.0)  # 1 - errors (1 - than)
        than = than.changed(errors, 1 - errors).changed(margin.get("times", 1.0), 0.0)
        tolerance = margin["share"] * abs(than.value) if "share" in margin else None
    elif than and relation == "near":
        tolerance = margin
    elif than and margin:
        than = than.changed(1.0, margin if relation == "above" else -margin)
    if margin is not None and rows:
        rows = (*rows[:-1], f"{rows[-1]}; margin {str(margin).strip('{}').replace(chr(39), '')}")
    quantity = written["left"].get("quantity", written["left"].get("column", "mean"))
    compared = Comparison(ours, relation, than, tolerance, rows, None, left.reason or right.reason, is_check, quantity)
    if ours is None or than is None:
        return compared
    is_geometric = ours.is_geometric or than.is_geometric
    if is_geometric and (tolerance is not None or min(ours.value, than.value) <= 0):
        raise ValueError(
            f"{' and '.join(rows)}: geometric means are compared by their logarithms, without a tolerance, and with "
            f"numbers above zero; got {than.value:g}."
        )
    apart = difference(
        ours.samples or ours.value,
        than.samples or than.value,
        paired=left.table == right.table and ours.is_paired_with(than),
        logarithms=is_geometric,
        fewest=1 if is_check else 2,
        tests=(ours.tests, than.tests),
    )
    reason = "" if apart else f"a test needs two {(ours if ours.samples else than).unit}s or more"
    return compared._replace(difference=apart, reason=reason)


def _one_line(text: str) -> str:
    return " ".join(text.split())
