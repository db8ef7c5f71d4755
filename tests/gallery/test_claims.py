"""Verdicts: each relation, each verdict, intervals, what is missing, and what is a mistake."""

import itertools
import random

import pytest
import yaml
from small_gallery import cell, claim, figure

from gallery.claims import compare, evaluate_claim, judge_all
from gallery.claims_file import ClaimError
from gallery.tables import Number

# Mean, low and high end of the rows of a rule.
INTERVALS = {
    "low": ("1.0", "0.9", "1.1"),
    "middle": ("2.0", "1.5", "2.5"),
    "wide": ("2.2", "1.0", "3.4"),
    "exact": ("2.0", "2.0", "2.0"),
    "lost": ("", "", ""),
    "negative": ("-2.0", "-2.0", "-2.0"),
    "single": ("2.0", "", ""),
}
ROWS = [
    {"rule": rule, "half": half, "mean": mean, "low": low, "high": high}
    for rule, (mean, low, high) in INTERVALS.items()
    for half in ("a", "b")
]
TABLES = {"x": ROWS, "y": [{"rule": "middle", "mean": "7"}], "empty": []}


def side(name):
    return cell("mean", rule=name, half="a") if isinstance(name, str) else name


def judged(ours, relation, than, *, at="quick", stem="x", **more):
    return evaluate_claim(claim("it", side(ours), relation, side(than), **more), stem, TABLES, at)


@pytest.mark.parametrize(
    "ours, relation, than, verdict",
    [
        ("middle", "above", 1.4, "holds"),
        ("middle", "above", 1.5, "not resolved"),
        ("middle", "above", 1.9, "not resolved"),
        ("middle", "above", 2.0, "does not hold"),
        ("middle", "above", "low", "holds"),
        ("wide", "above", "middle", "not resolved"),
        ("middle", "above", "wide", "does not hold"),
        ("exact", "above", 1.99, "holds"),
        ("exact", "above", "low", "holds"),
        (2.6, "above", "middle", "holds"),
        ("middle", "below", 2.6, "holds"),
        ("middle", "below", 2.5, "not resolved"),
        ("middle", "below", 2.0, "does not hold"),
        ("low", "below", "middle", "holds"),
        ("middle", "below", "wide", "not resolved"),
        ("wide", "below", "middle", "does not hold"),
        ("exact", "equal", 2, "holds"),
        ("exact", "equal", 2.000001, "does not hold"),
        ("middle", "equal", 2, "not resolved"),
    ],
)
def test_relation_is_asked_of_means_and_of_intervals(ours, relation, than, verdict):
    if isinstance(ours, str):
        assert judged(ours, relation, than).verdict == verdict
    else:
        assert judged(than, {"above": "below"}[relation], ours).verdict == verdict


@pytest.mark.parametrize(
    "ours, than, tolerance, relative, verdict",
    [
        ("middle", 2.2, 0.7, False, "holds"),
        ("middle", 2.2, 0.69, False, "not resolved"),
        ("middle", 2.2, 0.19, False, "does not hold"),
        ("exact", 1.9, 0.1, False, "holds"),  # to rounding
        ("exact", 2.5, 0.2, True, "holds"),
        ("exact", 2.5, 0.19, True, "does not hold"),
        ("exact", -2.0, 0.2, True, "does not hold"),
        ("negative", -2.2, 0.1, True, "holds"),
        ("middle", "low", 1.6, False, "holds"),
        ("middle", "low", 1.5, False, "not resolved"),
        ("middle", "low", 0.5, False, "does not hold"),
    ],
)
def test_near_is_within_the_tolerance(ours, than, tolerance, relative, verdict):
    found = judged(ours, "near", than, tolerance=tolerance, **({"relative": True} if relative else {}))
    assert found.verdict == verdict


def test_truth_is_that_of_all_pairs_of_numbers_in_the_intervals():
    """Against the definition, on a grid of whole numbers whose pairs are gone through one by one."""
    generator = random.Random(0)
    relations = {
        "above": lambda a, b: a > b,
        "below": lambda a, b: a < b,
        "near": lambda a, b: abs(a - b) <= 1,
        "equal": lambda a, b: a == b,
    }
    seen = set()
    for _ in range(5000):
        one, other = (
            Number(value, low, high) for low, value, high in (sorted(generator.choices(range(4), k=3)) for _ in "12")
        )
        for relation, true in relations.items():
            pairs = [
                true(a, b) for a, b in itertools.product(range(one.low, one.high + 1), range(other.low, other.high + 1))
            ]
            found = compare(relation, one, other, 1.0 if relation == "near" else None)
            assert found == (true(one.value, other.value), all(pairs), any(pairs)), (relation, one, other)
            seen.add((relation, found))
    assert len(seen) == 16  # each relation: all, of the means and some, some, none


def test_what_does_not_hold_tells_if_the_intervals_leave_it_open():
    assert judged("middle", "above", "wide").reasons == ["the intervals leave it open"]
    assert judged("low", "above", "middle").reasons == []
    assert judged("middle", "near", 2.6, tolerance=0.2).reasons == ["the intervals leave it open"]
    assert judged("middle", "near", 2.8, tolerance=0.2).reasons == []


@pytest.mark.parametrize(
    "parts, verdict, reasons",
    [
        ([("middle", "above", 1), ("low", "below", 2)], "holds", []),
        ([("middle", "above", 1), ("wide", "above", "middle")], "not resolved", []),
        ([("wide", "above", "middle"), ("lost", "above", 1)], "not run", ["x.csv has no number there"]),
        ([("lost", "above", 1), ("low", "above", "middle"), ("wide", "above", "middle")], "does not hold", []),
    ],
)
def test_claim_of_several_conditions_is_no_better_than_the_worst(parts, verdict, reasons):
    conditions = [{"ours": side(ours), "relation": relation, "than": side(than)} for ours, relation, than in parts]
    found = evaluate_claim({"id": "it", "statement": "it", "source": "ours", "all": conditions}, "x", TABLES, "quick")
    assert (found.verdict, found.reasons) == (verdict, reasons)
    assert len(found.conditions) == len(parts)


@pytest.mark.parametrize(
    "ours, relation, than, verdict",
    [
        ("single", "above", 1.0, "not resolved"),
        ("single", "above", 2.5, "does not hold"),
        ("single", "equal", 2.0, "not resolved"),
        ("middle", "above", "single", "does not hold"),
        ("low", "below", "single", "not resolved"),
    ],
)
def test_mean_whose_interval_is_not_known_resolves_nothing(ours, relation, than, verdict):
    found = judged(ours, relation, than)
    assert (found.verdict, found.reasons) == (verdict, ["no interval"])


def test_numbers_and_their_rows_are_kept():
    (condition,) = judged("middle", "near", "wide", tolerance=0.5, relative=True, published=1.9).conditions
    assert (condition.ours, condition.than) == (Number(2.0, 1.5, 2.5), Number(2.2, 1.0, 3.4))
    assert condition.tolerance == pytest.approx(1.1) and condition.published == 1.9
    assert condition.rows == (
        "x.csv: mean where rule is middle, half is a",
        "x.csv: mean where rule is wide, half is a",
    )


def test_published_words_are_kept_as_words():
    assert judged("middle", "above", 1, published="about two").published == "about two"
    assert judged("middle", "above", 1, published=1.9).published == ""


def test_other_table_is_named_by_the_claim_or_by_the_cell():
    other = cell("mean", rule="middle")
    assert evaluate_claim(claim("it", other, "equal", 7, file="y"), "x", TABLES, "quick").verdict == "holds"
    found = evaluate_claim(claim("it", side("middle"), "below", {**other, "file": "y"}), "x", TABLES, "quick")
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
    assert judged("middle", "above", 1, at="paper", **arguments).verdict == "holds"


def test_number_to_compare_with_is_kept_where_ours_is_not_run():
    (condition,) = judged("middle", "near", 3, tolerance=0.5, relative=True, scale="paper").conditions
    assert condition.ours is None and condition.than == Number(3, 3, 3) and condition.tolerance == 1.5


def test_scale_of_the_tests_may_lack_rows_but_not_columns():
    found = judged("absent", "above", 1, at="tiny")
    assert (found.verdict, found.reasons) == ("not run", ["is left out at the scale tiny"])
    with pytest.raises(ClaimError, match="has no column task"):
        evaluate_claim(claim("it", cell("mean", task="absent"), "above", 1), "x", TABLES, "tiny")


@pytest.mark.parametrize(
    "ours, told",
    [
        (
            cell("mean", rule="absent"),
            "x.csv has no row where rule is absent; rule there: low, middle, wide, exact, lost, negative, single.",
        ),
        (cell("mean", rule="low", half="c"), "x.csv has no row where rule is low, half is c; half there: a, b."),
        (cell("mean", rule="low"), "x.csv has 2 rows where rule is low, expected one: name more columns."),
        (cell("mean", rules="low"), "x.csv has no column rules, it has rule, half, mean, low, high."),
        (cell("median", rule="low", half="a"), "x.csv has no column median, it has rule, half, mean, low, high."),
        (cell("half", rule="low", half="a"), "x.csv has 'a' in the column half, expected a number."),
    ],
)
def test_row_that_ought_to_be_there_is_a_mistake(ours, told):
    with pytest.raises(ClaimError) as error:
        evaluate_claim(claim("it", ours, "above", 1), "x", TABLES, "quick")
    assert told in str(error.value)


def test_empty_table_has_no_rows():
    with pytest.raises(ClaimError, match=r"empty\.csv has no row where rule is low; rule there: no rows"):
        evaluate_claim(claim("it", cell("mean", rule="low"), "above", 1), "empty", TABLES, "quick")


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
    found = judge_all(paths, TABLES, "quick")
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
        judge_all(paths, TABLES, "quick")
    told = str(error.value)
    for text in (
        "one/claims.yaml: x: absent: ",
        "one/claims.yaml: x: gone: ",
        "two/claims.yaml: y: 'title' is a required",
    ):
        assert text in told
    assert "the stem x belongs to figures of one and three, expected one" in told
