"""Other tests check the types of what they call, once for each value of their parameters; here it is seen that they do."""

import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, TypeCheckError, jaxtyped

from covering import EVERY
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


ran = set()


@pytest.mark.parametrize(("one", "other"), [(1, 1), (1, 2), (2, 2), (2, 1)])
def test_first_case_of_a_value_is_checked_and_the_others_are_not(one, other):
    pairs = {("one", one), ("other", other)}
    checked = EVERY or bool(pairs - ran)
    ran.update(pairs)
    with pytest.raises(TypeCheckError if checked else ValueError, match="n_steps"):
        latency_encode(jnp.zeros(3), n_steps="4" if checked else -1)
