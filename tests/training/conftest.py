"""Settings of the tests of training."""

import pytest

from slax_rules import step


@pytest.fixture(autouse=True)
def _count_programs_anew():
    """The warning of programs that differ in functions alone is of the calls of one test."""
    step._functions_of.cache_clear()
