"""A claims.yaml as it is read: variables, defaults, the cells that it names; and each mistake with its place."""

import copy
import html
import importlib
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from small_gallery import cell, claim, figure

from experiments.pipeline.job import SCALES
from gallery.claims import Kind
from gallery.claims_file import SCHEMA, ClaimError, read_claims
from gallery.quantifiers import expand
from gallery.tables import matching, number, read_table

ROOT = Path(__file__).parents[2]
ONE = claim("it", cell("mean", rule="otpe"), "above", 1)
SEVERAL = {"id": "both", "kind": "finding", "statement": "s", "source": "ours", "written": "before"}
SEVERAL["all"] = [{key: ONE[key] for key in ("ours", "relation", "than")}]
GOOD = {"figures": [figure("x", "X", [ONE, SEVERAL])]}
WITHOUT_SOURCE = {key: value for key, value in ONE.items() if key != "source"}


def read(tmp_path, content):
    path = tmp_path / "claims.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return read_claims(path)


def changed(index, **changes):
    content = copy.deepcopy(GOOD)
    content["figures"][0]["claims"][index] |= changes
    return content


def test_example_of_the_readme_is_read_and_scales_are_those_of_the_experiments(tmp_path):
    example, _ = re.findall(r"```yaml\n(.*?)```", (ROOT / "gallery/README.md").read_text(), flags=re.DOTALL)
    (found,) = read(tmp_path, example)
    assert [len(one["all"]) for one in found["claims"]] == [1, 4, 2, 1, 1, 1, 2]
    assert all(one["source"] in ("ours", "arXiv 2311.16151") for one in found["claims"])
    assert SCHEMA["$defs"]["scale"]["enum"] == list(SCALES) and SCHEMA["$defs"]["kind"]["enum"] == list(get_args(Kind))


def test_defaults_of_a_figure_are_those_of_its_claims(tmp_path):
    other = WITHOUT_SOURCE | {"id": "other", "source": "ours", "scale": "paper"}
    defaults = {"source": "the paper", "needs": "shd", "scale": ["quick", "full"], "file": "y"}
    (found,) = read(tmp_path, {"figures": [figure("x", "X", [WITHOUT_SOURCE, other]) | {"defaults": defaults}]})
    assert [[one[key] for key in defaults] for one in found["claims"]] == [
        ["the paper", "shd", ["quick", "full"], "y"],
        ["ours", "shd", "paper", "y"],
    ]


def test_every_combination_of_values_is_a_condition():
    ours, than = cell("spikes_$n", layer="$n"), cell("spikes_1", rule="$other")
    found = expand(claim("it", ours, "above", than, **{"for": {"n": [1, None], "other": ["ottt", "ostl"]}}))["all"]
    assert [(one["ours"], one["than"]["where"]) for one in found] == [
        (cell(f"spikes_{n}", layer=n), {"rule": other}) for n in (1, None) for other in ("ottt", "ostl")
    ]
    one_by_one = [{"layer": 1, "rule": ["otpe", "ostl"], "x": 0.7}, {"layer": 3, "rule": "sltt", "x": 1}]
    near = claim("it", cell("c", layer="$layer", rule="$rule"), "near", "$x", tolerance="$x", published="$x")
    found = expand(near | {"for": one_by_one})["all"]
    assert [(*one["ours"]["where"].values(), one["than"], one["tolerance"], one["published"]) for one in found] == [
        (1, "otpe", 0.7, 0.7, 0.7),
        (1, "ostl", 0.7, 0.7, 0.7),
        (3, "sltt", 1, 1, 1),
    ]


@pytest.mark.parametrize(
    "content, told",
    [
        ({"figures": [{"stem": "x"}]}, ["claims.yaml: x: 'title' is a required property", "'alt' is a required"]),
        ({"figures": GOOD["figures"] * 2}, ["the stem x occurs 2 times, expected once", "the id it occurs 2 times"]),
        ({"figures": [figure("x", "X", [WITHOUT_SOURCE])]}, ["x: it: source is missing here and in the defaults"]),
        (changed(0, relation="near", tolerance=1), ["x: it: a margin has a reason: say `why`"]),
        (changed(0, relatoin="above"), ["x: it: ", "'relatoin' was unexpected", "known keys: id, statement"]),
        (changed(0, tolerance=0.1), ["x: it: tolerance and relative belong to the relation near, got above"]),
        (changed(1, ours=cell("mean"), relation="above", than=1), ["expected either ours, relation and than, or all"]),
        (changed(0, ours=cell("mean", rule="$rule")), ["x: it: unknown variable $rule; known variables: none"]),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, content, told):
    with pytest.raises(ClaimError) as error:
        read(tmp_path, content)
    assert [text for text in ["claims.yaml", *told] if text not in str(error.value)] == []


CELLS = {"task": "64-50", "layer": "1", "mean": "0.5", "low": "0.4", "high": "0.6", "values": "0.45 None 0.55"}
ROWS = [CELLS, {"task": "64-50"} | dict.fromkeys(list(CELLS)[1:], ""), CELLS | {"task": "1e1", "layer": "2.0"}]


def test_cells_are_compared_as_numbers_or_else_as_text():
    wanted = [{"task": "64-50", "layer": 1}, {"layer": 2}, {"layer": None}, {"layer": ""}, {"task": 10}, {"task": "64"}]
    assert [[ROWS.index(row) for row in matching(ROWS, where)] for where in wanted] == [[0], [2], [1], [1], [2], []]


def test_number_has_the_interval_and_samples_beside_it(tmp_path):
    assert number(CELLS, "mean")[:5] == (0.5, 0.4, 0.6, (0.45, None, 0.55), "seed")
    row = {"cosine": "0.5", "cosine_low": "-1", "cosine_high": "1", "cosine_values": "0 1", "low": "7", "rounds": "2"}
    assert number(row, "cosine")[:5] == (0.5, -1.0, 1.0, (0.0, 1.0), "round")
    assert number(row | {"unit": "start"}, "cosine").unit == "start"
    assert number(row, "low")[:4] == (7.0, 7.0, 7.0, ()) and number(ROWS[1], "mean") is None
    path = tmp_path / "x.csv"
    path.write_text('rule,note\notpe,"a, b"\n')
    assert read_table(path) == [{"rule": "otpe", "note": "a, b"}]


def test_samples_belong_together_where_data_and_network_and_number_of_seeds_are_the_same():
    for other in ({"task": "32"}, {"depth": "3"}, {"values": "0.45 0.55"}, {"rounds": "3"}):
        assert not number(CELLS, "mean").is_paired_with(number(CELLS | other, "mean"))
    assert number(CELLS, "mean").is_paired_with(number(CELLS | {"mean": "0.7", "rule": "otpe", "layer": "2"}, "mean"))


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/*/claims.yaml")), ids=lambda path: path.parent.name)
def test_every_figure_has_claims_and_docs_have_every_claim(path):
    """docs/RESULTS.md is made: it follows the claims by `make claims`."""
    text = html.unescape(re.sub(r"\\(.)", r"\1", (ROOT / "docs/RESULTS.md").read_text()))
    content = read_claims(path)
    claims = {one["id"]: " ".join(one["statement"].split()) for each in content for one in each["claims"]}
    assert [name for name, statement in claims.items() if statement not in text] == [], "run `make claims`"
    figures = importlib.import_module(f"experiments.{path.parent.name}.plot").FIGURES
    assert figures.keys() == {each["stem"] for each in content}
