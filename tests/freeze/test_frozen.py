"""Gradients and trainings are those of commit 96dfba00."""

import pytest

from freeze.cases import CASES, DAILY
from freeze.record import BOUND, deviation, read

FROZEN = read()


@pytest.mark.parametrize("name", DAILY)
def test_numbers_are_those_that_were_recorded(name):
    """`python -m tests.freeze.record compare` has more rules, networks and windows."""
    assert deviation(CASES[name](), FROZEN[name]) <= BOUND


def test_each_case_is_recorded():
    assert [*FROZEN] == [*CASES]
