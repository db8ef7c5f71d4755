"""Rows of a table and their numbers."""

import pytest

from gallery.tables import Number, matching, number, read_table

ROWS = [
    {"task": "64-50", "layer": "1", "mean": "0.5", "low": "0.4", "high": "0.6", "bytes": "12"},
    {"task": "64-50", "layer": "", "mean": "", "low": "", "high": "", "bytes": "none"},
    {"task": "1e1", "layer": "2.0", "mean": "0.5", "low": "", "high": "", "bytes": "12"},
]


@pytest.mark.parametrize(
    "where, indices",
    [
        ({}, [0, 1, 2]),
        ({"task": "64-50"}, [0, 1]),
        ({"task": "64-50", "layer": 1}, [0]),
        ({"layer": "1"}, [0]),
        ({"layer": 2}, [2]),
        ({"layer": 1.0}, [0]),
        ({"layer": ""}, [1]),
        ({"layer": None}, [1]),
        ({"task": 10}, [2]),
        ({"task": "64"}, []),
    ],
)
def test_cells_are_compared_as_numbers_or_else_as_text(where, indices):
    assert matching(ROWS, where) == [ROWS[index] for index in indices]


def test_unknown_column_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match="has no column rule, it has task, layer, mean"):
        matching(ROWS, {"rule": "otpe"})
    with pytest.raises(ValueError, match="has no column median, it has task, layer, mean"):
        number(ROWS[0], "median")


def test_interval_stands_beside_the_mean_or_below_the_name_of_the_column():
    assert number(ROWS[0], "mean") == Number(0.5, 0.4, 0.6)
    assert number(ROWS[0], "bytes") == Number(12.0, 12.0, 12.0)
    assert number({"cosine": "0.5", "cosine_low": "-1", "cosine_high": "1", "low": "7"}, "cosine") == Number(0.5, -1, 1)


def test_number_without_an_interval_has_its_own_value_as_both_ends():
    assert number(ROWS[2], "mean") == Number(0.5, 0.5, 0.5, "no interval")
    assert not number(ROWS[2], "mean").has_interval and number(ROWS[0], "mean").has_interval


@pytest.mark.parametrize(
    "more, unknown",
    [
        ({"low": "", "high": "", "seeds": "1"}, "no interval: one seed"),
        ({"low": "", "high": "", "rounds": "1"}, "no interval: one round"),
        ({"low": "", "high": "", "seeds": "2"}, "no interval"),
        ({"low": "0.5", "high": "0.5", "seeds": "2"}, ""),
        ({"seeds": "1"}, ""),
    ],
)
def test_number_without_an_interval_is_exact_only_where_the_table_has_no_place_for_one(more, unknown):
    assert number({"mean": "0.5", **more}, "mean") == Number(0.5, 0.5, 0.5, unknown)


def test_empty_cell_is_no_number_and_text_is_a_mistake():
    assert number(ROWS[1], "mean") is None
    with pytest.raises(ValueError, match="has 'none' in the column bytes, expected a number"):
        number(ROWS[1], "bytes")


def test_table_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('rule,note\notpe,"a, b"\n')
    assert read_table(path) == [{"rule": "otpe", "note": "a, b"}]
