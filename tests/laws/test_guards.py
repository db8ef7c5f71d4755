"""Fragile places: each test fails loudly if what the packages read inside a dependency moves."""

import jax
import jax.numpy as jnp
import pytest

from slax_neurons import LI, LIF, connect
from slax_rules import SnAp, cross_entropy, gradients
from slax_rules.engine import coloring
from slax_rules.engine.jacobians import slopes
from stacks import equations, linear


def primitives_of(function, *arguments):
    """The names in the program of a function, those inside of its calls too."""
    return {equation.primitive.name for equation, _ in equations(jax.make_jaxpr(function)(*arguments).jaxpr)}


def everything_linear(x, kernel, image):
    """Each primitive that the sparsity of SnAp knows, by the function of JAX that makes it."""
    y = jnp.concatenate([x + x, x - x, -x, x * 2, x / 2])[::-1].reshape(2, -1).T
    y = jnp.pad(y, 1)[2:, None].squeeze(1) @ kernel
    y = jnp.cumsum(jnp.split(jnp.copy(y), 2)[0], axis=0).sum(axis=1)
    windows = jax.lax.reduce_window(x, 0.0, jax.lax.add, (2,), (1,), "VALID")
    image = jax.lax.conv_general_dilated(image, jnp.ones((1, 1, 2, 2)), (1, 1), "SAME")
    wide = jnp.broadcast_to(jnp.expand_dims(x, 0), (2, *x.shape)).astype(jnp.float16)
    return y.sum() + windows.sum() + image.sum() + wide.sum(dtype=jnp.float32).astype(y.dtype)


def test_the_primitives_that_sparsity_knows_are_those_of_jax():
    """One that is renamed would make SnAp dense."""
    arguments = jnp.ones(4), jnp.ones((4, 3)), jnp.ones((1, 1, 3, 3))
    found = primitives_of(everything_linear, *arguments) | primitives_of(jax.grad(everything_linear), *arguments)
    found |= primitives_of(jax.grad(lambda x: (x * x + x).sum()), jnp.ones(2))
    assert coloring.LINEAR - found <= {"expand_dims"}  # which is one in some versions of JAX
    assert "select_n" in primitives_of(lambda x: jnp.where(x > 0, x, 0.0), jnp.ones(2))
    assert coloring.CALLS & primitives_of(jax.jit(lambda x: x + 1), 1.0)


def pooled(pool):
    """Two layers with a pool of pairs between them."""
    shape = [lambda x: x.reshape(*x.shape, 1), pool, lambda x: x[..., 0]]
    return connect([linear(7, 6, 0), LIF(param_dtype=float), *shape, linear(3, 4, 1), LI(param_dtype=float)])


def test_snap_says_where_it_is_dense():
    x, labels = jnp.ones((3, 2, 7)), jnp.zeros(2, int)

    def run(pool):
        gradients(pooled(pool), cross_entropy, x, labels, rule=SnAp(n=1))

    def average(x):
        return jnp.mean(x.reshape(x.shape[0], 3, 2, 1), axis=2)

    def largest(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 1), (1, 2, 1), "VALID")

    with pytest.warns(UserWarning, match="SnAp.*select_and_scatter_add.*costs as much as RTRL"):
        run(largest)
    run(average)  # warnings are errors


def test_derivatives_that_are_always_zero_are_none():
    twos, none = slopes(lambda x: (2 * x, jnp.ones_like(x)), jnp.zeros(3))
    assert none is None and (twos == 2).all()
