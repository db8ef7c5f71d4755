"""The programs of `unroll` and of every rule, for a CPU and for a GPU: what no noise of a timing can hide."""

import itertools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from kinds_of_rules import of_each_kind
from slax_neurons import LI, LIF, connect, unroll
from slax_neurons.kernels import auto_is
from slax_rules import RULES, LayerRule, cross_entropy, gradients

T, B = 32, 4
SIZES = [20, 30, 25, 7]
LAYERS = len(SIZES) - 1
LABELS = jnp.arange(B) % 7
# Rules for layers and BPTT; the others carry the influence of parameters through the network, which takes products.
NAMES = [name for name, entry in RULES.items() if name == "bptt" or issubclass(entry.rule or object, LayerRule)]
# Forward, one product for each layer; backward, one for each gradient of weights and one for each signal to the layer below.
PRODUCTS = 3 * LAYERS - 1
# A second trace has a product of its own in each hidden layer, and so has the loss of each hidden layer.
MORE = {"s_tllr": LAYERS - 1, "tess": 2 * (LAYERS - 1), "decolle": LAYERS - 1}


@pytest.fixture(scope="module")
def model():
    rngs = nnx.Rngs(0)
    modules = [module for pair in itertools.pairwise(SIZES) for module in (nnx.Linear(*pair, rngs=rngs), LIF())]
    return connect([*modules[:-1], LI()])


@pytest.fixture(params=["cpu", "cuda"])
def platform(request, monkeypatch):
    """The platform of a program; the length of a chunk depends on it."""
    if request.param == "cuda":
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    return request.param


def gradient_of(name, model, window=None):
    rule = RULES[name].make(rngs=nnx.Rngs(1), model=model)
    return lambda inputs: gradients(model, cross_entropy, inputs, LABELS, rule=rule, window=window)


def equations(jaxpr, loops=0):
    """Each equation of a program, and the number of loops around it."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name, loops
        inner = loops + (equation.primitive.name in ("scan", "while"))
        for parameter in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: isinstance(x, jax.extend.core.ClosedJaxpr | jax.extend.core.Jaxpr),
        ):
            if isinstance(parameter, jax.extend.core.ClosedJaxpr):
                yield from equations(parameter.jaxpr, inner)
            elif isinstance(parameter, jax.extend.core.Jaxpr):
                yield from equations(parameter, inner)


def program(function, steps=T):
    return list(equations(jax.make_jaxpr(function)(jnp.ones((steps, B, SIZES[0]))).jaxpr))


PRODUCT = ("dot_general", "conv_general_dilated")


@pytest.mark.parametrize("name", NAMES)
def test_no_product_is_inside_a_loop_over_steps(name, model, platform):
    """With one window for the sequence, in which a loop is one over steps. In windows, products are inside their loop alone."""
    whole = Counter(loops for word, loops in program(gradient_of(name, model, T)) if word in PRODUCT)
    assert whole.keys() == {0} and whole[0] >= PRODUCTS
    if name != "bptt":
        windows = Counter(loops for word, loops in program(gradient_of(name, model, 8)) if word in PRODUCT)
        assert windows.keys() <= {0, 1} and windows[1] >= PRODUCTS


def test_no_product_of_unroll_is_inside_a_loop_over_steps(model, platform):
    def outputs(inputs, chunk=None):
        return unroll(model, model.initialize_carry(inputs.shape[1:]), inputs, chunk=chunk)[1]

    found = Counter(loops for word, loops in program(lambda inputs: outputs(inputs, T)) if word in PRODUCT)
    assert found == {0: LAYERS}
    found = Counter(loops for word, loops in program(lambda inputs: outputs(inputs, 8)) if word in PRODUCT)
    assert found == {1: LAYERS}


@pytest.mark.parametrize("name", NAMES)
def test_compiled_program_has_one_product_for_each_layer_window_and_direction(name, model, optimized):
    """As many as BPTT, whatever the traces: 3 L - 1, and one more for each trace and loss that a rule has in addition."""
    compiled = jax.jit(gradient_of(name, model, T)).lower(jnp.ones((T, B, SIZES[0]))).compile()
    assert len(re.findall(r" dot\(", compiled.as_text())) == PRODUCTS + MORE.get(name, 0)


@pytest.mark.parametrize("name", of_each_kind(NAMES))
def test_programs_have_no_double_precision_no_callback_and_a_length_without_time(name, model, platform):
    def text(steps):
        traced = jax.jit(gradient_of(name, model, 8)).trace(jnp.ones((steps, B, SIZES[0])))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    short, long = text(2 * T), text(8 * T)
    assert "f64" not in short and "callback" not in short
    assert short.count(" = ") == long.count(" = ")


@pytest.mark.parametrize("name", of_each_kind(NAMES))
def test_in_kernels_a_window_of_a_rule_has_no_loop_over_steps(name, model, monkeypatch):
    """For CUDA, which needs no GPU: one Triton kernel takes the place of each loop, whatever the number of steps."""
    monkeypatch.setattr("slax_neurons.kernels.is_interpreted", lambda: False)
    monkeypatch.setattr("slax_neurons.kernels.compiles", lambda *_: True)  # there is no GPU to try it on
    monkeypatch.setattr("slax_neurons.neurons.fused.compiles", lambda *_: True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    texts = {}
    with auto_is("fused"):
        for steps in (16, 64):
            traced = jax.jit(gradient_of(name, model, steps)).trace(jnp.ones((steps, B, SIZES[0])))
            texts[steps] = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.while" not in "".join(texts.values())
    assert texts[16].count("triton") == texts[64].count("triton") > 0


def test_bptt_of_a_long_sequence_keeps_an_array_for_each_layer_and_two_more(optimized):
    """The membranes of each layer, the outputs, and the gradient of the loss with respect to them, all [T, B, N]."""
    rngs, (steps, batch, units) = nnx.Rngs(0), (1024, 32, 128)
    modules = [part for _ in range(3) for part in (nnx.Linear(units, units, use_bias=False, rngs=rngs), LIF())]
    graphdef, state = nnx.split(connect(modules))

    def gradient(state, inputs, labels):
        return gradients(nnx.merge(graphdef, state), cross_entropy, inputs, labels)

    arrays = jax.ShapeDtypeStruct((steps, batch, units), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.int32)
    needed = jax.jit(gradient).lower(state, *arrays).compile().memory_analysis().temp_size_in_bytes
    assert needed / (4 * steps * batch * units) < 3 + 2 + 0.1
