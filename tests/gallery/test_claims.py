"""Verdicts: each relation right and wrong, checks, what is paired, missing or a mistake, and the correction."""

import numpy as np
import pytest
import yaml
from scipy import stats
from small_gallery import cell, claim, figure

from gallery.claims import correct, evaluate_claim, judge_all
from gallery.claims_file import ClaimError
from gallery.quantifiers import expand
from gallery.significance import holm

# The samples of the rows of a rule; a number alone has none.
SAMPLES = {
    "low": [0.9, 1.0, 1.1],
    "middle": [1.5, 2.0, 2.5],  # its interval is 0.758 to 3.242
    "wide": [1.0, 2.2, 3.4],
    "constant": [2.0, 2.0, 2.0],
    "exact": 2.0,
    "lost": None,
    "negative": -2.0,
    "single": [2.0],
}


def row(rule, half):
    """The row of a rule; rows of different halves are of different tasks, so that they are not paired."""
    samples, cells = SAMPLES[rule], dict.fromkeys(("mean", "low", "high", "values"), "")
    if isinstance(samples, list):
        ends = (min(samples), max(samples)) if len(samples) > 1 else ("", "")  # what they are does not matter here
        cells = {"mean": np.mean(samples), "low": ends[0], "high": ends[1], "values": " ".join(map(str, samples))}
    elif samples is not None:
        cells["mean"] = samples
    return {"rule": rule, "half": half, "task": half} | {name: str(cell) for name, cell in cells.items()}


ROWS = [row(rule, half) for rule in SAMPLES for half in "ab"]
TABLES = {"x": ROWS, "y": [{"rule": "middle", "mean": "7"}], "empty": []}
MIDDLE = SAMPLES["middle"]


def side(name, half="a"):
    return cell("mean", rule=name, half=half) if isinstance(name, str) else name


def judged(ours, relation, than, *, at="full", stem="x", **more):
    return evaluate_claim(expand(claim("it", side(ours), relation, side(than), **more)), stem, TABLES, at)


def several(*parts):
    """A claim of several conditions."""
    conditions = [{"ours": side(ours), "relation": relation, "than": side(than)} for ours, relation, than in parts]
    return evaluate_claim({"id": "it", "kind": "finding", "all": conditions}, "x", TABLES, "full")


@pytest.mark.parametrize(
    "ours, relation, than, near, verdict",
    [
        ("middle", "above", 0.7, {}, "holds"),
        ("middle", "above", 0.8, {}, "unresolved"),
        ("middle", "above", 3.3, {}, "does not hold"),
        ("middle", "above", "low", {}, "holds"),  # pair by pair by 0.6, 1 and 1.4; the two intervals overlap
        ("exact", "above", "middle", {}, "unresolved"),
        ("middle", "near", 2.2, {"tolerance": 1.45}, "holds"),  # the difference is -1.442 to 1.042
        ("middle", "near", 2.2, {"tolerance": 1.44}, "unresolved"),
        ("middle", "near", 4.0, {"tolerance": 0.75}, "does not hold"),  # -3.242 to -0.758
        ("negative", "near", -2.2, {"tolerance": 0.1, "relative": True}, "holds"),
    ],
)
def test_relation_is_tested(ours, relation, than, near, verdict):
    assert judged(ours, relation, than, **near).verdict == verdict


@pytest.mark.parametrize(
    "ours, relation, than, more, holds",
    [
        ("middle", "above", 1.4, {}, True),
        ("middle", "near", 2.0, {"tolerance": 0.5}, True),
        ("low", "below", "middle", {}, True),
        ("low", "below", cell("mean", rule="middle", half="b"), {}, True),
        ("exact", "equal", 2.0, {}, True),
        ("single", "above", 2.5, {}, False),
    ],
)
def test_check_has_to_be_true_in_every_sample_and_has_no_p_value(ours, relation, than, more, holds):
    (found,) = correct([judged(ours, relation, than, kind="check", **more)])
    assert (found.verdict, found.p, found.corrected) == ("holds" if holds else "does not hold", None, None)


def test_number_can_be_compared_with_another_one_plus_and_times_something():
    low = np.array(SAMPLES["low"])
    changes = ({"plus": 0.5}, low + 0.5), ({"times": 1.5}, 1.5 * low), ({"error_times": 3}, 1 - 3 * (1 - low))
    for change, than in changes:
        (found,) = judged("middle", "above", side("low") | change).conditions
        assert found.than[:3] == pytest.approx((than.mean(), than.min(), than.max()))
        assert found.difference.kind == "paired" and next(iter(change)).replace("_", " ") in found.rows[1]
        assert min(found.evidence) == pytest.approx(stats.ttest_rel(MIDDLE, than).pvalue)


def test_samples_of_the_same_table_and_task_are_paired_and_others_are_not():
    kinds = {"a": "paired", "b": "not paired"}
    for half, kind in kinds.items():
        found = evaluate_claim(expand(claim("it", side("middle"), "above", side("low", half))), "x", TABLES, "full")
        assert found.conditions[0].difference.kind == kind
    assert found.p == pytest.approx(stats.ttest_ind(MIDDLE, SAMPLES["low"], equal_var=False).pvalue)


def test_geometric_means_are_compared_by_their_logarithms():
    """Ratios whose arithmetic mean is above 1 only since noise is not symmetric."""
    cells = {"name": "noise", "ratio": "1.0", "ratio_low": "0.1", "ratio_high": "10", "ratio_values": "0.25 0.25 4 4"}
    tables = {"x": [cells | {"ratio_mean": "geometric"}, cells | {"name": "plain", "ratio_mean": ""}]}

    def found(name):
        whole = expand(claim("it", cell("ratio", name=name), "above", 1.0))
        return evaluate_claim(whole, "x", tables, "full").conditions[0].difference

    assert found("noise").mean == pytest.approx(0.0, abs=1e-12) and found("noise").is_of_logarithms
    assert found("plain").mean == pytest.approx(1.125) and not found("plain").is_of_logarithms


P = {border: stats.ttest_1samp(MIDDLE, border).pvalue for border in (0.5, 0.7, 2.5, 3.3, 4.0)}
LOST, FEW = ["x.csv has no number there"], ["a test needs two seeds or more"]


@pytest.mark.parametrize(
    "parts, verdict, p, reasons",
    [
        ([("middle", "above", 0.5), ("middle", "above", 0.7)], "holds", P[0.7], []),
        ([("exact", "above", 1), ("exact", "below", 3)], "holds", None, []),
        ([("middle", "above", 0.5), ("middle", "below", 2.5)], "unresolved", P[2.5], []),
        ([("middle", "above", 3.3), ("middle", "above", 0.5)], "unresolved", 2 * P[3.3], []),
        ([("middle", "above", 4.0), ("lost", "above", 1)], "does not hold", 2 * P[4.0], []),
        ([("middle", "above", 0.5), ("lost", "above", 1)], "not run", None, LOST),
        ([("middle", "above", 0.5), ("single", "above", 1)], "unresolved", None, FEW),
    ],
)
def test_claim_holds_if_all_conditions_hold_and_fails_if_one_fails(parts, verdict, p, reasons):
    """The p-value is the largest one of all, or the smallest one times their number."""
    found = several(*parts)
    assert (found.verdict, found.reasons) == (verdict, reasons)
    assert found.p == (None if p is None else pytest.approx(p))


def test_tested_claims_are_corrected_together_and_others_take_no_part():
    tested = [("middle", "above", 0.5), ("middle", "above", 0.7), ("wide", "above", 1.0)]
    others = [("exact", "above", 1), ("single", "above", 1), ("lost", "above", 1)]
    found = correct([several(one) for one in (*others, *tested)])
    p = [stats.ttest_1samp(SAMPLES[ours], than).pvalue for ours, _, than in tested]
    assert [one.corrected for one in found] == [None, None, None, *map(pytest.approx, holm(p))]
    assert [one.verdict for one in found] == ["holds", "unresolved", "not run", *["unresolved"] * 3]
    assert [one.uncorrected for one in found[3:]] == ["holds", "holds", "unresolved"]


@pytest.mark.parametrize(
    "ours, than, more, reason",
    [
        ("middle", 3, {"scale": "paper"}, "is about the paper scale"),
        ("middle", "absent", {"needs": "spoken_digits"}, "needs spoken_digits"),
        ("absent", 3, {"at": "quick"}, "is left out at the quick scale"),
        ("middle", "lost", {}, "x.csv has no number there"),
        ("middle", 3, {"stem": "gone"}, "there is no gone.csv"),
    ],
)
def test_what_is_not_there_is_not_run(ours, than, more, reason):
    found = judged(ours, "below", than, **more)
    assert (found.verdict, found.reasons) == ("not run", [reason])


def claims_file(folder, experiment, *figures):
    path = folder / experiment / "claims.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({"figures": figures}))
    return path


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path):
    wrong = [claim(name, cell("mean", rule=name), "above", 1) for name in ("absent", "gone")]
    paths = [claims_file(tmp_path, "one", figure("x", "X", wrong)), claims_file(tmp_path, "two", {"stem": "y"})]
    with pytest.raises(ClaimError) as error:
        judge_all(paths, TABLES, "full")
    told = ["one/claims.yaml: x: absent: ", "one/claims.yaml: x: gone: ", "two/claims.yaml: y: 'title' is a required"]
    assert [text for text in told if text not in str(error.value)] == []


def test_correction_is_for_all_experiments_together(tmp_path):
    names = ("it", "other", "third")
    one, *others = [claim(name, side("middle"), "above", 0.7, statement=f"{name}\n is so.") for name in names]
    paths = [claims_file(tmp_path, "one", figure("x", "X\nx", [one]))]
    paths.append(claims_file(tmp_path, "more", figure("y", "Y", [one]), figure("z", "Z", others)))
    found = judge_all(paths, {"x": ROWS, "y": ROWS, "z": ROWS}, "full")
    assert [(one.experiment, one.stem, one.title) for one in found[:2]] == [("one", "x", "X x"), ("more", "y", "Y")]
    assert found[0].claims[0].statement == "it is so."
    corrected = [[each.corrected for each in one.claims] for one in found]
    assert corrected == [[pytest.approx(4 * P[0.7])] * count for count in (1, 1, 2)]
