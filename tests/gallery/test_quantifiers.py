"""Conditions with variables are written out for every combination of values."""

import pytest

from gallery.quantifiers import expand


def side(**where):
    return {"where": where, "column": "cosine"}


def claim(**parts):
    return {"id": "it", "statement": "s", "relation": "above"} | parts


def test_claim_without_variables_is_a_claim_of_one_condition():
    found = expand(claim(ours=side(rule="otpe"), than=0.5, published=0.7, needs="shd"))
    (condition,) = found.pop("all")
    assert condition == {"ours": side(rule="otpe"), "relation": "above", "than": 0.5, "published": 0.7}
    assert found == {"id": "it", "statement": "s", "needs": "shd"}


def test_published_words_belong_to_the_claim_and_a_published_variable_to_the_condition():
    found = expand(claim(ours=side(rule="otpe"), than=1, published="about 1"))
    assert found["published"] == "about 1" and "published" not in found["all"][0]
    found = expand(claim(ours=side(rule="$rule"), than="$x", published="$x", **{"for": {"rule": "otpe", "x": 0.7}}))
    assert "published" not in found and found["all"][0]["published"] == 0.7
    several = expand({"id": "it", "all": [claim(ours=side(), than=1)], "published": 0.5})
    assert several["published"] == 0.5


def test_every_combination_has_a_condition():
    whole = claim(ours=side(layer="$layer"), than=side(layer="$layer", rule="$other"))
    found = expand(whole | {"for": {"layer": [1, 2], "other": ["ottt", "ostl"]}})["all"]
    assert [(one["ours"]["where"], one["than"]["where"]) for one in found] == [
        ({"layer": layer}, {"layer": layer, "rule": other}) for layer in (1, 2) for other in ("ottt", "ostl")
    ]
    assert all(one["relation"] == "above" and one["ours"]["column"] == "cosine" for one in found)


def test_list_of_mappings_has_the_combinations_of_each():
    combinations = [{"layer": 1, "rule": ["otpe", "ostl"], "x": 0.7}, {"layer": 3, "rule": "sltt", "x": 1}]
    found = expand(claim(ours=side(layer="$layer", rule="$rule"), than="$x", tolerance="$x", **{"for": combinations}))[
        "all"
    ]
    assert [(one["ours"]["where"], one["than"], one["tolerance"]) for one in found] == [
        ({"layer": 1, "rule": "otpe"}, 0.7, 0.7),
        ({"layer": 1, "rule": "ostl"}, 0.7, 0.7),
        ({"layer": 3, "rule": "sltt"}, 1, 1),
    ]


def test_condition_of_several_can_have_variables_of_its_own():
    first = {"for": {"layer": [1, 2]}, "ours": side(rule="$rule", layer="$layer"), "relation": "above", "than": 0}
    second = {"ours": side(rule="$rule"), "relation": "below", "than": 1}
    found = expand({"id": "it", "for": {"rule": ["a", "b"]}, "all": [first, second]})["all"]
    assert [one["ours"]["where"] for one in found] == [
        *({"rule": "a", "layer": 1}, {"rule": "a", "layer": 2}, {"rule": "a"}),
        *({"rule": "b", "layer": 1}, {"rule": "b", "layer": 2}, {"rule": "b"}),
    ]
    assert not any("for" in one for one in found)


def test_variable_within_a_text_is_put_into_it_and_alone_it_is_the_value_itself():
    found = expand(claim(ours={"where": {"layer": "$n"}, "column": "spikes_$n"}, than=0, **{"for": {"n": 2}}))["all"]
    assert found[0]["ours"] == {"where": {"layer": 2}, "column": "spikes_2"}
    assert expand(claim(ours=side(task="$task"), than=0, **{"for": {"task": None}}))["all"][0]["ours"] == side(
        task=None
    )


@pytest.mark.parametrize(
    "whole, told",
    [
        (
            claim(ours=side(layer="$laier"), than=0, **{"for": {"layer": [1], "rule": "x"}}),
            "the variable layer of `for` is not used: write $layer in a condition, or leave it out",
        ),
        (
            claim(ours=side(layer="$laier", rule="$layer"), than=0, **{"for": {"layer": [1]}}),
            r"unknown variable $laier; known variables: $layer",
        ),
        (
            claim(ours=side(layer="$layer"), than=0),
            "unknown variable $layer; known variables: none, since there is no `for`",
        ),
        (
            claim(ours=side(layer="$layer"), than=0, **{"for": [{"layer": 1}, {"layer": 2, "rule": "x"}]}),
            "the combinations of `for` have different variables, {layer} and {layer, rule}: give all of them the same",
        ),
        (
            {"id": "it", "all": [{"for": {"n": 1}, "ours": side(), "relation": "above", "than": 0}]},
            "the variable n of `for` is not used",
        ),
    ],
)
def test_mistakes_are_told(whole, told):
    with pytest.raises(ValueError) as error:
        expand(whole)
    assert told in str(error.value)
