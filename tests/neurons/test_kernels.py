"""The kernels of element-wise neurons: equal to the scan, forward and in every derivative, and lowered for a GPU."""

import itertools
import re
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import (
    ALIF,
    IF,
    LI,
    LIF,
    NEURONS,
    AdLIF,
    Edge,
    Neuron,
    Trainable,
    connect,
    unroll,
)
from slax_neurons.kernels import BLOCK, auto_is, elementwise_scan
from slax_neurons.neurons.fused import fused_integrate_and_fire
from slax_neurons.neurons.states import integrate_and_fire

T, B, N = 7, 3, 50  # 150 units: a whole block and a part of one
KINDS = [kind for kind in NEURONS if issubclass(NEURONS[kind], Neuron)]
VECTOR = np.linspace(0.6, 0.9, N)
OPTIONS = {
    "trainable": LIF(decay=Trainable(0.9), threshold=Trainable(1.0)),
    "per neuron": LIF(decay=Trainable(VECTOR), threshold=VECTOR),
    "reset to zero": IF(reset="zero"),
    "no reset": LIF(reset="none"),
    "stopped reset": ALIF(stop_reset_gradient=True, beta=Trainable(0.3)),
    "symplectic": AdLIF(form="symplectic"),
}
GAIN = {"adlif": 10.0, "brf": 200.0, "symplectic": 10.0}
NEURONS_TRIED = {kind: NEURONS[kind]() for kind in KINDS} | OPTIONS


class OfTheUser(Neuron):
    """Two states, one of which the current multiplies, so that the derivative needs the currents."""

    carry_type = ALIF.carry_type

    def __init__(self):
        super().__init__()
        self.gain = nnx.Param(jnp.float32(0.7))

    def integrate(self, carry, inputs):
        return ALIF.carry_type(u=jnp.tanh(carry.u) + self.gain.astype(inputs.dtype) * inputs * carry.a, a=carry.a)

    def fire(self, membrane):
        return ALIF.carry_type(u=0.5 * membrane.u, a=0.9 * membrane.a + membrane.u**2), jnp.sin(membrane.u)


NEURONS_TRIED["of the user"] = OfTheUser()


def in_double(neuron):
    """The neuron with all numbers in double precision."""
    graphdef, state = nnx.split(neuron)
    made = nnx.merge(graphdef, jax.tree.map(lambda array: array.astype(jnp.float64), state))
    made.param_dtype = jnp.dtype("float64")
    return made


def problem(name, shape=(T, B, N)):
    """The parts of a neuron, a carry that is not at rest, and currents under which it fires now and then."""
    neuron = in_double(NEURONS_TRIED[name])
    keys = iter(jax.random.split(jax.random.key(len(name)), 9))
    currents = GAIN.get(name, 1.0) * jax.random.normal(next(keys), shape, jnp.float64)
    carry = jax.tree.map(
        lambda array: array + 0.3 * jax.random.normal(next(keys), array.shape, array.dtype),
        neuron.initialize_carry(shape[1:]),
    )
    return *nnx.split(neuron), carry, currents


def close(one, other, bound=1e-12):
    pairs = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    assert pairs
    for a, b in pairs:
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound * float(jnp.abs(b).max()) + 1e-300)


def weighted(states, graphdef, *primals):
    """A number that depends on the last carry and all membranes, differently for each."""
    end, membranes = states(graphdef, *primals)
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves((end, membranes))]
    return sum(jnp.sum(weights_like(leaf) * leaf + weights_like(leaf) * leaf**2) for leaf in leaves)


def weights_like(leaf):
    return jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32)).astype(leaf.dtype)


@pytest.mark.parametrize("name", NEURONS_TRIED)
def test_states_tangents_gradients_and_their_derivatives_are_those_of_the_scan(name, x64):
    graphdef, *primals = problem(name)
    keys = iter(jax.random.split(jax.random.key(1), 20))
    tangents = jax.tree.map(lambda array: jax.random.normal(next(keys), array.shape, array.dtype), tuple(primals))
    made = []
    for states in (fused_integrate_and_fire, integrate_and_fire):
        number = partial(weighted, states, graphdef)
        gradient = jax.grad(number, argnums=(0, 1, 2))
        of_states = jax.jit(
            lambda primals, tangents, states=states: jax.jvp(partial(states, graphdef), primals, tangents)
        )
        of_gradient = jax.jit(lambda primals, tangents, gradient=gradient: jax.jvp(gradient, primals, tangents))
        made.append((of_states(tuple(primals), tangents), of_gradient(tuple(primals), tangents)))
    close(*made)


def test_spikes_were_there():
    """The neurons fire in some steps and not in others, so that resets are compared."""
    for name in NEURONS_TRIED:
        with jax.enable_x64(True):
            graphdef, state, carry, currents = problem(name)
            neuron = nnx.merge(graphdef, state)
            if neuron.spikes:
                _, spikes = neuron.unroll(carry, currents)
                assert 0.02 < float(spikes.mean()) < 0.9, name


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, BLOCK), (2, 2, 5, 4, 3), (4, 1, 2 * BLOCK + 1)])
def test_any_shape(shape, x64):
    graphdef, *primals = problem("alif", shape)
    made = [
        jax.value_and_grad(partial(weighted, states, graphdef), argnums=(1, 2))(*primals)
        for states in (fused_integrate_and_fire, integrate_and_fire)
    ]
    close(*made)


@pytest.mark.parametrize("axes", list(itertools.product([0, None], [0, 1])), ids=str)
def test_a_batch_of_gradients_and_the_gradient_of_a_batch(axes, x64):
    graphdef, state, carry, currents = problem("trainable")
    several = {0: jax.tree.map(lambda array: jnp.stack([array, 0.9 * array]), state), None: state}[axes[0]]
    currents = (
        jnp.stack([currents, 2 * currents, -currents], axis=axes[1])
        if axes[0] is None
        else jnp.stack([currents, 2 * currents], axis=axes[1])
    )

    def gradients(states, order):
        one = lambda state, currents: weighted(states, graphdef, state, carry, currents)  # noqa: E731
        batch = partial(jax.vmap, in_axes=axes)
        if order == "batch of gradients":
            return batch(jax.grad(one, argnums=(0, 1)))(several, currents)
        return jax.grad(lambda *at: batch(one)(*at).sum(), argnums=(0, 1))(several, currents)

    for order in ("batch of gradients", "gradient of a batch"):
        close(gradients(fused_integrate_and_fire, order), gradients(integrate_and_fire, order))


def test_half_precision():
    neuron = LIF(decay=Trainable(0.9), param_dtype=jnp.bfloat16)
    graphdef, state = nnx.split(neuron)
    currents = jax.random.normal(jax.random.key(0), (T, B, N), jnp.bfloat16)
    primals = state, neuron.initialize_carry((B, N)), currents
    made = [
        jax.value_and_grad(lambda *at, states=states: weighted(states, graphdef, *at).astype(jnp.float32), argnums=2)(
            *primals
        )
        for states in (fused_integrate_and_fire, integrate_and_fire)
    ]
    close(made[0][1], made[1][1], 0.02)


@pytest.fixture(scope="module")
def stack():
    layers = [
        nnx.Linear(20, 30, rngs=nnx.Rngs(0)),
        ALIF(beta=Trainable(0.1)),
        nnx.Linear(30, 7, rngs=nnx.Rngs(1)),
        LI(),
    ]
    return connect([connect(layers[:2]), *layers[2:]])


@pytest.mark.parametrize("options", [{}, {"chunk": 3}, {"chunk": 3, "remat": True}], ids=str)
def test_unroll_gives_a_stack_the_same_outputs_and_gradients(options, stack):
    inputs = jax.random.normal(jax.random.key(0), (T, B, 20))

    def loss(stack, kernel):
        end, outputs = unroll(stack, stack.initialize_carry((B, 20)), inputs, kernel=kernel, **options)
        return (outputs**2).sum() + sum(leaf.sum() for leaf in jax.tree.leaves(end))

    fused, scan = (nnx.value_and_grad(loss)(stack, kernel) for kernel in ("fused", "scan"))
    close(fused, scan, 1e-5)


@pytest.mark.parametrize("name", NEURONS_TRIED)
def test_what_jax_differentiates_is_the_same(name, x64):
    """Outputs, tangents, gradients and tangents of gradients of "plain" and of "scan"."""
    graphdef, *primals = problem(name)
    keys = iter(jax.random.split(jax.random.key(2), 20))
    tangents = jax.tree.map(lambda array: jax.random.normal(next(keys), array.shape, array.dtype), tuple(primals))

    def everything(kernel):
        def run(state, carry, currents):
            return unroll(nnx.merge(graphdef, state), carry, currents, kernel=kernel)

        number = partial(weighted, lambda graphdef, *at: run(*at), graphdef)

        @jax.jit
        def made(primals, tangents):
            gradient = jax.grad(number, argnums=(0, 1, 2))
            return jax.jvp(run, primals, tangents), jax.jvp(gradient, primals, tangents)

        return made(tuple(primals), tangents)

    close(everything("plain"), everything("scan"))


@pytest.mark.parametrize(
    ("steps", "options", "expected"),
    [
        (T, {}, "plain"),
        (T, {"chunk": T}, "plain"),
        (T, {"chunk": 10**6}, "plain"),
        (T, {"chunk": 3}, "scan"),
        (T, {"chunk": 3, "remat": True}, "plain"),
        (2**19 // 90, {}, "plain"),  # arrays of 2.1 MB: [steps, 3, 30]
        (2**19 // 90, {"chunk": 2**18 // 90 + 1}, "scan"),
        (2**20 // 90, {"chunk": 2**20}, "scan"),  # of 4.2 MB
    ],
    ids=str,
)
def test_auto_is_plain_where_all_steps_are_in_the_cache_of_a_cpu(steps, options, expected, stack):
    inputs = jax.ShapeDtypeStruct((steps, B, 20), "float32")

    def program(kernel):
        def gradient(inputs):
            return unroll(stack, stack.initialize_carry((B, 20)), inputs, kernel=kernel, **options)[1].sum()

        return str(jax.make_jaxpr(jax.grad(gradient))(inputs))

    made = {kernel: program(kernel) for kernel in ("plain", "scan")}
    assert made["plain"] != made["scan"]
    assert program("auto") == made[expected]
    assert "prevent_cse" in made["scan"] and ("prevent_cse" in made["plain"]) == ("remat" in options)


@pytest.mark.parametrize("kernel", ["plain", "scan", "fused"])
@pytest.mark.parametrize("steps", [T, 2**20 // 90])
def test_auto_can_be_set_for_a_measurement(kernel, steps, stack):
    inputs = jax.ShapeDtypeStruct((steps, B, 20), "float32")

    def program(kernel):
        run = lambda inputs: unroll(stack, stack.initialize_carry((B, 20)), inputs, kernel=kernel)[1]  # noqa: E731
        return re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(run)(inputs)))

    with auto_is(kernel):
        assert program("auto") == program(kernel)


def test_neurons_that_do_more_than_a_step_are_the_same_for_short_sequences():
    """A function over time of their own, or states unlike the current."""

    class Doubled(LIF):
        def outputs(self, membranes):
            return 2 * super().outputs(membranes)

    class Counter(Neuron):
        def initialize_carry(self, input_shape, rngs=None, carry_init=None):
            return jnp.zeros((*input_shape, 2), jnp.int32)

        def __call__(self, carry, inputs):
            return carry + 1, inputs * carry[..., 0].astype(inputs.dtype)

    inputs = 3 * jnp.ones((T, B, N))
    for neuron in (Doubled(), Counter()):
        auto, scan = (
            unroll(neuron, neuron.initialize_carry((B, N)), inputs, kernel=kernel)[1] for kernel in ("auto", "scan")
        )
        np.testing.assert_array_equal(auto, scan)
        assert auto.max() > 1


class OwnStack(nnx.RNNCellBase):
    """A cell of a user around a stack."""

    def __init__(self, stack):
        self.stack = stack

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return self.stack.initialize_carry(input_shape)

    def __call__(self, carry, inputs):
        return self.stack(carry, inputs)

    @property
    def num_feature_axes(self):
        return 1


def models():
    rngs = nnx.Rngs(0)
    linear = lambda *sizes: nnx.Linear(*sizes, rngs=rngs)  # noqa: E731
    trained = LIF(decay=Trainable(np.linspace(0.5, 0.9, 8)), threshold=Trainable(0.5))
    flat = lambda x: x.reshape(x.shape[0], -1)  # noqa: E731
    conv, without_bias = nnx.Conv(1, 4, (3,), rngs=rngs), nnx.Linear(8, 8, use_bias=False, rngs=rngs)
    return {
        "recurrent": connect([linear(8, 8), trained, linear(8, 3), LI()], {0: [1, 3]}, rngs=rngs),
        "delayed edge": connect([linear(8, 8), LIF(), linear(8, 3), LI()], [Edge(1, 0, delay=2)], rngs=rngs),
        "convolution": connect([lambda x: x[..., None], conv, LIF(), flat, linear(32, 3), LI()]),
        "batch norm": connect([without_bias, nnx.BatchNorm(8, rngs=rngs), ALIF(), linear(8, 3), LI()]),
        "nested": connect([connect([linear(8, 8), ALIF()]), linear(8, 3), LI()]),
        "of the user": OwnStack(connect([linear(8, 3), LIF()])),
        "no weights": connect([LIF(), LI()]),
    }


@pytest.mark.parametrize("name", models())
def test_plain_stacks_are_those_of_the_scan(name):
    inputs, model = 2 * jax.random.normal(jax.random.key(0), (T, B, 8)), models()[name]

    def loss(model, inputs, kernel):
        end, outputs = unroll(model, model.initialize_carry((B, 8)), inputs, kernel=kernel)
        return (outputs**2).sum() + sum(leaf.sum() for leaf in jax.tree.leaves(end)), outputs

    plain, scan = (
        nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)(model, inputs, kernel) for kernel in ("plain", "scan")
    )
    close(plain, scan, 1e-4)
    assert all(jnp.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(plain[1]))


def test_auto_is_the_scan_on_other_devices(stack, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    inputs = jax.ShapeDtypeStruct((T, B, 20), "float32")
    text = {
        kernel: str(
            jax.make_jaxpr(
                lambda x, kernel=kernel: unroll(stack, stack.initialize_carry((B, 20)), x, kernel=kernel)[1]
            )(inputs)
        )
        for kernel in ("auto", "plain", "scan")
    }
    assert text["auto"] == text["scan"] != text["plain"]


def test_only_the_fused_kernel_is_a_kernel(stack):
    inputs = jnp.ones((T, B, 20))
    text = {
        kernel: str(
            jax.make_jaxpr(
                lambda x, kernel=kernel: unroll(stack, stack.initialize_carry((B, 20)), x, kernel=kernel)[1]
            )(inputs)
        )
        for kernel in ("auto", "plain", "scan", "fused")
    }
    assert not any("pallas_call" in text[kernel] for kernel in ("auto", "plain", "scan"))
    assert text["fused"].count("pallas_call") >= 2


def test_another_word_is_refused(stack):
    with pytest.raises(ValueError, match="unroll got kernel='fast', expected one of 'auto', 'plain', 'scan', 'fused'"):
        unroll(stack, stack.initialize_carry((B, 20)), jnp.ones((T, B, 20)), kernel="fast")


def test_a_neuron_that_does_not_compile_runs_by_the_scan_with_one_warning():
    table = jnp.arange(40.0)

    class WithTable(Neuron):
        def integrate(self, carry, inputs):
            return 0.5 * carry + inputs * table[0]

        def fire(self, membrane):
            return membrane, membrane

    neuron, inputs = WithTable(), jnp.ones((T, B, N))
    run = lambda kernel: unroll(neuron, neuron.initialize_carry((B, N)), inputs, kernel=kernel)  # noqa: E731
    with pytest.warns(
        RuntimeWarning, match="The kernel of WithTable does not compile, so it runs as a scan: .* constants"
    ):
        found = run("fused")
    close(found, run("scan"), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run("fused")  # said once


def lowered(function, *arguments):
    """The program for CUDA, which no GPU is needed for."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("name", [*KINDS, *OPTIONS, "of the user"])
def test_each_neuron_is_one_triton_kernel_in_each_direction_whatever_the_number_of_steps(name, monkeypatch):
    """In float32, as a GPU runs it. The forward pass is one kernel; a gradient has one more, and no loop over steps."""
    neuron = NEURONS_TRIED[name]
    graphdef, state = nnx.split(neuron)
    monkeypatch.setattr("slax_neurons.kernels.is_interpreted", lambda: False)
    counts = {}
    for steps in (20, 300):
        currents = jax.ShapeDtypeStruct((steps, B, N), jnp.float32)
        carry = jax.eval_shape(lambda: neuron.initialize_carry((B, N)))
        number = partial(weighted, fused_integrate_and_fire, graphdef)
        forward = lowered(partial(fused_integrate_and_fire, graphdef), state, carry, currents)
        gradient = lowered(jax.grad(number, argnums=(0, 1, 2)), state, carry, currents)
        counts[steps] = [text.count("triton") for text in (forward, gradient)]
        assert not any("stablehlo.while" in text for text in (forward, gradient))
    per_kernel = lowered(lambda x: elementwise_scan(lambda c, k, x, *_: (k, x), (), (), x)[1], jnp.ones((3, 5))).count(
        "triton"
    )
    assert counts[20] == counts[300] == [per_kernel, 2 * per_kernel]
