"""All tests check the types of what they call; here it is seen that they do."""

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from slax_data import latency_encode


def test_functions_of_the_packages_are_checked():
    with pytest.raises(TypeCheckError, match="n_steps"):
        latency_encode(jnp.zeros(3), n_steps="4")
