"""The measurements on streams, with few steps."""

import re

from benchmarks import streams


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_long_stream_has_a_row_for_each_power_of_ten():
    header, rule, *rows = streams.long("ottt", 10_000)
    assert header.count("|") == rule.count("|") and [cells(row)[0] for row in rows] == ["1,000", "10,000"]
    assert all(float(cells(row)[1]) > 0 and float(cells(row)[2]) > 10 for row in rows)


def test_single_precision_stays_close_to_double():
    _, _, row = streams.drift(1_000)
    numbers = [float(number) for number in re.findall(r"\d\.\de-\d+", row)]
    assert len(numbers) == 6 and 0 < max(numbers) < 1e-4
