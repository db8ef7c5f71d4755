"""Everything in this folder runs in float64, and as users run it: Adam adds numbers of different types."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def _in_float64():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield
