"""Second and third derivatives of spiking networks are the same in every order of forward and reverse mode.

Only forward mode over forward mode differentiates no reverse pass of a loop, in which JAX drops the rules of `jax.custom_jvp`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from covering import combinations
from slax_neurons import ALIF, LIF, SURROGATES, Surrogate, connect, unroll

T, B, N = 6, 2, 3
LIKE = {"param_dtype": "float64"}


def chain(**edges):
    rngs = nnx.Rngs(0)
    modules = [
        nnx.Linear(N, 5, rngs=rngs, **LIKE),
        LIF(decay=0.7, **LIKE),
        nnx.Linear(5, 4, rngs=rngs, **LIKE),
        ALIF(**LIKE),
    ]
    return connect(modules, rngs=rngs, **edges)


def by_unroll(model, inputs, **options):
    return unroll(model, model.initialize_carry((B, N)), inputs, **options)[1]


def step_by_step(model, inputs):
    return jax.lax.scan(lambda carry, inputs: model(carry, inputs), model.initialize_carry((B, N)), inputs)[1]


EDGES = {"none": None, "down": {0: [1]}, "late": {2: [1, 3]}}
RUNS = {
    "plain": partial(by_unroll, kernel="plain"),
    "scan": partial(by_unroll, kernel="scan"),
    "chunks": partial(by_unroll, chunk=2),
    "rematerialized chunks": partial(by_unroll, chunk=2, remat=True),
    "fused": partial(by_unroll, kernel="fused"),
    "step by step": step_by_step,
}


@pytest.mark.parametrize(
    "edges, run",
    dict.fromkeys([("none", "fused"), *combinations(EDGES, RUNS, strength=1)]),  # kernels are for layers without edges
)
def test_every_order_of_modes_gives_the_same_second_derivative(run, edges, x64):
    model = chain(edges=EDGES[edges])
    keys = jax.random.split(jax.random.key(0))
    inputs, along = (jax.random.normal(key, (T, B, N), jnp.float64) for key in keys)

    def loss(inputs):
        outputs = RUNS[run](model, 4 * inputs)
        return jnp.sum(outputs.sum(0) ** 2)

    @jax.jit
    def orders(inputs):
        def forward(inputs):
            return jax.jvp(loss, (inputs,), (along,))[1]

        def reverse(inputs):
            return jnp.vdot(jax.grad(loss)(inputs), along)

        return [
            jax.jvp(forward, (inputs,), (along,))[1],
            jax.jvp(reverse, (inputs,), (along,))[1],
            jnp.vdot(jax.grad(forward)(inputs), along),
            jnp.vdot(jax.grad(reverse)(inputs), along),
        ]

    assert float(RUNS[run](model, 4 * inputs).sum()) > 5
    reference, *found = orders(inputs)
    assert abs(reference) > 1e-2
    np.testing.assert_allclose(found, reference, rtol=1e-11)


def test_second_and_third_derivative_are_those_of_calculus(x64):
    """Of s^2 + x s(2 x) at x = .3 with s' = d = exp(-x^2), so that d' = -2 x d and d'' = (4 x^2 - 2) d."""
    spike = Surrogate(lambda x: jnp.exp(-(x**2)))
    x, u = 0.3, 0.6
    d, slope, bend = np.exp(-(x**2)), -2 * x * np.exp(-(x**2)), (4 * x**2 - 2) * np.exp(-(x**2))
    e, slope_2, bend_2 = np.exp(-(u**2)), -2 * u * np.exp(-(u**2)), (4 * u**2 - 2) * np.exp(-(u**2))
    second = 2 * (d * d + slope) + 4 * e + 4 * x * slope_2  # s(.3) = s(.6) = 1
    third = 2 * (3 * d * slope + bend) + 12 * slope_2 + 8 * x * bend_2

    def number(x):
        return spike(x) ** 2 + x * spike(2 * x)

    def in_a_loop(x):
        return jax.lax.scan(lambda total, factor: (total + factor * number(x), None), 0.0, jnp.array([0.25, 0.75]))[0]

    for function in (number, in_a_loop):
        of_second = jax.grad(jax.grad(function))
        assert float(of_second(x)) == pytest.approx(second, rel=1e-12)
        assert float(jax.grad(of_second)(x)) == pytest.approx(third, rel=1e-12)
        assert float(jax.jacfwd(jax.grad(function))(x)) == pytest.approx(second, rel=1e-12)


@pytest.mark.parametrize("name", SURROGATES)
def test_third_derivatives_in_a_loop(name, x64):
    spike, x = SURROGATES[name](), jnp.linspace(-0.31, 0.37, 8)

    def number(scale, loop):
        if loop:
            return jnp.sum(jax.lax.scan(lambda count, x: (count, spike(scale * x)), 0.0, x)[1] ** 2)
        return jnp.sum(spike(scale * x) ** 2)

    in_a_loop, at_once = (jax.grad(jax.grad(jax.grad(partial(number, loop=loop))))(1.0) for loop in (True, False))
    np.testing.assert_allclose(in_a_loop, at_once, rtol=1e-12)


def test_spikes_in_batches_on_devices_and_out_of_jit():
    spike = SURROGATES["fast_sigmoid"](10.0)
    x = jnp.array([[-0.5, 0.0], [0.25, -0.0]])
    expected, slopes = [[0, 1], [1, 1]], 1 / (10 * np.abs(x) + 1) ** 2
    assert all(spike(jnp.ones(2, dtype)).dtype == dtype for dtype in ("float32", "bfloat16"))
    count, _ = jax.lax.scan(lambda count, x: (count + spike(x), None), 0.0, x[0])
    assert float(count) == 1 and not spike(jnp.asarray(1.0)).weak_type
    for function in (spike, jax.jit(spike), jax.vmap(spike), jax.vmap(spike, in_axes=1, out_axes=1)):
        np.testing.assert_array_equal(function(x), expected)
    for gradient in (jax.vmap(jax.vmap(jax.grad(spike))), jax.jit(jax.grad(lambda x: spike(x).sum()))):
        np.testing.assert_allclose(gradient(x), slopes, rtol=1e-6)

    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    split = PartitionSpec("batch")
    on_devices = jax.shard_map(jax.grad(lambda x: spike(x).sum()), mesh=mesh, in_specs=split, out_specs=split)
    np.testing.assert_allclose(jax.jit(on_devices)(x), slopes, rtol=1e-6)
