"""Claims as they are read and judged: comparisons, margins, verdicts, what is paired, missing or a mistake, the correction."""

import copy
import importlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats
from small_gallery import claim, figure, written

from experiments.pipeline.job import SCALES
from gallery.claims import correct, judge, judge_all
from gallery.claims_file import SCHEMA, ClaimError, comparisons, read_claims
from gallery.significance import holm
from gallery.tables import matching, number

ROOT = Path(__file__).parents[2]
# The samples of the rows of a rule; a number alone has none.
SAMPLES = {
    "low": [0.9, 1.0, 1.1],
    "middle": [1.5, 2.0, 2.5],  # its interval is 0.758 to 3.242
    "wide": [1.0, 2.2, 3.4],
    "exact": 2.0,
    "lost": None,
    "negative": -2.0,
    "single": [2.0],
}
MIDDLE = SAMPLES["middle"]


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
TABLES = {"x": ROWS, "y": [{"rule": "middle", "mean": "7"}]}


def judged(left, relation, right, *, at="full", tables=TABLES, **more):
    left, right = ({"rule": side} if isinstance(side, str) else side for side in (left, right))
    whole = claim("it", {"half": "a"} | left, relation, right, **more)
    return judge(whole | {"comparisons": list(comparisons(whole))}, "x", tables, at, strict=at == "full")


def several(*parts):
    """A claim of several comparisons."""
    return judged(
        {},
        "above",
        0,
        all=[{"left": {"rule": left}, "relation": relation, "right": right} for left, relation, right in parts],
    )


@pytest.mark.parametrize(
    "left, relation, right, margin, verdict",
    [
        ("middle", "above", 0.7, None, "holds"),
        ("middle", "above", 0.8, None, "unresolved"),
        ("middle", "above", 3.3, None, "does not hold"),
        ("middle", "above", 0.5, 0.25, "holds"),
        ("middle", "above", 0.5, 0.3, "unresolved"),
        ("middle", "below", 3.5, 0.25, "holds"),
        ("middle", "below", 3.5, 0.3, "unresolved"),
        ("middle", "above", "low", None, "holds"),  # pair by pair by 0.6, 1 and 1.4; the two intervals overlap
        ("exact", "above", "middle", None, "unresolved"),
        ("middle", "near", 2.2, 1.45, "holds"),  # the difference is -1.442 to 1.042
        ("middle", "near", 2.2, 1.44, "unresolved"),
        ("middle", "near", 4.0, 0.75, "does not hold"),  # -3.242 to -0.758
        ("negative", "near", -2.2, {"share": 0.1}, "holds"),
        ("negative", "near", -2.2, {"share": 0.05}, "does not hold"),
    ],
)
def test_relation_is_tested_with_its_margin(left, relation, right, margin, verdict):
    assert judged(left, relation, right, margin=margin).verdict == verdict


@pytest.mark.parametrize(
    "margin, right", [({"times": 1.5}, 1.5 * np.array([0.9, 1, 1.1])), ({"errors": 3}, [0.7, 1, 1.3])]
)
def test_right_number_is_multiplied_or_gets_more_errors(margin, right):
    (found,) = judged("middle", "above", "low", margin=margin).comparisons
    assert found.right[:3] == pytest.approx((np.mean(right), min(right), max(right)))
    assert min(found.evidence) == pytest.approx(stats.ttest_rel(MIDDLE, right).pvalue)


@pytest.mark.parametrize(
    "left, relation, right, holds",
    [("middle", "above", 1.4, True), ("low", "below", "middle", True), ("single", "above", 2.5, False)],
)
def test_check_has_to_be_true_in_every_sample_and_has_no_p_value(left, relation, right, holds):
    (found,) = correct([judged(left, relation, right, kind="check")])
    assert (found.verdict, found.p, found.corrected) == ("holds" if holds else "does not hold", None, None)


def test_samples_of_the_same_table_and_task_are_paired_and_others_are_not():
    for half, kind in {"a": "paired", "b": "not paired"}.items():
        found = judged("middle", "above", {"rule": "low", "half": half})
        assert found.comparisons[0].difference.kind == kind
    assert found.p == pytest.approx(stats.ttest_ind(MIDDLE, SAMPLES["low"], equal_var=False).pvalue)


def test_geometric_means_are_compared_by_their_logarithms():
    """Ratios whose arithmetic mean is above 1 only since noise is not symmetric."""
    cells = {"name": "noise", "ratio": "1.0", "ratio_low": "0.1", "ratio_high": "10", "ratio_values": "0.25 0.25 4 4"}
    rows = [cells | {"half": "a", "ratio_mean": "geometric"}, cells | {"half": "a", "name": "plain", "ratio_mean": ""}]
    noise, plain = (
        judged({"name": name, "column": "ratio"}, "above", 1.0, tables={"x": rows}).comparisons[0].difference
        for name in ("noise", "plain")
    )
    assert noise.mean == pytest.approx(0.0, abs=1e-12) and noise.is_of_logarithms
    assert plain.mean == pytest.approx(1.125) and not plain.is_of_logarithms


P = {border: stats.ttest_1samp(MIDDLE, border).pvalue for border in (0.5, 0.7, 2.5, 3.3, 4.0)}


@pytest.mark.parametrize(
    "parts, verdict, p",
    [
        ([("middle", "above", 0.5), ("middle", "above", 0.7)], "holds", P[0.7]),
        ([("exact", "above", 1), ("exact", "below", 3)], "holds", None),
        ([("middle", "above", 0.5), ("middle", "below", 2.5)], "unresolved", P[2.5]),
        ([("middle", "above", 3.3), ("middle", "above", 0.5)], "unresolved", 2 * P[3.3]),
        ([("middle", "above", 4.0), ("lost", "above", 1)], "does not hold", 2 * P[4.0]),
        ([("middle", "above", 0.5), ("lost", "above", 1)], "not run", None),
        ([("middle", "above", 0.5), ("single", "above", 1)], "unresolved", None),
    ],
)
def test_claim_holds_if_all_comparisons_hold_and_fails_if_one_fails(parts, verdict, p):
    """The p-value is the largest one of all, or the smallest one times their number."""
    found = several(*parts)
    assert found.verdict == verdict and found.p == (None if p is None else pytest.approx(p))


def test_tested_claims_are_corrected_together_and_others_take_no_part():
    tested = [("middle", "above", 0.5), ("middle", "above", 0.7), ("wide", "above", 1.0)]
    others = [("exact", "above", 1), ("single", "above", 1), ("lost", "above", 1)]
    found = correct([judged(*one) for one in (*others, *tested)])
    p = [stats.ttest_1samp(SAMPLES[left], right).pvalue for left, _, right in tested]
    assert [one.corrected for one in found] == [None, None, None, *map(pytest.approx, holm(p))]
    assert [one.verdict for one in found] == ["holds", "unresolved", "not run", *["unresolved"] * 3]
    assert [one.uncorrected for one in found[3:]] == ["holds", "holds", "unresolved"]


@pytest.mark.parametrize(
    "left, right, more",
    [
        ("middle", 3, {"scale": "paper"}),
        ("absent", 3, {"at": "quick"}),
        ("middle", "lost", {}),
        ({"table": "gone"}, 3, {}),
    ],
)
def test_what_is_not_there_is_not_run_and_says_why(left, right, more):
    found = judged(left, "below", right, **more)
    assert found.verdict == "not run" and all(found.reasons)


def test_values_in_lists_make_one_comparison_each_and_parts_change_the_claim():
    whole = claim("it", {"rule": "otpe", "layer": [1, None]}, "above", {"rule": ["ottt", "ostl"]})
    found = [(one["left"], one["right"]) for one in comparisons(whole)]
    assert found == [
        ({"rule": "otpe", "layer": layer}, {"rule": other, "layer": layer})
        for layer in (1, None)
        for other in ("ottt", "ostl")
    ]
    parts = [{"left": {"layer": 1}, "right": 0.5}, {"left": {"layer": [2, 3]}, "relation": "below"}]
    found = [(one["left"]["layer"], one["relation"], one["right"]) for one in comparisons(whole | {"all": parts})]
    assert found[0] == (1, "above", 0.5) and {one[:2] for one in found[1:]} == {(2, "below"), (3, "below")}


def claims_file(folder, name, *figures):
    return written(folder / name / "claims.yaml", yaml.safe_dump({"figures": list(figures)}))


def test_correction_is_for_all_experiments_together_and_mistakes_are_named_at_once(tmp_path):
    left = {"rule": "middle", "half": "a"}
    one, *others = [claim(name, left, "above", 0.7) for name in ("it", "other", "third")]
    paths = [claims_file(tmp_path, "one", figure("x", "X\nx", [one]))]
    paths.append(claims_file(tmp_path, "more", figure("y", "Y", [one]), figure("z", "Z", others)))
    found = judge_all(paths, dict.fromkeys("xyz", ROWS), "full")
    assert [(one.experiment, one.stem, one.title) for one in found[:2]] == [("one", "x", "X x"), ("more", "y", "Y")]
    corrected = [[each.corrected for each in one.claims] for one in found]
    assert corrected == [[pytest.approx(4 * P[0.7])] * count for count in (1, 1, 2)]
    wrong = [claim(name, {"rule": name}, "above", 1) for name in ("absent", "gone")]
    paths += [claims_file(tmp_path, "two", figure("x", "X", wrong)), claims_file(tmp_path, "three", {"stem": "v"})]
    with pytest.raises(ClaimError) as error:
        judge_all(paths, dict.fromkeys("xyz", ROWS), "full")
    named = ("x: absent: ", "x: gone: ", "three/claims.yaml: figures: v: 'title'", "the stem x belongs")
    assert [text for text in named if text not in str(error.value)] == []
    assert (
        judge_all(paths[:3][2:], dict.fromkeys("xyz", ROWS), "full", is_complete=False)[0].claims[0].verdict
        == "not run"
    )


GOOD = {"figures": [figure("x", "X", [claim("it", {"rule": "otpe"}, "above", 1)])]}


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"relation": "near", "margin": 1}, "it: a margin has a reason"),
        ({"relation": "near", "why": "so"}, "it: near needs a margin"),
        ({"margin": {"errors": 1.2}}, "it: a margin has a reason"),
        ({"relatoin": "above"}, "'relatoin' was unexpected"),
        ({"relation": None}, "None is not one of"),
        ({"source": ...}, "it: source is missing"),
        ({"right": ...}, "it: right is missing"),
        ({"id": "a b"}, "does not match"),
    ],
)
def test_mistakes_in_a_claim_are_named_with_their_place(tmp_path, changes, named):
    content = copy.deepcopy(GOOD)
    (one,) = content["figures"][0]["claims"]
    content["figures"][0]["claims"] = [{key: value for key, value in (one | changes).items() if value is not ...}]
    with pytest.raises(ClaimError, match=named):
        read_claims(written(tmp_path / "claims.yaml", yaml.safe_dump(content)))


def test_defaults_of_a_figure_are_those_of_its_claims(tmp_path):
    content = copy.deepcopy(GOOD)
    content["figures"][0]["defaults"] = {"source": "the paper", "scale": ["quick", "full"]}
    (found,) = read_claims(written(tmp_path / "claims.yaml", yaml.safe_dump(content)))
    assert [found["claims"][0][key] for key in ("source", "scale")] == ["ours", ["quick", "full"]]
    assert SCHEMA["$defs"]["scale"]["enum"] == list(SCALES)


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/*/claims.yaml")), ids=lambda path: path.parent.name)
def test_every_figure_has_claims(path):
    figures = importlib.import_module(f"experiments.{path.parent.name}.plot").FIGURES
    assert figures.keys() == {each["stem"] for each in read_claims(path)}


CELLS = {"task": "64-50", "layer": "1", "mean": "0.5", "low": "0.4", "high": "0.6", "values": "0.45 None 0.55"}


def test_cells_are_compared_as_numbers_or_else_as_text():
    rows = [CELLS, {"task": "64-50"} | dict.fromkeys(list(CELLS)[1:], ""), CELLS | {"task": "1e1", "layer": "2.0"}]
    wanted = [{"task": "64-50", "layer": 1}, {"layer": 2}, {"layer": None}, {"layer": ""}, {"task": 10}, {"task": "64"}]
    assert [[rows.index(row) for row in matching(rows, where)] for where in wanted] == [[0], [2], [1], [1], [2], []]
    with pytest.raises(ValueError, match="has no column rule"):
        matching(rows, {"rule": 1})


def test_number_has_the_interval_and_samples_beside_it():
    assert number(CELLS, "mean")[:5] == (0.5, 0.4, 0.6, (0.45, None, 0.55), "seed")
    row = {"cosine": "0.5", "cosine_low": "-1", "cosine_high": "1", "cosine_values": "0 1", "low": "7", "rounds": "2"}
    assert number(row, "cosine")[:5] == (0.5, -1.0, 1.0, (0.0, 1.0), "round")
    assert number(row, "low")[:4] == (7.0, 7.0, 7.0, ()) and number(CELLS | {"mean": ""}, "mean") is None


def test_samples_belong_together_where_data_and_network_and_number_of_seeds_are_the_same():
    for other in ({"task": "32"}, {"depth": "3"}, {"values": "0.45 0.55"}, {"rounds": "3"}):
        assert not number(CELLS, "mean").is_paired_with(number(CELLS | other, "mean"))
    assert number(CELLS, "mean").is_paired_with(number(CELLS | {"mean": "0.7", "rule": "otpe", "layer": "2"}, "mean"))
