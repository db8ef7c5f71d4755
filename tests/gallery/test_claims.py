"""Claims as they are read and judged: comparisons, margins, verdicts, what is paired, missing or a mistake, the correction."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats
from small_gallery import claim, figure, written

from experiments.pipeline.job import SCALES
from experiments.plot import plots_of
from gallery.claims import correct, judge, judge_all
from gallery.claims_file import SCHEMA, ClaimError, comparisons, form_of, read_claims
from gallery.tables import matching, number
from gallery.wording import sample
from slax_rules.train.intervals import holm

ROOT = Path(__file__).parents[2]
# The samples of the rows of a rule. The interval of `middle` is 0.758 to 3.242.
SAMPLES = {"low": [0.9, 1.0, 1.1], "middle": [1.5, 2.0, 2.5], "wide": [1.0, 2.2, 3.4], "single": [2.0]}
NUMBERS = {"exact": 2.0, "lost": "", "negative": -2.0}  # without samples
MIDDLE = SAMPLES["middle"]
ROWS = [
    dict(rule=rule, task=task, mean=str(np.mean(of)), low=str(min(of)), high="9", values=" ".join(map(str, of)))
    for rule, of in SAMPLES.items()
    for task in "ab"
]
ROWS += [{"rule": rule, "task": "a", "mean": str(mean), "low": "", "values": ""} for rule, mean in NUMBERS.items()]


def judged(left, relation, right, *, at="full", rows=ROWS, **more):
    left, right = ({"rule": side} if isinstance(side, str) else side for side in (left, right))
    whole = claim("it", {"task": "a"} | left, relation, right, **more)
    return judge(whole | {"comparisons": list(comparisons(whole))}, "x", {"x": rows}, at, strict=at == "full")


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
        ("negative", "near", -2.2, 0.25, "holds"),
    ],
)
def test_relation_is_tested_with_its_margin(left, relation, right, margin, verdict):
    assert judged(left, relation, right, margin=margin).verdict == verdict


@pytest.mark.parametrize("margin, right", [({"times": 1.5}, [1.35, 1.5, 1.65]), ({"errors": 3}, [0.7, 1.0, 1.3])])
def test_right_number_is_multiplied_or_gets_more_errors_sample_by_sample(margin, right):
    (found,) = judged("middle", "above", "low", margin=margin).comparisons
    assert found.right.samples == pytest.approx(right)
    assert min(found.evidence) == pytest.approx(stats.ttest_rel(MIDDLE, right).pvalue)


def test_check_has_to_be_true_in_every_sample_and_has_no_p_value():
    true, false = [("middle", 1.4), ("middle", "low"), ("single", 1)], [("middle", 1.6), ("middle", "wide")]
    found = correct([judged(left, "above", right, kind="check") for left, right in true + false])
    assert [one.verdict for one in found] == ["holds"] * 3 + ["does not hold"] * 2
    assert {(one.p, one.corrected) for one in found} == {(None, None)}


def test_samples_of_the_same_table_and_task_are_paired_and_others_are_not():
    for task, kind in {"a": "paired", "b": "not paired"}.items():
        found = judged("middle", "above", {"rule": "low", "task": task})
        assert found.comparisons[0].difference.kind == kind
    assert found.p == pytest.approx(stats.ttest_ind(MIDDLE, SAMPLES["low"], equal_var=False).pvalue)
    cells = {"task": "64-50", "mean": "0.5", "low": "0.4", "high": "0.6", "values": "0.45 None 0.55"}
    for other in ({"task": "32"}, {"depth": "3"}, {"inputs": "gaussian"}, {"values": "0.45 0.55"}, {"rounds": "3"}):
        assert not number(cells, "mean").is_paired_with(number(cells | other, "mean"))
    assert number(cells, "mean").is_paired_with(number(cells | {"mean": "0.7", "rule": "otpe", "layer": "2"}, "mean"))


def test_a_test_set_that_seeds_have_in_common_is_a_sample_as_well():
    cells = {"task": "a", "mean": "0.5", "low": "0.4", "high": "0.6", "values": "0.5 0.5"}
    (with_tests, without) = (judged({}, "above", 0.2, rows=[cells | {"tests": tests}]) for tests in ("1 1 2 0", ""))
    assert 0 < with_tests.p < 1 and without.p is None


def test_geometric_means_are_compared_by_their_logarithms():
    """Ratios whose arithmetic mean is above 1 only since noise is not symmetric."""
    cells = {"task": "a", "ratio": "1.0", "ratio_low": "0.1", "ratio_high": "10", "ratio_values": "0.25 0.25 4 4"}
    for kind, mean in {"geometric": 0.0, "": 1.125}.items():
        (found,) = judged({"column": "ratio"}, "above", 1.0, rows=[cells | {"ratio_mean": kind}]).comparisons
        assert found.difference.mean == pytest.approx(mean, abs=1e-12)


P = {border: stats.ttest_1samp(MIDDLE, border).pvalue for border in (0.5, 0.7, 2.5, 3.3, 4.0)}


@pytest.mark.parametrize(
    "parts, verdict, p",
    [
        ([("middle", "above", 0.5), ("middle", "above", 0.7)], "holds", P[0.7]),
        ([("exact", "above", 1), ("exact", "below", 3)], "holds", None),
        ([("middle", "above", 0.5), ("middle", "below", 2.5)], "unresolved", P[2.5]),
        ([("middle", "above", 3.3), ("middle", "above", 0.5)], "unresolved", 2 * P[3.3]),
        ([("middle", "above", 4.0), ("lost", "above", 1)], "does not hold", 2 * P[4.0]),
        ([("middle", "above", 0.5), ("lost", "above", 1)], "not run", 1.0),
        ([("middle", "above", 0.5), ("single", "above", 1)], "unresolved", 1.0),
        ([("exact", "above", 3), ("middle", "above", 0.5)], "does not hold", None),
    ],
)
def test_claim_holds_if_all_comparisons_hold_and_fails_if_one_fails(parts, verdict, p):
    """The p-value is the largest one of all, or the smallest one times their number."""
    parts = [{"left": {"rule": left}, "relation": relation, "right": right} for left, relation, right in parts]
    found = judged({}, "above", 0, all=parts)
    assert found.verdict == verdict and found.p == (None if p is None else pytest.approx(p))


def test_tested_claims_are_corrected_together_and_others_take_no_part():
    tested = [("middle", 0.5), ("middle", 0.7), ("wide", 1.0)]
    pairs = [("exact", 1), ("single", 1), ("lost", 1), *tested]
    found = correct([judged(left, "above", right) for left, right in pairs])
    p = [stats.ttest_1samp(SAMPLES[left], right).pvalue for left, right in tested]
    assert [one.corrected for one in found] == [None, None, None, *map(pytest.approx, holm(p))]
    assert [one.verdict for one in found] == ["holds", "unresolved", "not run", *["unresolved"] * 3]
    assert [one.uncorrected for one in found[3:]] == ["holds", "holds", "unresolved"]


def test_samples_of_a_sentence_are_those_of_its_least_sure_comparison():
    parts = [("middle", 0.5), ("middle", {"rule": "low", "task": "b"}), ("low", 0)]
    parts = [{"left": {"rule": left}, "right": right} for left, right in parts]
    (found,) = correct([judged({}, "above", 0, all=parts)])
    p = stats.ttest_ind(MIDDLE, SAMPLES["low"], equal_var=False).pvalue
    assert sample(found) == f"n = 3+3 seeds, p = {p:.2g}"


def test_a_form_is_of_kind_scales_figure_and_comparisons_but_not_of_words():
    one = claim("it", {"rule": "otpe"}, "above", 1, scale="full")
    one["comparisons"] = list(comparisons(one))
    same = one | {"id": "other", "sentence": "S", "source": "s", "why": "w", "scale": ["full"]}
    assert form_of(one, "x") == form_of(same, "x")
    other = list(comparisons(one | {"right": 2}))
    changed = [one | change for change in ({"kind": "check"}, {"scale": "paper"}, {"comparisons": other})]
    assert len({form_of(one, "x"), form_of(one, "y"), *(form_of(each, "x") for each in changed)}) == 5


def test_quantity_of_a_cell_is_that_of_its_table():
    rows = [{"task": "a", "way": "a", "variant": "b", "rule": "c", "mean": "1", "cosine": "1"}]
    places = [{"way": "a"}, {"variant": "b"}, {"rule": "c"}, {"way": "a", "column": "cosine"}]
    found = [judged(place, "above", 0, rows=rows).comparisons[0].quantity for place in places]
    assert found == ["accuracy", "accuracy", "mean", "cosine"]


def test_what_is_not_there_is_not_run_and_says_why():
    cases = [("middle", 3, {"scale": "paper"}), ("absent", 3, {"at": "quick"})]
    cases += [("middle", "lost", {}), ({"table": "y"}, 3, {})]
    for left, right, more in cases:
        found = judged(left, "below", right, **more)
        assert found.verdict == "not run" and all(found.reasons)


def test_values_in_lists_make_one_comparison_each_and_parts_change_the_claim():
    whole = claim("it", {"rule": "otpe", "layer": [1, None]}, "above", {"rule": ["ottt", "ostl"]})
    pairs = [(layer, other) for layer in (1, None) for other in ("ottt", "ostl")]
    found = [(one["left"], one["right"]) for one in comparisons(whole)]
    assert found == [({"rule": "otpe", "layer": n}, {"rule": other, "layer": n}) for n, other in pairs]
    parts = [{"left": {"layer": 1}, "right": 0.5}, {"left": {"layer": 2}, "relation": "below", "right": 3}]
    found = [(one["left"], one["relation"], one["right"]) for one in comparisons(whole | {"all": parts})]
    assert found == [({"rule": "otpe", "layer": 1}, "above", 0.5), ({"rule": "otpe", "layer": 2}, "below", 3)]
    (example, _) = re.findall(r"```yaml\n(.*?)```", (ROOT / "gallery/README.md").read_text(), flags=re.DOTALL)
    assert SCHEMA["$defs"]["scale"]["enum"] == list(SCALES) and yaml.safe_load(example)["figures"]


def claims_file(folder, *figures):
    return written(folder / "claims.yaml", yaml.safe_dump({"figures": list(figures)}))


def test_correction_is_for_all_experiments_together_and_all_mistakes_are_named(tmp_path):
    one, *others = [claim(name, {"rule": "middle", "task": "a"}, "above", 0.7) for name in ("it", "other", "third")]
    paths = [claims_file(tmp_path / "one", figure("x", "X", [one]))]
    paths.append(claims_file(tmp_path / "more", figure("y", "Y", [one]), figure("z", "Z", others)))
    tables = dict.fromkeys("xyz", ROWS)
    found = judge_all(paths, tables, "full")
    assert [(one.experiment, one.stem, one.title) for one in found[:2]] == [("one", "x", "X"), ("more", "y", "Y")]
    assert [len(one.claims) for one in found] == [1, 1, 2]
    assert all(each.corrected == pytest.approx(4 * P[0.7]) for one in found for each in one.claims)
    wrong = [claim(name, {"rule": name}, "above", 1) for name in ("absent", "gone")]
    paths += [claims_file(tmp_path / "two", figure("x", "X", wrong)), claims_file(tmp_path / "three", {"stem": "v"})]
    with pytest.raises(ClaimError) as error:
        judge_all(paths, tables, "full")
    for named in ("x: absent: ", "x: gone: ", "three/claims.yaml: figures: v: 'title'", "the stem x occurs twice"):
        assert named in str(error.value)
    with pytest.raises(ClaimError, match="the claim four/it occurs twice"):
        judge_all([claims_file(tmp_path / "four", figure("x", "X", [one]), figure("y", "Y", [one]))], tables, "full")
    for scale, is_complete in (("full", False), ("quick", True)):
        (left_out,) = judge_all(paths[2:3], tables, scale, is_complete=is_complete)
        assert [one.verdict for one in left_out.claims] == ["not run"] * 2


def test_mistakes_in_a_claim_are_named_with_their_place(tmp_path):
    changes = {"margin": {"errors": 1.2}}, {"all": [{}, {"margin": {"times": 2}}]}, {"relation": "equal"}
    wrong = [claim(name, {"rule": "otpe"}, "above", 1) | one for name, one in zip("abc", changes, strict=True)]
    with pytest.raises(ClaimError, match=r"a: 'why' is a .*\n.* b: 'why' is a .*\n.* c: 'check' was expected"):
        read_claims(claims_file(tmp_path, figure("x", "X", wrong)))


def test_defaults_of_a_figure_are_those_of_its_claims(tmp_path):
    defaults = {"source": "the paper", "scale": ["quick", "full"]}
    one = figure("x", "X", [claim("it", {"rule": "otpe"}, "above", 1)]) | {"defaults": defaults}
    (found,) = read_claims(claims_file(tmp_path, one))
    assert [found["claims"][0][key] for key in defaults] == ["ours", ["quick", "full"]]


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/*/claims.yaml")), ids=lambda path: path.parent.name)
def test_every_figure_has_claims_and_docs_have_those_that_are_run(path):
    figures, docs = read_claims(path), (ROOT / "docs/RESULTS.md").read_text().replace("\\", "")
    drawn = {stem: bool(plot.draw) for stem, plot in plots_of(path.parent.name).items()}
    told = f"add what differs to {path}, or to FIGURES of its plot.py"
    assert drawn == {each["stem"]: "alt" in each for each in figures}, told
    part = docs.partition(f"\n## {path.parent.name}\n")[2].partition("\n## ")[0]
    claims = [one for each in figures for one in each["claims"] if one["kind"] != "check"]
    rows = re.sub(r" *\| *", "|", part)
    shown = [one["id"] for one in claims if f"|{' '.join(one['sentence'].split())}|" in rows]
    not_run = re.search(r"not run: (\d+)\.", " ".join(part.split()))
    assert len(claims) - len(shown) == (int(not_run[1]) if not_run else 0), "run `make claims`"


def test_cells_are_compared_as_numbers_or_else_as_text():
    rows = [{"task": "64-50", "layer": "1"}, {"task": "64-50", "layer": ""}, {"task": "1e1", "layer": "2.0"}]
    wanted = [{"task": "64-50", "layer": 1}, {"layer": 2}, {"layer": None}, {"layer": ""}, {"task": 10}, {"task": "64"}]
    assert [[rows.index(row) for row in matching(rows, where)] for where in wanted] == [[0], [2], [1], [1], [2], []]
    with pytest.raises(ValueError, match="has no column rule"):
        matching(rows, {"rule": 1})


def test_number_has_the_interval_and_samples_beside_it():
    row = {"cosine": "0.5", "cosine_low": "-1", "cosine_high": "1", "cosine_values": "0 None"}
    row |= {"low": "7", "rounds": "2"}
    assert number(row, "cosine")[:5] == (0.5, -1.0, 1.0, (0.0, None), "round")
    assert number(row, "low")[:4] == (7.0, 7.0, 7.0, ()) and number(row | {"low": ""}, "low") is None
