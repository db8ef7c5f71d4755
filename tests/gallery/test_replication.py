"""The replication report: by which rule a published number is the same as ours, and that each verdict can be another one."""

import copy
from pathlib import Path

import pytest
import yaml
from small_gallery import written

from gallery.claims_file import ClaimError, read_claims
from gallery.replication import DATA, compared, counted, ordered, replication, together
from gallery.tables import Number

ROOT = Path(__file__).parents[2]
CONTENT = yaml.safe_load(DATA.read_text())
SEEDS, EXACT = Number(0.5, 0.4, 0.6, (0.2, 0.45, 0.85)), Number(0.5, 0.5, 0.5)
CLOSE = Number(0.5, 0.4, 0.6, (0.46, 0.5, 0.54))  # whose interval is 0.4006 to 0.5994
FIVE = (0.42, 0.46, None, 0.5, 0.54, 0.58)  # of standard deviation 0.0632, and t(4) is 2.776
MANY = Number(0.5, 0.4, 0.6, FIVE)


@pytest.mark.parametrize(
    ("ours", "published", "rule", "distance", "outcome"),
    [
        (CLOSE, 0.55, "within", 0.15, "same"),
        (CLOSE, 0.55, "within", 0.14, "unresolved"),  # the interval is not within
        (CLOSE, 0.81, "within", 0.2, "different"),
        (EXACT, 0.501, "within", 0.001, "same"),
        (SEEDS, 0.2, "seeds", 0, "same"),
        (SEEDS, 0.86, "seeds", 0, "different"),
        (EXACT, 0.4999999, "seeds", 0, "same"),  # rounding
        (CLOSE, 0.5, "above", 0, "unresolved"),
        (CLOSE, 0.61, "above", 0, "different"),
        (CLOSE, 0.4, "above", 0, "same"),
        (MANY, 0.69, "further", 0, "same"),  # 0.5 + t(4) 0.0632 sqrt(1 / 5 + 1) is 0.6923
        (MANY, 0.695, "further", 0, "different"),
        (MANY._replace(samples=FIVE[:5]), 0.5, "further", 0, "unresolved"),  # of too few seeds
        (EXACT, 0.5, "further", 0, "unresolved"),
    ],
)
def test_verdict_changes_when_the_published_value_is_moved(ours, published, rule, distance, outcome):
    assert compared(ours, published, rule, distance) == outcome


def test_mean_of_further_seeds_lies_closer_the_more_there_are(tmp_path):
    """0.5 + t(4) 0.0632 sqrt(1 / 5 + 1 / 4) is 0.6178. An item says of how many seeds its numbers are the mean."""
    found = [compared(MANY, published, "further", runs=4) for published in (0.617, 0.619, 0.383, 0.381)]
    assert found == ["same", "different"] * 2
    rows = {"x": [{"rule": "a", "mean": "0.5", "low": "0.4", "values": " ".join(map(str, FIVE))}]}
    numbers = [{"name": "a", "at": {"rule": "a"}, "published": 0.65}]
    for runs, outcome in ((1, "same"), (4, "different")):
        rule = {"by": "further", "runs": runs, "why": "y"}
        (item,) = judged(tmp_path, rows, ours={"table": "x"}, rule=rule, numbers=numbers).items
        assert item.outcome == outcome


def test_order_is_the_one_of_our_difference_if_its_interval_excludes_zero():
    low, high, wide = (Number(sum(s) / 3, 0, 0, s) for s in ((0.1, 0.2, 0.3), (0.5, 0.61, 0.7), (0.0, 0.9, 0.1)))
    assert ordered((1, low), (2, high)) == ordered((2, high), (1, low)) == "same"
    assert ordered((2, low), (1, high)) == "different" and ordered((1, low), (2, wide)) == "unresolved"
    assert ordered((1, EXACT), (2, EXACT._replace(value=0.6))) == "same"


def test_what_is_the_same_only_in_part_is_never_called_the_same():
    assert together(["same", "same"]) == "same" and together(["not run"]) == "not run" and together([]) is None
    assert {together(["same", other]) for other in ("unresolved", "different", "not run", "in part")} == {"in part"}
    assert counted(["same", "different", "same"], "numbers the same") == "2 of 3 numbers the same, 1 different"


ITEM = {"paper": "slax", "item": "cell 1", "title": "T", "where": "w", "differs": "d", "protocol": "p", "command": "c"}
NUMBERS = {"ours": {"table": "x"}, "rule": {"by": "within", "distance": 0.1, "why": "y"}, "order": []}
NUMBERS["numbers"] = [
    {"name": name, "at": {"rule": name}, "published": published}
    for name, published in (("a", 0.5), ("b", [0.2, 0.4]), ("c", 1.0))
]
NUMBERS["numbers"][2]["by_construction"] = True


def judged(tmp_path, tables, figures=(), copies=("it",), **item):
    content = copy.deepcopy(CONTENT) | {"items": [{"id": name, **ITEM, **copy.deepcopy(item)} for name in copies]}
    path = written(tmp_path / "replication.yaml", yaml.safe_dump(content, sort_keys=False))
    return replication(figures, tables, path, is_complete=True)


def table(**means):
    return {"x": [{"rule": rule, "mean": str(mean)} for rule, mean in means.items()]}


def test_numbers_and_their_order_are_judged_and_one_by_construction_is_not(tmp_path):
    report = judged(tmp_path, table(a=0.28, b=0.32, c=1), **NUMBERS)
    (item,) = report.items
    assert [line.outcomes for line in item.lines] == [("different",), ("same",), ()] and item.outcome == "in part"
    assert [pair.outcome for pair in item.orders] == ["different"] and len(item.reversed) == 1
    assert (report.numbers(), report.numbers(shown=True), report.numbers(shown=True, judged=True)) == (4, 4, 3)
    again = judged(tmp_path, table(a=0.28, b=0.32, c=1), copies=("it", "again"), **NUMBERS)
    assert len(again.items) == 2 and again.numbers() == 4  # what two items compare counts once
    (wrong,) = judged(tmp_path, table(a=0.5, b=0.32, c=0.8), **NUMBERS).items
    assert [line.outcomes for line in wrong.lines] == [("same",), ("same",), ("different",)]


def test_number_that_is_missing_is_a_mistake_unless_there_is_a_reason(tmp_path):
    with pytest.raises(ClaimError, match=r"it: x.csv has 0 rows where {'rule': 'b'}"):
        judged(tmp_path, table(a=0.5, c=1), **NUMBERS)
    report = judged(tmp_path, table(a=0.5, c=1), **NUMBERS, reason="not yet")
    assert [line.note for line in report.items[0].lines] == ["", "not yet", "by construction"]
    assert (report.numbers(), report.numbers(shown=True)) == (4, 2)


@pytest.mark.parametrize(
    ("ratios", "outcomes", "sizes"),
    [
        ("0.5 0.55 0.6", ["same", "different"], ["2 to 2", "1.82 to 1.82"]),
        ("1.4 1.5 1.6", ["different", "same"], ["4 to 4", "1.5 to 1.5"]),
        ("0.5 1.0 1.5", ["unresolved"] * 2, []),
    ],
)
def test_ratios_are_judged_by_their_side_of_1(tmp_path, ratios, outcomes, sizes):
    row = dict(other="spyx", n="8", inputs="spikes", reason="", t4="0.5", a100="4", tpu="1.0", m3="")
    row |= dict(ratio=ratios.split()[1], ratio_values=ratios, ratio_low="0.1", ratio_high="9", ratio_mean="geometric")
    later = row | {"inputs": "gaussian", "ratio_values": "0.6 0.7 0.7"}
    about = {"ratios": {"table": "x"}, "devices": dict(zip(("t4", "a100", "tpu", "m3"), "TAPM", strict=True))}
    report = judged(tmp_path, {"x": [row, later]}, **about, names={"spyx": "Spyx"})
    ((line,),) = (item.lines for item in report.items)
    assert report.items[0].sizes == sizes
    assert list(line.outcomes) == outcomes and line.cells == ("Spyx", "8", "0.5", "4", "1.0", "-")
    assert (report.numbers(), report.numbers(judged=True)) == (3, 2)  # a tie is not judged


def test_every_item_names_claims_and_tables_that_exist():
    files = {path.parent.name: read_claims(path) for path in ROOT.glob("experiments/*/claims.yaml")}
    claims = {f"{name}/{claim['id']}" for name, figures in files.items() for one in figures for claim in one["claims"]}
    stems = {figure["stem"] for figures in files.values() for figure in figures}
    for item in CONTENT["items"]:
        assert set(item.get("claims", ())) <= claims
        assert {item.get(key, {}).get("table") for key in ("ours", "ratios")} - {None} <= stems
    report, text = replication([], {}), (ROOT / "docs/REPLICATION.md").read_text()
    assert report.numbers() > 30 and all(item["title"] in text.replace("\\", "") for item in CONTENT["items"])
