"""The model of the time on a GPU and the arrays that it counts, by hand, and the table in the page."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.gpu_model import BATCH, STEPS, operations, table
from benchmarks.program_passes import SIZES, flat, gradient, passes
from slax_neurons import LI, LIF, connect
from slax_neurons.kernels import auto_is
from slax_rules import BPTT, OSTL, cross_entropy, gradients

PAGE = Path(__file__).parents[2] / "benchmarks/README.md"


def test_page_has_the_table():
    assert table() in PAGE.read_text()


def arrays_of_a_layer(program):
    """How many more arrays a program reads and writes for one more layer, besides its products."""
    few, many = (sum(one.arrays for one in passes(program(layers)) if one.kind != "dot_general") for layers in (1, 2))
    return many - few


def under(rule):
    def program(layers):
        steps, batch, n = SIZES
        modules = [
            module
            for seed in range(layers)
            for module in (nnx.Linear(n, n, use_bias=False, rngs=nnx.Rngs(seed)), LIF())
        ]
        model = connect([*modules, nnx.Linear(n, 3, rngs=nnx.Rngs(9)), LI()])
        loss = partial(gradients, model, cross_entropy, targets=jnp.zeros(batch, int), rule=rule, window=steps)
        with auto_is("fused"):
            return flat(lambda inputs: loss(inputs=inputs)[1], jax.ShapeDtypeStruct(SIZES, jnp.float32))

    return program


def test_a_layer_reads_and_writes_few_arrays():
    """Currents in, membranes and spikes out; membranes and the signal in, the cotangents of the currents out. OSTL also writes
    the cotangents within the step and those for its traces. A scan leaves spikes, slopes and products with them to others.
    """
    assert arrays_of_a_layer(partial(gradient, "fused")) == arrays_of_a_layer(under(BPTT())) == 3 + 3
    assert arrays_of_a_layer(under(OSTL())) == 3 + 5
    assert arrays_of_a_layer(partial(gradient, "scan")) == (2 + 2) + (3 + 2 + 3)


def test_passes_by_hand():
    """Constants and what is done twice cost nothing, a sum one array, and each array that leaves one kernel."""
    x = jax.ShapeDtypeStruct(SIZES, jnp.float32)
    program = flat(lambda x, y: (jnp.sin(x) * y, jnp.sum(jnp.sin(x)), 2 * jnp.ones(SIZES), jnp.reshape(x, -1)), x, x)
    assert sorted(one.arrays for one in passes(program)) == [1, 1, 3]


def test_products_and_bytes_by_hand():
    """Eight products of [T B, N] by [N, N], and arrays of 4 T B N bytes: six for each layer, and the gradient of the sum."""
    found = list(operations(64, "fused"))
    assert sum(one.products for one in found) == 8 * STEPS * BATCH * 64**2
    array = 4 * STEPS * BATCH * 64
    assert sum(one.bytes for one in found if not one.products) == (3 * 6 + 1) * array
    assert sum(one.bytes for one in found if one.products) == 8 * (2 * array + 4 * 64**2)
    assert sum(one.launches for one in found) == 8 + 3 * 2 + 1


def test_launches_of_six_loops_over_time():
    """One for each step, and two for each iteration; and 8 products, and 8 passes between."""
    for form, steps in (("scan, 1 step", 1), ("scan, 8 steps", 8)):
        assert sum(one.launches for one in operations(64, form)) == 6 * STEPS * (1 + 2 / steps) + 8 + 8
