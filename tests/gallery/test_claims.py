"""Verdicts: each relation, each verdict, what is paired, what is missing, what is a mistake, and the correction."""

import numpy as np
import pytest
import yaml
from scipy import stats
from small_gallery import cell, claim, figure

from gallery.claims import correct, evaluate_claim, judge_all
from gallery.claims_file import ClaimError
from gallery.quantifiers import expand
from gallery.significance import LEVEL, holm, samples_needed

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
    samples = SAMPLES[rule]
    cells = dict.fromkeys(("mean", "low", "high", "values"), "")
    if isinstance(samples, list):
        cells |= {"mean": str(np.mean(samples)), "values": " ".join(map(str, samples))}
        if len(samples) > 1:  # what the ends of the interval are does not matter here
            cells |= {"low": str(min(samples)), "high": str(max(samples))}
    elif samples is not None:
        cells["mean"] = str(samples)
    return {"rule": rule, "half": half, "task": {"a": "first", "b": "second"}[half], **cells}


ROWS = [row(rule, half) for rule in SAMPLES for half in "ab"]
TABLES = {"x": ROWS, "y": [{"rule": "middle", "mean": "7"}], "empty": []}


def side(name, half="a"):
    return cell("mean", rule=name, half=half) if isinstance(name, str) else name


def judged(ours, relation, than, *, at="full", stem="x", **more):
    return evaluate_claim(expand(claim("it", side(ours), relation, side(than), **more)), stem, TABLES, at)


@pytest.mark.parametrize(
    "ours, relation, than, verdict",
    [
        ("middle", "above", 0.7, "holds"),
        ("middle", "above", 0.8, "not resolved"),
        ("middle", "above", 1.9, "not resolved"),
        ("middle", "above", 2.0, "not resolved"),
        ("middle", "above", 3.2, "not resolved"),
        ("middle", "above", 3.3, "does not hold"),
        ("middle", "above", "low", "holds"),  # pair by pair by 0.6, 1 and 1.4; the two intervals overlap
        ("low", "above", "middle", "does not hold"),
        ("wide", "above", "middle", "not resolved"),
        ("exact", "above", 1.99, "holds"),
        ("exact", "above", 2.0, "does not hold"),
        ("exact", "above", "low", "holds"),
        ("exact", "above", "middle", "not resolved"),
        ("constant", "above", 1.99, "holds"),
        ("constant", "above", 2.0, "does not hold"),
        (3.3, "above", "middle", "holds"),
        ("middle", "below", 3.3, "holds"),
        ("middle", "below", 3.2, "not resolved"),
        ("middle", "below", 0.7, "does not hold"),
        ("low", "below", "middle", "holds"),
        ("exact", "equal", 2, "holds"),
        ("exact", "equal", 2.000001, "does not hold"),
        ("constant", "equal", 2, "holds"),
        ("middle", "equal", 2, "does not hold"),
    ],
)
def test_relation_is_tested(ours, relation, than, verdict):
    if isinstance(ours, str):
        assert judged(ours, relation, than).verdict == verdict
    else:
        assert judged(than, {"above": "below"}[relation], ours).verdict == verdict


@pytest.mark.parametrize(
    "ours, than, tolerance, relative, verdict",
    [
        ("middle", 2.2, 1.45, False, "holds"),  # the difference is -1.442 to 1.042
        ("middle", 2.2, 1.44, False, "not resolved"),
        ("middle", 2.2, 0.19, False, "not resolved"),
        ("middle", 4.0, 0.75, False, "does not hold"),  # -3.242 to -0.758
        ("middle", 4.0, 0.77, False, "not resolved"),
        ("exact", 1.9, 0.1, False, "holds"),  # to rounding
        ("exact", 2.5, 0.2, True, "holds"),
        ("exact", 2.5, 0.19, True, "does not hold"),
        ("exact", -2.0, 0.2, True, "does not hold"),
        ("negative", -2.2, 0.1, True, "holds"),
        ("middle", "low", 2.0, False, "holds"),  # 0.006 to 1.994
        ("middle", "low", 1.9, False, "not resolved"),
        ("middle", "low", 2.0, True, "holds"),
        ("low", "middle", 1.0, True, "holds"),
        ("low", "middle", 0.9, True, "not resolved"),
        ("low", "middle", 0.002, True, "does not hold"),
    ],
)
def test_near_is_within_the_tolerance(ours, than, tolerance, relative, verdict):
    found = judged(ours, "near", than, tolerance=tolerance, **({"relative": True} if relative else {}))
    assert found.verdict == verdict


def test_samples_of_the_same_table_and_task_are_paired_and_others_are_not():
    whole = expand(claim("it", side("middle"), "above", side("low", "b")))
    found = evaluate_claim(whole, "x", TABLES, "full")
    assert found.verdict == "not resolved" and found.conditions[0].difference.kind == "not paired"
    expected = stats.ttest_ind(SAMPLES["middle"], SAMPLES["low"], equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.conditions[0].difference.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert judged("middle", "above", "low").conditions[0].difference.kind == "paired"
    other = {**side("low"), "file": "z"}
    found = evaluate_claim(expand(claim("it", side("middle"), "above", other)), "x", TABLES | {"z": ROWS}, "full")
    assert found.conditions[0].difference.kind == "not paired"


def test_geometric_means_are_compared_by_their_logarithms():
    """Ratios whose arithmetic mean is above 1 only since noise is not symmetric."""
    cells = {"name": "noise", "ratio": "1.0", "ratio_low": "0.1", "ratio_high": "10", "ratio_values": "0.25 0.25 4 4"}
    tables = {"x": [cells | {"ratio_mean": "geometric"}, cells | {"name": "plain", "ratio_mean": ""}]}

    def found(name, **more):
        relation, than = more.pop("relation", "above"), more.pop("than", 1.0)
        return evaluate_claim(
            expand(claim("it", cell("ratio", name=name), relation, than, **more)), "x", tables, "full"
        )

    geometric, arithmetic = (found(name).conditions[0].difference for name in ("noise", "plain"))
    assert geometric.mean == pytest.approx(0.0, abs=1e-12) and geometric.is_of_logarithms
    assert arithmetic.mean == pytest.approx(1.125) and not arithmetic.is_of_logarithms
    for mistake in ({"than": 0.0}, {"relation": "near", "tolerance": 0.1}):
        with pytest.raises(ClaimError, match="geometric means are compared by their logarithms, without a tolerance"):
            found("noise", **mistake)


def test_what_is_not_resolved_says_which_way_the_means_point():
    assert judged("middle", "above", 1.9).direction == "the means agree with it"
    assert judged("middle", "above", 2.0).direction == "the means contradict it"
    assert judged("middle", "near", 2.2, tolerance=0.19).direction == "the means contradict it"
    assert judged("single", "above", 1.0).direction == ""


P_OF_MIDDLE = {border: stats.ttest_1samp(SAMPLES["middle"], border).pvalue for border in (0.5, 0.7, 2.5, 3.3, 4.0)}


@pytest.mark.parametrize(
    "parts, verdict, p, reasons",
    [
        ([("middle", "above", 0.5), ("middle", "above", 0.7)], "holds", P_OF_MIDDLE[0.7], []),
        ([("middle", "above", 0.7), ("exact", "above", 1)], "holds", P_OF_MIDDLE[0.7], []),
        ([("exact", "above", 1), ("exact", "below", 3)], "holds", None, []),
        ([("exact", "above", 1), ("exact", "below", 1)], "does not hold", None, []),
        ([("middle", "above", 0.5), ("middle", "below", 2.5)], "not resolved", P_OF_MIDDLE[2.5], []),
        ([("middle", "above", 3.3), ("middle", "above", 0.5)], "not resolved", 2 * P_OF_MIDDLE[3.3], []),
        ([("middle", "above", 3.3), ("exact", "below", 1)], "does not hold", 0.0, []),
        ([("middle", "above", 4.0), ("lost", "above", 1)], "does not hold", 2 * P_OF_MIDDLE[4.0], []),
        (
            [("middle", "above", 3.3), ("lost", "above", 1)],
            "not run",
            2 * P_OF_MIDDLE[3.3],
            ["x.csv has no number there"],
        ),
        ([("constant", "above", 4.0), ("lost", "above", 1)], "does not hold", 0.0, []),
        ([("middle", "above", 0.5), ("lost", "above", 1)], "not run", None, ["x.csv has no number there"]),
        ([("middle", "above", 0.5), ("single", "above", 1)], "not resolved", None, ["a test needs two seeds or more"]),
        ([("single", "above", 1), ("lost", "above", 1)], "not run", None, ["x.csv has no number there"]),
    ],
)
def test_claim_of_several_conditions_holds_if_all_hold_and_fails_if_one_fails(parts, verdict, p, reasons):
    """The p-value is the largest one of all, or the smallest one times their number."""
    conditions = [{"ours": side(ours), "relation": relation, "than": side(than)} for ours, relation, than in parts]
    found = evaluate_claim({"id": "it", "statement": "it", "source": "ours", "all": conditions}, "x", TABLES, "full")
    assert (found.verdict, found.reasons) == (verdict, reasons)
    assert found.p == (None if p is None else pytest.approx(p))
    assert len(found.conditions) == len(parts)


@pytest.mark.parametrize(
    "ours, relation, than", [("single", "above", 1.0), ("single", "equal", 2.0), ("middle", "above", "single")]
)
def test_one_seed_resolves_nothing(ours, relation, than):
    found = judged(ours, relation, than)
    assert (found.verdict, found.p, found.reasons) == ("not resolved", None, ["a test needs two seeds or more"])


def test_numbers_and_their_rows_are_kept():
    (condition,) = judged("middle", "near", "wide", tolerance=0.5, relative=True, published=1.9).conditions
    assert condition.ours.samples == (1.5, 2.0, 2.5) and condition.than.value == pytest.approx(2.2)
    assert condition.tolerance == pytest.approx(1.1) and condition.published == 1.9
    assert condition.rows == (
        "x.csv: mean where rule is middle, half is a",
        "x.csv: mean where rule is wide, half is a",
    )


def test_published_words_are_kept_as_words():
    assert judged("middle", "above", 1, published="about two").published == "about two"
    assert judged("middle", "above", 1, published=1.9).published == ""


def several(*parts):
    """Claims of one condition each, not corrected."""
    return [
        evaluate_claim(expand(claim(f"n{index}", side(ours), relation, side(than))), "x", TABLES, "full")
        for index, (ours, relation, than) in enumerate(parts)
    ]


def test_tested_claims_are_corrected_together_and_others_take_no_part():
    tested = [("middle", "above", 0.5), ("middle", "above", 0.7), ("wide", "above", 1.0)]
    others = [("exact", "above", 1), ("single", "above", 1), ("lost", "above", 1)]
    found = correct(several(*others, *tested))
    p = [stats.ttest_1samp(SAMPLES[ours], than).pvalue for ours, _, than in tested]
    assert [one.corrected for one in found] == [None, None, None, *map(pytest.approx, holm(p))]
    assert [one.verdict for one in found] == ["holds", "not resolved", "not run", *["not resolved"] * 3]
    assert [one.uncorrected for one in found[3:]] == ["holds", "holds", "not resolved"]
    assert [one.verdict for one in correct(several(tested[0]))] == ["holds"]
    assert correct([]) == []


def test_seeds_that_would_resolve_a_claim_are_those_of_holms_next_step():
    """Of four tested claims one is resolved, so the next one of the other three has to be below 0.05 / 3."""
    claimed = [("constant", "above", 1), ("wide", "above", 1.0), ("middle", "above", 1.5), ("middle", "above", 2.0)]
    found = correct(several(*claimed))
    assert [one.verdict for one in found] == ["holds", *["not resolved"] * 3]
    needed = [samples_needed("above", one.conditions[0].difference, None, LEVEL / 3) for one in found[1:3]]
    assert [one.samples_needed for one in found] == [None, *needed, 1001]
    half = stats.t.ppf(1 - LEVEL / 3 / 2, needed[0] - 1) * 1.2 / needed[0] ** 0.5
    assert half < 1.2 and needed[0] > 3


def test_seeds_for_several_conditions_are_those_of_the_hardest_or_those_that_refute_the_easiest():
    def needed(*parts):
        conditions = [{"ours": side("middle"), "relation": relation, "than": than} for relation, than in parts]
        whole = {"id": "it", "statement": "it", "source": "ours", "all": conditions}
        return correct([evaluate_claim(whole, "x", TABLES, "full")])[0].samples_needed

    def alone(than, level):
        found = judged("middle", "above", than).conditions[0].difference
        return samples_needed("above", found, None, level)

    assert needed(("above", 1.0), ("above", 1.8)) == alone(1.8, LEVEL) > alone(1.0, LEVEL)
    assert needed(("above", 1.0), ("above", 2.5), ("above", 3.0)) == alone(3.0, LEVEL / 3) < alone(2.5, LEVEL / 3)


def test_claim_that_lacks_a_number_has_no_number_of_seeds():
    assert [one.samples_needed for one in correct(several(("single", "above", 1), ("lost", "above", 1)))] == [
        None,
        None,
    ]


def test_other_table_is_named_by_the_claim_or_by_the_cell():
    other = cell("mean", rule="middle")
    assert evaluate_claim(expand(claim("it", other, "equal", 7, file="y")), "x", TABLES, "full").verdict == "holds"
    found = evaluate_claim(expand(claim("it", side("middle"), "below", {**other, "file": "y"})), "x", TABLES, "full")
    assert found.verdict == "holds" and found.conditions[0].rows[1].startswith("y.csv: ")


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"ours": "middle", "than": 3, "scale": "paper"}, "is about the scale paper"),
        ({"ours": "absent", "than": 3, "scale": ["tiny", "paper"]}, "is about the scale tiny and paper"),
        ({"ours": "absent", "than": 3, "needs": "spoken_digits"}, "needs spoken_digits"),
        ({"ours": "middle", "than": "absent", "needs": "spoken_digits"}, "needs spoken_digits"),
        ({"ours": "lost", "than": 3}, "x.csv has no number there"),
        ({"ours": "middle", "than": "lost"}, "x.csv has no number there"),
        ({"ours": "middle", "than": 3, "stem": "gone"}, "there is no gone.csv"),
    ],
)
def test_what_is_not_there_is_not_run(arguments, reason):
    more = dict(arguments)
    found = judged(more.pop("ours"), "below", more.pop("than"), **more)
    assert (found.verdict, found.reasons) == ("not run", [reason])


@pytest.mark.parametrize("arguments", [{"scale": "paper"}, {"scale": ["paper", "tiny"]}, {}])
def test_claim_about_this_scale_is_judged(arguments):
    assert judged("middle", "above", 0.5, at="paper", **arguments).verdict == "holds"


def test_number_to_compare_with_is_kept_where_ours_is_not_run():
    (condition,) = judged("middle", "near", 3, tolerance=0.5, relative=True, scale="paper").conditions
    assert condition.ours is None and condition.than.value == 3 and condition.tolerance == 1.5


@pytest.mark.parametrize("scale", ["tiny", "quick"])
def test_scales_with_fewer_tasks_and_rules_may_lack_rows_but_not_columns(scale):
    found = judged("absent", "above", 1, at=scale)
    assert (found.verdict, found.reasons) == ("not run", [f"is left out at the scale {scale}"])
    with pytest.raises(ClaimError, match="has no column tasks"):
        evaluate_claim(expand(claim("it", cell("mean", tasks="absent"), "above", 1)), "x", TABLES, scale)


@pytest.mark.parametrize(
    "ours, told",
    [
        (
            cell("mean", rule="absent"),
            "x.csv has no row where rule is absent; rule there: low, middle, wide, constant, exact, lost, negative, single.",
        ),
        (cell("mean", rule="low", half="c"), "x.csv has no row where rule is low, half is c; half there: a, b."),
        (cell("mean", rule="low"), "x.csv has 2 rows where rule is low, expected one: name more columns."),
        (cell("mean", rules="low"), "x.csv has no column rules, it has rule, half, task, mean, low, high, values."),
        (
            cell("median", rule="low", half="a"),
            "x.csv has no column median, it has rule, half, task, mean, low, high, values.",
        ),
        (cell("half", rule="low", half="a"), "x.csv has 'a' in the column half, expected a number."),
    ],
)
def test_row_that_ought_to_be_there_is_a_mistake(ours, told):
    with pytest.raises(ClaimError) as error:
        evaluate_claim(expand(claim("it", ours, "above", 1)), "x", TABLES, "full")
    assert told in str(error.value)


def test_empty_table_has_no_rows():
    with pytest.raises(ClaimError, match=r"empty\.csv has no row where rule is low; rule there: no rows"):
        evaluate_claim(expand(claim("it", cell("mean", rule="low"), "above", 1)), "empty", TABLES, "full")


def claims_file(folder, experiment, figures):
    path = folder / experiment / "claims.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({"figures": figures}))
    return path


def test_figures_keep_their_order_and_texts_lose_their_line_breaks(tmp_path):
    good = claim("it", side("low"), "above", 1, statement="A claim\n  in two lines.")
    paths = [
        claims_file(tmp_path, "second", [figure("y", "Y", []), figure("x", "X\nx", [good])]),
        claims_file(tmp_path, "first", [figure("z", "Z", [])]),
    ]
    found = judge_all(paths, TABLES, "full")
    assert [(one.experiment, one.stem) for one in found] == [("second", "y"), ("second", "x"), ("first", "z")]
    assert found[1].title == "X x" and found[1].claims[0].statement == "A claim in two lines."


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path):
    wrong = [claim(name, cell("mean", rule=name), "above", 1) for name in ("absent", "gone")]
    paths = [
        claims_file(tmp_path, "one", [figure("x", "X", wrong)]),
        claims_file(tmp_path, "two", [figure("x", "X", []), {"stem": "y"}]),
        claims_file(tmp_path, "three", [figure("x", "X", [])]),
    ]
    with pytest.raises(ClaimError) as error:
        judge_all(paths, TABLES, "full")
    told = str(error.value)
    for text in (
        "one/claims.yaml: x: absent: ",
        "one/claims.yaml: x: gone: ",
        "two/claims.yaml: y: 'title' is a required",
    ):
        assert text in told
    assert "the stem x belongs to figures of one and three, expected one" in told


def test_correction_is_for_one_experiment_at_a_time(tmp_path):
    """Two experiments with the same claim, which each correct by the number of their own."""
    one = [claim("it", side("middle"), "above", 0.7)]
    more = [claim(name, side("middle"), "above", 0.7) for name in ("it", "other", "third")]
    paths = [
        claims_file(tmp_path, "one", [figure("x", "X", one)]),
        claims_file(tmp_path, "more", [figure("y", "Y", more[:1]), figure("z", "Z", more[1:])]),
    ]
    found = judge_all(paths, {"x": ROWS, "y": ROWS, "z": ROWS}, "full")
    p = P_OF_MIDDLE[0.7]
    assert [[each.corrected for each in one.claims] for one in found] == [
        [pytest.approx(p)],
        [pytest.approx(3 * p)],
        [pytest.approx(3 * p)] * 2,
    ]
