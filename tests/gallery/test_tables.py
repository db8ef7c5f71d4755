"""Rows of a table and their numbers."""

import pytest

from gallery.tables import matching, number, read_table

ROWS = [
    {
        "task": "64-50",
        "layer": "1",
        "mean": "0.5",
        "low": "0.4",
        "high": "0.6",
        "values": "0.45 None 0.55",
        "bytes": "12",
    },
    {"task": "64-50", "layer": "", "mean": "", "low": "", "high": "", "values": "", "bytes": "none"},
    {"task": "1e1", "layer": "2.0", "mean": "0.5", "low": "", "high": "", "values": "0.5", "bytes": "12"},
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


def test_interval_and_samples_stand_beside_the_mean_or_below_the_name_of_the_column():
    found = number(ROWS[0], "mean")
    assert found[:5] == (0.5, 0.4, 0.6, (0.45, None, 0.55), "seed") and found.has_interval
    row = {"cosine": "0.5", "cosine_low": "-1", "cosine_high": "1", "cosine_values": "0 1", "low": "7", "rounds": "2"}
    assert number(row, "cosine")[:5] == (0.5, -1.0, 1.0, (0.0, 1.0), "round")


def test_number_without_an_interval_has_its_own_value_as_both_ends():
    assert number(ROWS[0], "bytes")[:4] == (12.0, 12.0, 12.0, ())
    assert number(ROWS[2], "mean")[:4] == (0.5, 0.5, 0.5, (0.5,))
    assert not number(ROWS[2], "mean").has_interval


def test_interval_without_samples_is_a_mistake():
    with pytest.raises(ValueError, match="has an interval of mean, but no samples in values: `summary` writes both"):
        number(ROWS[0] | {"values": ""}, "mean")
    with pytest.raises(ValueError, match="has an interval of x, but no samples in x_values"):
        number({"x": "1", "x_low": "0", "x_high": "2"}, "x")
    with pytest.raises(ValueError, match="has 'one' in the column values, expected a number"):
        number(ROWS[0] | {"values": "one"}, "mean")


@pytest.mark.parametrize(
    "other, paired",
    [
        ({"layer": "2"}, True),
        ({"task": "other"}, False),
        ({"depth": "3"}, False),
        ({"values": "0.45 0.55"}, False),
        ({"rounds": "3"}, False),
    ],
)
def test_samples_belong_together_where_data_and_network_and_number_of_seeds_are_the_same(other, paired):
    assert number(ROWS[0], "mean").is_paired_with(number(ROWS[0] | other, "mean")) == paired


def test_empty_cell_is_no_number_and_text_is_a_mistake():
    assert number(ROWS[1], "mean") is None
    with pytest.raises(ValueError, match="has 'none' in the column bytes, expected a number"):
        number(ROWS[1], "bytes")


def test_table_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('rule,note\notpe,"a, b"\n')
    assert read_table(path) == [{"rule": "otpe", "note": "a, b"}]
