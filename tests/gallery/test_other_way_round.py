"""The claims by which another rule is ahead of the winner of a finding: none is left out, whatever its kind and verdict."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from small_gallery import claim

from gallery.claims import Figure, judge
from gallery.claims_file import comparisons, read_claims
from gallery.findings import ahead_of
from gallery.significance import Difference

WINNERS = ("bptt", "otpe", "ottt", "ostl", "tbptt", "recomputed", "sltt")
HIGHER = {"accuracy", "last_accuracy", "best_accuracy", "early", "late", "cosine", "trained", "initial", "return"}
LOWER = {"loss", "nmse", "nats", "milliseconds"}
LOWER |= {"bytes", "counted_bytes", "measured_bytes", "temporary_bytes", "bytes_per_sample"}
OVER_BPTT = {"bytes_times_bptt", "times_bptt"}  # 1 is BPTT
# Of two rules, neither is better by these. What a new claim measures belongs here, or above and into the lists of findings.py.
NEITHER = {"barrier", "bias_squared", "norm_ratio", "rates", "relative_variance", "rise", "variance"}
NEITHER |= {"alike", "log10_length", "error", "bound", "least_cosine"}
FILES = sorted(Path(__file__).parents[2].glob("experiments/*/claims.yaml"))
REAL = [(figure["stem"], one) for path in FILES for figure in read_claims(path) for one in figure["claims"]]
SIDES = [one[side] for _, of in REAL for one in of["comparisons"] for side in ("left", "right")]
RULES = {
    str(side[key]).removesuffix("_10")
    for side in SIDES
    if isinstance(side, dict)
    for key in side.keys() & {"rule", "way", "temporal"}
}


def about(place):
    """The rules of a cell: any word in it, but truncation alone if there is some."""
    words = {str(value).removesuffix("_10") for value in place.values()}
    return {"tbptt"} if any(word.startswith(("tbptt", "truncation", "in_")) for word in words) else words & RULES


def measured(place):
    return place.get("quantity") or place.get("column") or ("accuracy" if {"way", "variant"} & place.keys() else "mean")


def moved(part):
    """By how much a margin moves the right number, if this is a half."""
    margin, sign = part["margin"], {"above": 1, "below": -1}.get(part["relation"], 0)
    if isinstance(margin, dict):
        return margin.get("times", 1.0) * (1 - margin.get("errors", 1.0) * 0.5) - 0.5
    return sign * (margin or 0.0)


def ahead(one, holds):
    """The pairs of rules, the better one first, of a claim all of whose comparisons are true, or are false."""
    for part in one["comparisons"]:
        left, right, of = part["left"], part["right"], measured(part["left"])
        sign = {"above": 1, "below": -1}.get(part["relation"], 0) * (1 if holds else -1)
        others, by = about(right) if isinstance(right, dict) else (), moved(part)
        if not isinstance(right, dict) and of in OVER_BPTT | {"minus_bptt"}:
            others, by = {"bptt"}, right - (of in OVER_BPTT)
        if sign and sign * by >= 0 and of in HIGHER | LOWER | OVER_BPTT | {"minus_bptt"}:
            for pair in itertools.product(about(left), others):
                yield pair if (sign > 0) == (of in HIGHER | {"minus_bptt"}) else pair[::-1]


def outcome(stem, one, holds):
    """The claim as if all of its comparisons were true, or were false."""
    found = judge(one, stem, {}, "full", False)
    parts = []
    for part, raw in zip(found.comparisons, one["comparisons"], strict=True):
        mean = {"above": 1.0, "below": -1.0}.get(part.relation, 0.0)
        mean = mean if holds else -mean or 1.0 + (part.tolerance or 0.0)
        exact = Difference("exact", mean, (1,), (), (mean, mean), 1.0, False, True)
        parts.append(part._replace(difference=exact, moved=moved(raw)))
    return replace(found, comparisons=tuple(parts))


@pytest.mark.parametrize("holds", [True, False])
def test_of_the_real_claims_none_is_left_out(holds):
    claims = [(outcome(stem, one, holds), set(ahead(one, holds))) for stem, one in REAL]
    assert {claim.verdict for claim, _ in claims} == {"holds" if holds else "does not hold"}
    figures, total = [Figure("all", *[""] * 5, tuple(claim for claim, _ in claims))], 0
    for winner in WINNERS:
        expected = [claim for claim, pairs in claims if any(rule == winner != other for other, rule in pairs)]
        assert ahead_of(winner, figures) == expected
        total += len(expected)
    assert total > 60


def test_it_is_known_of_each_quantity_whether_more_of_it_is_better():
    parts = [part for _, one in REAL for part in one["comparisons"] if isinstance(part["right"], dict)]
    of_rules = {measured(part["left"]) for part in parts if about(part["left"]) ^ about(part["right"])}
    new = of_rules - HIGHER - LOWER - OVER_BPTT - NEITHER
    assert not new, "add these to HIGHER or LOWER here and to MORE or LESS of gallery/findings.py, or to NEITHER here"


COLUMNS = ("bytes", "times_bptt", "length")
OF_RULES = ("otpe 3 0.9", "0.89 0.9 0.91"), ("ostl 2 0.5", "0.49 0.5 0.51"), ("bptt 1 0.8", "0.1 0.8 1.5")
ROWS = [
    dict.fromkeys(COLUMNS, number) | {"rule": rule, "quantity": "accuracy", "mean": mean, "values": values}
    for (rule, number, mean), values in ((of.split(), values) for of, values in OF_RULES)
]
LESS_BYTES = {"left": {"rule": "ostl", "column": "bytes"}, "relation": "below", "right": {"rule": "otpe"}}


@pytest.mark.parametrize(
    ("left", "relation", "right", "more", "behind"),
    [
        ("otpe", "below", {"rule": "ostl"}, {}, "ostl"),  # does not hold
        ("ostl", "near", {"rule": "otpe"}, {"margin": 1.0}, ""),
        ("otpe", "above", {"rule": "bptt"}, {}, ""),  # unresolved
        ("otpe", "above", {"rule": "ostl"}, {"margin": 0.6}, ""),  # ahead, but not by as much
        ("otpe", "above", {"rule": "ostl"}, {"margin": -0.2}, ""),  # it might have been behind
        ("ostl", "above", {"rule": "otpe"}, {"margin": -0.2}, "ostl"),
        ("ostl bytes", "below", {"rule": "otpe"}, {"margin": {"times": 1.1}}, ""),
        ("otpe", "above", {"rule": "ostl"}, {"margin": {"errors": 1.1}}, ""),
        ("ostl bytes", "above", {"rule": "otpe"}, {"kind": "check"}, "otpe"),
        ("ostl length", "below", {"rule": "otpe"}, {"kind": "check"}, ""),
        ("ostl times_bptt", "below", 1.5, {}, "ostl"),  # it is 2
        ("otpe", "below", {"rule": "ostl"}, {"all": [{}, LESS_BYTES]}, "ostl"),  # the first part is false
        ("otpe", "above", {"quantity": "accuracy"}, {}, ""),  # of itself
    ],
)
def test_a_rule_is_ahead_by_what_is_true_of_the_numbers(left, relation, right, more, behind):
    rule, *column = left.split()
    words = {"column": column[0]} if column else {"quantity": "accuracy"}
    whole = claim("it", {"rule": rule} | words, relation, right, **more)
    found = judge(whole | {"comparisons": list(comparisons(whole))}, "x", {"x": ROWS}, "full", True)
    figures = [Figure("one", *[""] * 5, (found,))]
    assert [one for one in ("otpe", "ostl", "bptt") if ahead_of(one, figures)] == behind.split()
