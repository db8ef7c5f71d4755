"""A claims.yaml is refused with the place of each mistake, what came and what was expected."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from small_gallery import cell, claim, figure

from experiments.common.job import SCALES
from gallery.claims_file import SCHEMA, ClaimError, read_claims
from gallery.quantifiers import expand

README = Path(__file__).parents[2] / "gallery/README.md"
ONE = claim("it", cell("mean", rule="otpe"), "above", 1)
SEVERAL = {
    "id": "both",
    "statement": "s",
    "source": "ours",
    "all": [{key: ONE[key] for key in ("ours", "relation", "than")}],
}
GOOD = {"figures": [figure("x", "X", [ONE, SEVERAL])]}


def read(tmp_path, content):
    path = tmp_path / "claims.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return read_claims(path)


def changed(index, **changes):
    content = copy.deepcopy(GOOD)
    content["figures"][0]["claims"][index] |= changes
    return content


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"relation": "near", "tolerance": 0.1},
        {"relation": "near", "tolerance": 0.1, "relative": True},
        {"than": cell("mean", rule="bptt", layer=None), "file": "y"},
        {"scale": "paper", "needs": "shd", "published": 0.7},
        {"scale": ["quick", "full", "paper"], "published": "between 0.6 and 0.7"},
        {"relation": "near", "than": "$x", "tolerance": "$x", "published": "$x", "for": {"x": 0.5}},
        {"ours": cell("mean", rule="$rule"), "for": [{"rule": ["otpe", None]}, {"rule": "ostl"}]},
    ],
)
def test_good_claims_are_read(tmp_path, changes):
    content = changed(0, **changes)
    claims = [expand(one) for one in content["figures"][0]["claims"]]
    assert read(tmp_path, content) == [content["figures"][0] | {"claims": claims}]


def test_scales_are_those_of_the_experiments():
    assert SCHEMA["$defs"]["scale"]["enum"] == list(SCALES)


def test_example_of_the_readme_is_read(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (found,) = read(tmp_path, example)
    assert [len(one["all"]) for one in found["claims"]] == [1, 4, 2, 2]
    assert all(one["source"] in ("ours", "arXiv 2311.16151") for one in found["claims"])


def test_defaults_of_a_figure_are_those_of_its_claims(tmp_path):
    one = {key: value for key, value in ONE.items() if key != "source"}
    other = one | {"id": "other", "source": "ours", "scale": "paper"}
    defaults = {"source": "the paper", "needs": "shd", "scale": ["quick", "full"], "file": "y"}
    (found,) = read(tmp_path, {"figures": [figure("x", "X", [one, other]) | {"defaults": defaults}]})
    keys = ("source", "needs", "scale", "file")
    assert [[one[key] for key in keys] for one in found["claims"]] == [
        ["the paper", "shd", ["quick", "full"], "y"],
        ["ours", "shd", "paper", "y"],
    ]


@pytest.mark.parametrize(
    "content, told",
    [
        ("figures: [", ["is not valid YAML"]),
        ("", ["None is not of type 'object'"]),
        ({"figures": []}, ["figures", "[] should be non-empty"]),
        (
            {"figures": [{"stem": "x"}]},
            ["claims.yaml: x: 'title' is a required property", "'alt' is a required property"],
        ),
        ({"figures": [figure("X y", "X", [])]}, ["'X y' does not match"]),
        ({"figures": [figure("x", " ", [])]}, ["x: title: ' ' does not match"]),
        ({"figures": [figure("x", "X", []), figure("x", "Y", [])]}, ["the stem x occurs 2 times, expected once"]),
        (
            {"figures": [figure("x", "X", [ONE]), figure("y", "Y", [ONE])]},
            ["the id it occurs 2 times, expected once"],
        ),
        (changed(0, relatoin="above"), ["x: it: unknown key 'relatoin'; known keys: id, statement"]),
        (changed(0, relation="over"), ["x: it: relation: 'over' is not one of ['above', 'below', 'near', 'equal']"]),
        (changed(0, relation="near"), ["x: it: the relation near needs a tolerance"]),
        (changed(0, tolerance=0.1), ["x: it: tolerance and relative belong to the relation near, got above"]),
        (changed(0, relative=True), ["x: it: tolerance and relative belong to the relation near, got above"]),
        (changed(0, relation="near", tolerance=0), ["x: it: tolerance: 0 is less than or equal to"]),
        (changed(0, scale="papr"), ["x: it: scale: 'papr' is not valid"]),
        (changed(0, than="one"), ["x: it: than: 'one' is not valid"]),
        (changed(0, ours={"column": "mean"}), ["x: it: ours: 'where' is a required property"]),
        (changed(0, all=[]), ["x: it: all: [] should be non-empty"]),
        (changed(1, ours=cell("mean")), ["x: both: "]),
        (
            {"figures": [figure("x", "X", [{**ONE, "for": {"layer": [1]}}])]},
            ["x: it: the variable layer of `for` is not used"],
        ),
        (changed(0, ours=cell("mean", rule="$rule")), ["x: it: unknown variable $rule; known variables: none"]),
        (changed(0, **{"for": {}}), ["x: it: for: {} is not valid"]),
        (changed(0, **{"for": {"layer": []}}), ["x: it: for: {'layer': []} is not valid"]),
        (
            changed(0, relation="near", tolerance="$x", than="$y", **{"for": {"x": -1, "y": 2}}),
            ["x: it: all: 0: tolerance: -1 is less than or equal to the minimum of 0"],
        ),
        (changed(0, than="$x", **{"for": {"x": "high"}}), ["x: it: all: 0: than: 'high' is not valid"]),
        (
            {"figures": [figure("x", "X", [{key: value for key, value in ONE.items() if key != "source"}])]},
            ["x: it: a source is missing here and in the defaults"],
        ),
        (
            {"figures": [figure("x", "X", []) | {"defaults": {"sources": "ours"}}]},
            ["x: defaults: unknown key 'sources'; known keys: source, scale, needs, file"],
        ),
        (changed(1, ours=cell("mean"), relation="above", than=1), ["expected either ours, relation and than, or all"]),
        (
            changed(1, all=[{"ours": cell("mean"), "relation": "near", "than": 1}]),
            ["x: both: all: 0: the relation near needs a tolerance"],
        ),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, content, told):
    with pytest.raises(ClaimError) as error:
        read(tmp_path, content)
    for text in ["claims.yaml", *told]:
        assert text in str(error.value)
