"""What compiled programs of rules hold: one product per layer, window and direction, no float64, no growth in time."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI as Integrator
from slax_neurons import LIF, connect
from slax_rules import RULES, cross_entropy, gradients
from stacks import FUSED, linear

T, B = 32, 4
SIZES = [20, 30, 25, 7]
LAYERS = len(SIZES) - 1
LABELS = np.arange(B) % 7
# XLA's optimizations are on in the programs of this file, as users have them.
OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False} | FUSED
# Forward, one product for each layer; backward, one for each gradient of weights and one for each signal to the layer below.
PRODUCTS = 3 * LAYERS - 1
# The loss of each hidden layer has a product of its own.
MORE = {"decolle": LAYERS - 1}


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile(compiler_options=OPTIMIZED)


def stack():
    synapses = [linear(*sizes, index, jnp.float32) for index, sizes in enumerate(itertools.pairwise(SIZES))]
    modules = [module for synapse in synapses for module in (synapse, LIF())]
    return connect([*modules[:-1], Integrator()])


def gradient_of(name, model, window):
    rule = RULES[name].make(rngs=nnx.Rngs(1), model=model)
    labels = jnp.asarray(LABELS, jnp.int32)
    return lambda inputs: gradients(model, cross_entropy, inputs, labels, rule=rule, window=window)


@pytest.mark.parametrize("name", ["bptt", "otpe", "decolle"])
def test_a_program_has_one_product_per_layer_and_direction(name):
    """As many as BPTT, whatever the traces: 3 L - 1, and one more for each loss that a rule has in addition."""
    program = compiled(gradient_of(name, stack(), T), jnp.ones((T, B, SIZES[0]), jnp.float32))
    assert len(re.findall(r" dot\(", program.as_text())) == PRODUCTS + MORE.get(name, 0)


@pytest.mark.parametrize("name", ["bptt", "otpe"])
@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_programs_have_no_float64_and_no_growth_in_time(name, platform, monkeypatch):
    """For CUDA too, which needs no GPU: the length of a chunk depends on the platform."""
    if platform == "cuda":
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    model = stack()

    def text(steps):
        traced = jax.jit(gradient_of(name, model, 8)).trace(jnp.ones((steps, B, SIZES[0]), jnp.float32))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    with jax.enable_x64(False):
        short, long = text(2 * T), text(8 * T)
    assert "f64" not in short and "callback" not in short
    assert short.count(" = ") == long.count(" = ")


def test_a_window_overwrites_its_traces_and_copies_none():
    """OTPE has two traces for each weight of a hidden layer, and one reads the other."""
    program = compiled(gradient_of("otpe", stack(), 1), jnp.ones((T, B, SIZES[0]), jnp.float32))
    loops, entry = program.as_text().split("ENTRY")
    trace = rf"f32\[{B},(?:1,)?{SIZES[0]},{SIZES[1]}\]"
    assert re.search(trace, entry)
    assert not re.search(rf"copy[\w.]* = {trace}", loops)


# ------------------------------------------------------------------- what the packages read inside a dependency, which may move
