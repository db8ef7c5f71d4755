"""Settings of the tests of training."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _count_programs_anew():
    """The warning of programs that differ in functions alone is of the calls of one test."""
    from slax_rules import step  # not above: an old jaxtyping has to come before the packages that it checks

    step._functions_of.cache_clear()


@pytest.fixture(scope="module")
def standard_promotion():
    """As users have it, and Adam of Optax, which raises a float to an integer power, needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield
