"""Everything in this folder runs in float64 and without silent promotions, whichever test runs first."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def _in_float64():
    settings = {"jax_enable_x64": True, "jax_numpy_dtype_promotion": "strict", "jax_numpy_rank_promotion": "raise"}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
