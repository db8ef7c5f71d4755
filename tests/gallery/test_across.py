"""The comparison of two machines counts the numbers that differ, and no measured time."""

from gallery.across import differences

ROW = {"task": "time", "quantity": "accuracy", "mean": "0.90", "low": "0.8", "milliseconds": "1.0", "seeds": "3"}


def test_means_that_differ_are_counted_and_named():
    other, rounded = ROW | {"mean": "0.45", "low": "0.1", "milliseconds": "9.0"}, ROW | {"mean": "0.90001"}
    here = {
        "depth": [ROW, ROW, ROW | {"stage": "initial"}],
        "lost": [ROW],
        "speed": [ROW | {"quantity": "milliseconds"}],
    }
    there = {"depth": [ROW, other, rounded], "speed": [other | {"quantity": "milliseconds"}]}
    counted = ("depth", "3", "1", "1", "0", "50.0%", "time accuracy mean")
    assert [*differences(here, there)] == [counted, ("speed", *"0000", "", "")]
