"""Everything in this folder runs in float64, whichever test runs first."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def _in_float64():
    with jax.enable_x64(True):
        yield
