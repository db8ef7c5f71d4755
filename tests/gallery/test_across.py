"""The comparison of two machines counts the numbers that differ, and no measured time."""

from gallery.across import differences

ROW = {"task": "time", "quantity": "accuracy", "mean": "0.90", "low": "0.8", "milliseconds": "1.0", "seeds": "3"}


def test_means_that_differ_are_counted_and_named():
    other = ROW | {"mean": "0.45", "low": "0.1", "milliseconds": "9.0"}
    here, there = {"depth": [ROW, ROW], "lost": [ROW]}, {"depth": [ROW, other]}
    assert [*differences(here, there)] == [("depth", "2", "1", "50.0%", "time accuracy mean")]
    rounded = {"depth": [ROW | {"mean": "0.90001"}] * 2}
    assert next(differences(here, rounded))[2] == "0"


def test_a_row_about_a_time_is_left_out():
    rows = [ROW | {"quantity": "milliseconds"}]
    assert [*differences({"speed": rows}, {"speed": rows})] == [("speed", "0", "0", "", "")]
