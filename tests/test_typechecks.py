"""All tests check the types of what they call; here it is seen that they do."""

import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, TypeCheckError, jaxtyped

from slax_data import latency_encode
from typechecks import beartype_once


def test_functions_of_the_packages_are_checked():
    with pytest.raises(TypeCheckError, match="n_steps"):
        latency_encode(jnp.zeros(3), n_steps="4")


def adder(step):
    @jaxtyped(typechecker=beartype_once)
    def add(x: Float[Array, " N"], y: Float[Array, " N"]) -> Float[Array, " N"]:
        return x + y + step if step else x[1:]

    return add


def test_function_in_a_function_is_checked_each_time():
    """In arguments, in sizes that have to be alike, and in what comes back; and it is its own."""
    x = jnp.zeros(3)
    for step in (1, 2):
        assert adder(step)(x, x)[0] == step
        for wrong in (jnp.zeros(4), jnp.zeros(3, int), 0.0):
            with pytest.raises(TypeCheckError, match=r"parameters of .*adder"):
                adder(step)(x, wrong)
    with pytest.raises(TypeCheckError, match=r"return value of .*adder"):
        adder(0)(x, x)
