import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def promotion():
    """Promotes types as JAX does by default, for Optax, whose step counter is an integer."""
    with jax.numpy_dtype_promotion("standard"):
        yield
