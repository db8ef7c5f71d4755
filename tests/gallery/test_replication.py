"""The replication report: by which rule a published number is the same as ours, and that each verdict can be another one."""

import copy
import html
import re
from pathlib import Path

import pytest
import yaml

from experiments.pipeline.job import experiment_names
from gallery.claims import Claim, Figure
from gallery.claims_file import ClaimError, read_claims
from gallery.outcomes import compared, counted, ordered, together
from gallery.replication import DATA, replication
from gallery.replication_times import times
from gallery.tables import Number

ROOT = Path(__file__).parents[2]
CONTENT = yaml.safe_load(DATA.read_text())
SEEDS = Number(0.5, 0.4, 0.6, (0.2, 0.45, 0.85))
EXACT = Number(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("ours", "published", "rule", "distance", "outcome"),
    [
        (SEEDS, 0.55, "within", 0.2, "same"),
        (SEEDS, 0.55, "within", 0.1, "unresolved"),  # the interval is not within
        (SEEDS, 0.81, "within", 0.2, "different"),
        (EXACT, 0.501, "within", 0.001, "same"),
        (SEEDS, 0.2, "seeds", 0, "same"),
        (SEEDS, 0.86, "seeds", 0, "different"),
        (EXACT, 0.4999999, "seeds", 0, "same"),  # rounding
        (SEEDS, 0.5, "above", 0, "unresolved"),
        (SEEDS, 0.61, "above", 0, "different"),
    ],
)
def test_verdict_flips_when_the_published_value_is_moved(ours, published, rule, distance, outcome):
    assert compared(ours, published, rule, distance) == outcome


def test_order_is_the_one_of_our_difference_if_its_interval_excludes_zero():
    low, high, wide = (Number(sum(s) / 3, 0, 0, s) for s in ((0.1, 0.2, 0.3), (0.5, 0.61, 0.7), (0.0, 0.9, 0.1)))
    assert ordered((1, low), (2, high)) == ordered((2, high), (1, low)) == "same"
    assert ordered((2, low), (1, high)) == ordered((1, high), (2, low)) == "different"
    assert ordered((1, low), (2, wide)) == "unresolved"
    assert ordered((1, EXACT), (2, EXACT)) == "unresolved"
    assert ordered((1, EXACT), (2, EXACT._replace(value=0.6))) == "same"


def test_outcomes_together():
    """What is the same only in part is never called the same."""
    assert together(["same", "same"]) == "same" and together(["not run"]) == "not run" and together([]) is None
    assert {together(["same", other]) for other in ("unresolved", "different", "not run", "in part")} == {"in part"}
    assert counted(["same", "different", "same"], "numbers") == "2 of 3 numbers the same, 1 different"


SIZE = {"n": "8", "batch": "1", "dtype": "f"}


def time_tables(**factors):
    """On a GPU other takes twice the time of slax 0.0.1; here too, with these ends of the inverse for each kind of input."""
    bars = {("slax_original", "T4"): "0.5", ("other", "T4"): "1.0", ("other", "TPU"): ""}
    seconds = [
        {"source": "published", "device": device, "peer": peer, "seconds": value} | SIZE
        for (peer, device), value in bars.items()
    ]
    seconds.append({"source": "measured", "device": "cpu", "peer": "slax_original", "seconds": "3.0"} | SIZE)
    about = {"library": "slax_original", "other": "other", "ratio_mean": "geometric"} | SIZE
    ratio = about | {"ratio": "0.5", "ratio_values": "1 1"}
    ratios = [ratio | {"inputs": kind, "ratio_low": low, "ratio_high": high} for kind, (low, high) in factors.items()]
    return {"seconds": seconds, "ratios": ratios}


@pytest.mark.parametrize(
    ("ends", "outcome"), [(("0.4", "0.8"), "same"), (("1.25", "2"), "different"), (("0.4", "1.25"), "unresolved")]
)
def test_times_are_compared_by_who_is_slower(ends, outcome):
    names = {"slax_original": "slax", "other": "Other"}
    about = {"seconds": "seconds", "ratios": "ratios", "where": {"batch": 1}, "names": names}
    about["inputs"] = ["gaussian", "spikes"]
    columns, (reference, other) = times(about, time_tables(gaussian=ends, spikes=("0.2", "5")))
    assert columns == ("library", "units", "T4", "TPU") and other.cells == ("Other", "8", "1 s, 2.0x", "no bar")
    assert (other.outcomes, other.published, other.judged, other.factors) == ((outcome,), 1, 1, "2.0x")
    assert other.verdict == {"same": "✓ same side", "different": "✗ different", "unresolved": "≈ unresolved"}[outcome]
    assert (reference.ours, reference.standing) == ("3 s", "not comparable")


ITEM = {"paper": "slax", "item": "cell 1", "title": "T", "where": "w", "differs": "d", "protocol": "p", "command": "c"}
CELL = {"file": "x", "where": {"rule": "$rule"}, "column": "mean"}
NUMBERS = {"ours": CELL, "label": "$name", "rule": {"by": "within", "distance": 0.1, "why": "y"}}
NUMBERS |= {
    "numbers": [{"name": "A", "rule": "a", "published": 0.5}, {"name": "B", "rule": "b", "published": [0.1, 0.3]}]
}


def judged(tmp_path, tables, scale="full", **changes):
    content = copy.deepcopy(CONTENT) | {"items": [{"id": "it", **ITEM, **NUMBERS, **changes}]}
    path = tmp_path / "replication.yaml"
    path.write_text(yaml.safe_dump(content))
    return replication([], tables, scale, path)


def test_results_that_arrive_fill_the_report_without_a_hand_edit(tmp_path):
    """Until then an item says why there is none."""
    pending = {"reason": "not yet"}
    before = judged(tmp_path, {}, **pending)
    assert (before.published, before.beside, before.judged) == (3, 0, 0) and before.items[0].verdict == "○ not run"
    assert [(line.ours, line.verdict) for line in before.items[0].lines] == [("", "○ not run: not yet")] * 2
    tables = {"x": [{"rule": "a", "mean": "0.55"}, {"rule": "b", "mean": "0.2"}]}
    (after,) = judged(tmp_path, tables, **pending, order=[]).items
    assert after.verdict == "✓ same: 2 of 2 numbers the same; order of 1 of 1 pairs the same"
    tables["x"][0]["mean"] = "0.1"
    (moved,) = judged(tmp_path, tables, order=[]).items
    assert (
        moved.verdict == "◐ in part: 1 of 2 numbers the same, 1 different; order of 0 of 1 pairs the same, 1 different"
    )


def test_a_number_that_every_correct_program_has_counts_in_no_verdict(tmp_path):
    """Unless ours is another one. A pair in the other order is named."""
    numbers = [
        {"name": name, "rule": name.lower(), "published": value} for name, value in (("A", 0.5), ("B", 0.3), ("C", 1.0))
    ]
    numbers[2]["by_construction"] = True
    tables = {"x": [{"rule": rule, "mean": mean} for rule, mean in (("a", "0.28"), ("b", "0.32"), ("c", "1"))]}
    report = judged(tmp_path, tables, numbers=numbers, order=[])
    (item,) = report.items
    told = "1 of 2 numbers the same, 1 different; order of 0 of 1 pairs the same, 1 different"
    assert item.verdict == f"◐ in part: {told}" and item.lines[2].verdict == "· by construction"
    assert item.reversed == ["A (0.5 published) lies below B (0.3 published)"]
    assert (report.published, report.beside, report.judged) == (3, 3, 2)
    tables["x"][2]["mean"] = "0.8"
    (wrong,) = judged(tmp_path, tables, numbers=numbers).items
    assert wrong.verdict == "◐ in part: 1 of 3 numbers the same, 2 different"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, r"it: x.csv has no row or no number where {'rule': 'b'}: correct it, or give a reason"),
        ({"claims": ["a/b"], "published": "p"}, "valid under each of"),
    ],
)
def test_mistakes_are_named(tmp_path, changes, told):
    tables = {"x": [{"rule": "a", "mean": "0.5"}, {"rule": "c", "mean": "0.5"}]}
    with pytest.raises(ClaimError, match=told):
        judged(tmp_path, tables, **changes)


def test_a_claim_that_does_not_exist_is_a_mistake(tmp_path):
    item = {"id": "it", **ITEM, "claims": ["a/b"], "published": "p"}
    path = tmp_path / "replication.yaml"
    path.write_text(yaml.safe_dump(CONTENT | {"items": [item]}))
    figures = [Figure("a", "stem", "", "", "", "", (Claim("other", "finding", *[""] * 5, ()),))]
    with pytest.raises(ClaimError, match="there is no claim a/b: name one as EXPERIMENT/ID"):
        replication(figures, {}, "quick", path)


def test_every_item_has_its_value_its_source_and_ours_or_a_reason():
    """What an item names exists, except for results that it says are not there yet."""
    assert replication([], {}, "quick").published > 30  # the schema is kept
    files = {path.parent.name: read_claims(path) for path in ROOT.glob("experiments/*/claims.yaml")}
    claims = {f"{name}/{claim['id']}" for name, figures in files.items() for one in figures for claim in one["claims"]}
    stems = {figure["stem"] for figures in files.values() for figure in figures}
    for item in CONTENT["items"]:
        assert set(item.get("claims", ())) <= claims
        named = re.findall(r"experiments\.run (\w+)", item.get("command", ""))
        if "reason" not in item:
            assert item.get("ours", {}).get("file") in {None, *stems} and set(named) <= set(experiment_names())


def test_report_in_docs_has_every_item():
    """docs/REPLICATION.md is made: it follows replication.yaml by `make claims`. No cell is empty."""
    page = (ROOT / "docs/REPLICATION.md").read_text()
    text = html.unescape(re.sub(r"\\(.)", r"\1", " ".join(page.split())))
    counts = r"Of (\d+) published numbers that are listed here, (\d+) stand beside .* and (\d+) of these have a verdict"
    published, beside, judged = map(int, re.search(counts, text).groups())
    assert published >= beside >= 30 and beside >= judged > 0 and not re.search(r"\| +\|", page)
    said = [" ".join(item.get(key, "").split()) for item in CONTENT["items"] for key in ("title", "item", "differs")]
    assert [one for one in said if one not in text] == [], "run `make claims`"
