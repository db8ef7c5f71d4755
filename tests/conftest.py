"""Strict settings for all tests: CPU, no silent type or rank promotion, warnings are errors (see pyproject.toml)."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first example of a test compiles; the same examples in every run.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.load_profile("house")


@pytest.fixture
def x64():
    """Runs a test in float64."""
    with jax.enable_x64(True):
        yield
