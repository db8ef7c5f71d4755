"""The kernels of element-wise neurons: equal to the scan in every derivative, lowered for a GPU, and loud where they fail."""

import re
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from slax_neurons import ALIF, IF, LI, LIF, LTC, NEURONS, AdLIF, Neuron, Trainable, connect, unroll
from slax_neurons.building_blocks import scan_each, scan_units
from slax_neurons.engine import loop_of
from slax_neurons.kernels import BLOCK, STEPS_ON_GPU, auto_is, elementwise_scan, mixes_units, steps_in_iteration
from slax_neurons.neurons.fused import _states, _tangent, _transposed, fused_integrate_and_fire, in_rows, run, run_p
from slax_neurons.neurons.states import integrate_and_fire
from slax_rules import SLTT, SnAp, cross_entropy, gradients

T, B, N = 6, 3, 50  # 150 units: a whole block and a part of one
F64 = {"param_dtype": jnp.float64}


class OfTheUser(Neuron):
    """Two states, one of which the current multiplies, so that the derivative needs the currents."""

    carry_type = ALIF.carry_type

    def __init__(self, param_dtype=jnp.float32):
        super().__init__(param_dtype=param_dtype)
        self.gain = nnx.Param(jnp.asarray(0.7, param_dtype))

    def integrate(self, carry, inputs):
        return ALIF.carry_type(u=jnp.tanh(carry.u) + self.gain * inputs * carry.a, a=carry.a)

    def fire(self, membrane):
        return ALIF.carry_type(u=0.5 * membrane.u, a=0.9 * membrane.a + membrane.u**2), jnp.sin(membrane.u)


GAIN = {"adlif": 10.0, "brf": 200.0, "symplectic": 10.0}
STOPPED = partial(ALIF, stop_reset_gradient=True, beta=Trainable(0.3))
OTHERS = {kind: NEURONS[kind] for kind in NEURONS if kind != "ltc"} | {  # tried every week
    "per neuron": partial(LIF, decay=Trainable(np.linspace(0.6, 0.9, N)), threshold=np.linspace(0.6, 0.9, N)),
    "reset to zero": partial(IF, reset="zero"),
    "no reset": partial(LIF, reset="none"),
    "symplectic": partial(AdLIF, form="symplectic"),
    "of the user": OfTheUser,
}


class InOneStep(Neuron):
    """Defines its step alone."""

    def __call__(self, carry, inputs):
        return (u := 0.5 * carry + inputs), u


def normal_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), tree)


def by_scan(graphdef, state, carry, inputs):
    end, membranes = integrate_and_fire(graphdef, state, carry, inputs)
    return end, membranes, nnx.merge(graphdef, state).fire(membranes)[1]


def weighted(states, graphdef, *primals):
    """A number that depends on the last carry and all membranes and outputs, differently for each."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(states(graphdef, *primals))]
    scales = [jnp.asarray(np.cos(np.arange(leaf.size)), leaf.dtype) for leaf in leaves]
    return sum(jnp.sum(scale * leaf + scale * leaf**2) for scale, leaf in zip(scales, leaves, strict=True))


def close(one, other, bound=1e-12):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound * float(np.abs(np.asarray(b, float)).max()) + 1e-300)


def check_derivatives(name, make):
    """States, tangents, gradients, their tangents in a loop over chunks, and a batch of gradients, as those of the scan."""
    neuron = make(**F64)
    graphdef, state = nnx.split(neuron)
    carry = normal_like(neuron.initialize_carry((B, N)), 0)
    primals = (state, carry, GAIN.get(name, 1.0) * normal_like(jnp.zeros((T, B, N)), 1))
    tangents = normal_like(primals, 2)

    def everything(states):
        def in_chunks(graphdef, state, carry, inputs):
            def chunk(carry, inputs):
                end, *steps = states(graphdef, state, carry, inputs)
                return end, steps

            return jax.lax.scan(chunk, carry, inputs.reshape(2, T // 2, B, N))

        gradient, of_chunks = (
            jax.grad(partial(weighted, function, graphdef), argnums=(0, 1, 2)) for function in (states, in_chunks)
        )

        @jax.jit
        def made(primals, tangents):
            batch = jax.vmap(lambda x: gradient(*primals[:2], x), 1)(jnp.stack([primals[2], -primals[2]], 1))
            return jax.jvp(partial(states, graphdef), primals, tangents), jax.jvp(of_chunks, primals, tangents), batch

        return made(primals, tangents)

    close(everything(fused_integrate_and_fire), everything(by_scan))


def test_derivatives_of_every_order_are_those_of_the_scan(x64):
    check_derivatives("alif", STOPPED)


def test_tangents_and_gradients_are_along_the_membranes_that_the_kernel_made(x64):
    """They are transposes of each other, also where a scan would make other membranes."""
    neuron = STOPPED(**F64)
    graphdef, state = nnx.split(neuron)
    point = in_rows(state, normal_like(neuron.initialize_carry((1, N)), 0), normal_like(jnp.zeros((T, 1, N)), 1))
    membranes = normal_like(neuron.initialize_carry((T, N)), 2)
    tangents, cotangents = normal_like(point, 3), normal_like((point[1], membranes, point[2]), 4)
    along = run(_tangent, graphdef, *point, membranes, tangents)
    back = run(_transposed, graphdef, *point, membranes, cotangents)
    products = [sum(map(np.vdot, *map(jax.tree.leaves, pair))) for pair in ((along, cotangents), (back, tangents))]
    np.testing.assert_allclose(*products, rtol=1e-12)


def test_the_derivative_keeps_the_membranes_and_the_currents_only_where_it_reads_them():
    for make, count in ((LI, 1), (STOPPED, 2), (OfTheUser, 3)):
        graphdef, state = nnx.split(make())
        pull = lambda *primals, at=graphdef: jax.vjp(partial(fused_integrate_and_fire, at), *primals)[1]  # noqa: E731
        kept = jax.eval_shape(pull, state, make().initialize_carry((B, N)), jnp.zeros((T, B, N)))
        assert sum(leaf.size == T * B * N for leaf in jax.tree.leaves(kept)) == count


def test_parameters_of_the_primitive_have_names_and_no_order():
    graphdef, state = nnx.split(LI())
    leaves, structure = jax.tree.flatten((state, jnp.zeros(N), jnp.zeros((T, N))))
    states = lambda *leaves: run_p.bind(*leaves, structure=structure, graphdef=graphdef, function=_states)  # noqa: E731
    assert len(jax.eval_shape(partial(jax.jvp, states), leaves, leaves)[1]) == 3


def lowered(function, *arguments):
    """The program for CUDA, which no GPU is needed for: JAX 0.12 asks which one it is for."""
    device = AbstractDevice("NVIDIA H100", num_cores=None, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)), warnings.catch_warnings():
        # JAX 0.12 says that a later version will not have this backend.
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
        return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


def check_lowering(make, monkeypatch):
    """In float32, as a GPU runs it: one kernel forward and one more for the gradient, whatever the number of steps."""
    neuron = make()
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
    copy = lambda x: elementwise_scan(lambda c, k, x, *_: (k, x), (), (), x)[1]  # noqa: E731
    one = lowered(copy, jnp.ones((3, 5))).count("triton")
    assert counts[20] == counts[300] == [one, 2 * one]


def test_a_neuron_is_one_triton_kernel_in_each_direction(monkeypatch):
    check_lowering(STOPPED, monkeypatch)


def a_stack():
    layers = [nnx.Linear(20, 30, rngs=nnx.Rngs(0)), ALIF(beta=Trainable(0.1))]
    return connect([connect(layers), nnx.Linear(30, 7, rngs=nnx.Rngs(1)), LI()])


def program(model, loop, **options):
    """The gradient as text, and the programs of steps alike for other addresses in memory."""

    def gradient(inputs):
        return unroll(model, model.initialize_carry((B, 20)), inputs, loop=loop, **options)[1].sum()

    text = str(jax.make_jaxpr(jax.grad(jax.jit(gradient)))(jax.ShapeDtypeStruct((T, B, 20), "float32")))
    return re.sub("0x[0-9a-f]+", "", text)


def test_auto_is_plain_where_all_steps_are_in_the_cache_of_a_cpu(monkeypatch):
    model = a_stack()
    carry = model.initialize_carry((B, 20))
    for steps, options, expected in (
        (T, {}, "plain"),
        (T, {"chunk": 10**6}, "plain"),
        (T, {"chunk": 3}, "scan"),
        (T, {"chunk": 3, "remat": True}, "plain"),
        (2**19 // 90, {}, "plain"),  # arrays of 2.1 MB: [steps, 3, 30]
        (2**19 // 90, {"chunk": 2**18 // 90 + 1}, "scan"),
        (2**20 // 90, {}, "scan"),  # of 4.2 MB
    ):
        assert (
            loop_of("auto", model, carry, jnp.zeros((steps, B, 20)), **{"chunk": steps, "remat": False} | options)
            == expected
        )
    made = {loop: program(model, loop) for loop in ("plain", "scan", "fused")}
    assert program(model, "auto") == made["plain"] != made["scan"]
    assert made["fused"].count("slax_neuron[") >= 2 and "slax_neuron[" not in made["scan"]
    with auto_is("fused"):
        assert program(model, "auto") == made["fused"]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert program(model, "auto") == program(model, "scan", steps_per_iteration=STEPS_ON_GPU) != made["scan"]


def test_iterations_of_loops_over_time_have_several_steps_forward_and_backward():
    model, x = a_stack(), jnp.asarray(np.random.default_rng(0).normal(size=(T, B, 20)), jnp.float32)
    steps_of = lambda text: set(re.findall(r"unroll=(\d+)", text))  # noqa: E731
    cycle = connect([nnx.Linear(20, 7, rngs=nnx.Rngs(0)), LIF()], {0: [1]}, rngs=nnx.Rngs(1))
    for stack in (model, cycle, LTC(20, rngs=nnx.Rngs(0))):
        assert steps_of(program(stack, "scan", steps_per_iteration=4)) == {"4"}
        with steps_in_iteration(3):
            assert steps_of(program(stack, "plain")) == {"3"}
    small = connect([nnx.Linear(20, 2, rngs=nnx.Rngs(0)), InOneStep()])
    for rule in (SLTT(), SnAp(1)):  # a rule for layers, and one that goes step by step
        learn = partial(gradients, small, cross_entropy, targets=jnp.zeros(B, int), rule=rule, window=T)
        with steps_in_iteration(3):
            assert steps_of(str(jax.make_jaxpr(lambda x, learn=learn: learn(inputs=x)[1])(x))) == {"3"}
    run = lambda steps: unroll(model, model.initialize_carry((B, 20)), x, steps_per_iteration=steps)  # noqa: E731
    close(run(4), run(None), 1e-6)


def test_what_auto_is_is_part_of_a_jitted_program():
    """A program that was compiled for one loop is not used for another."""
    run, ran = jax.jit(lambda x: ran.append(auto_is.value) or x), []
    for loop in ("auto", "fused", "auto"):
        with auto_is(loop):
            run(1.0)
    assert ran == ["auto", "fused"]


def test_a_stack_hands_the_kernel_to_its_neurons():
    model, x = a_stack(), jnp.asarray(np.random.default_rng(0).normal(size=(T, B, 20)), jnp.float32)
    run = lambda loop: unroll(model, model.initialize_carry((B, 20)), x, loop=loop, chunk=4)  # noqa: E731
    close(run("fused"), run("scan"), 1e-5)


def test_recursions_of_rules_are_the_scan(x64):
    """Carries of size one along an axis, several at once, from the last step to the first, numbers and arrays that are read."""
    rng = np.random.default_rng(0)
    carry, x = jnp.asarray(rng.normal(size=(B, 1))), jnp.asarray(rng.normal(size=(T, B, 2 * BLOCK + 1)))
    carries, series = [carry, jnp.asarray(rng.normal(size=(B, 4)))], [x, jnp.asarray(rng.normal(size=(T, B, 4)))]
    table = jnp.asarray(rng.normal(size=(B, 2 * BLOCK + 1)))
    step, decay = lambda decay, carry, x: (decay * carry + 1, carry + jnp.sin(x)), jnp.asarray(0.7)

    def everything(loop):
        with auto_is(loop):
            backward = scan_units(step, decay, carry, x, local=lambda x: decay * x, reverse=True)
            forward = scan_units(step, decay, carry, x, local=lambda x: table * x)
            masked = scan_units(step, decay, carry, (x, x > 0), local=lambda at: jnp.where(at[1], at[0], 0.1))
            mixed = scan_units(step, decay, carry, x, local=lambda x: x - x.mean(-1, keepdims=True))
            return backward, forward, masked, mixed, scan_each(step, decay, carries, series)

    fused, scan = everything("fused"), everything("scan")
    close(fused, scan)
    assert jax.tree.map(jnp.shape, fused) == jax.tree.map(jnp.shape, scan)


def test_what_mixes_or_counts_units_is_no_work_for_a_block():
    program = lambda local: jax.make_jaxpr(local)(jnp.ones(BLOCK)).jaxpr  # noqa: E731
    counted = jax.jit(lambda x: x * jnp.arange(x.size, dtype=x.dtype))
    for local in (
        jnp.sum,
        jnp.max,
        jnp.cumsum,
        jnp.sort,
        jnp.flip,
        lambda x: x[:1] * x,
        lambda x: jnp.roll(x, 1),
        counted,
    ):
        assert mixes_units(program(local))
    assert not mixes_units(program(lambda x: jnp.where(x > 0, jnp.exp(x), 2.0) * jnp.ones(1)))


class WithTable(Neuron):
    """Reads an array that is none of its parameters, which a kernel cannot."""

    table = np.arange(40.0, dtype=np.float32)

    def integrate(self, carry, inputs):
        return 0.5 * carry + inputs * jnp.asarray(self.table)[1]

    def fire(self, membrane):
        return membrane, membrane


def test_a_kernel_that_does_not_compile_fails_unless_a_scan_is_asked_for():
    neuron, inputs, table = WithTable(), jnp.ones((T, B, N)), jnp.ones((1, 3))
    run = lambda loop: unroll(neuron, neuron.initialize_carry((B, N)), inputs, loop=loop)  # noqa: E731
    with pytest.raises(ValueError, match=r"kernel of WithTable does not compile: .* constants[\s\S]*loop='scan'"):
        run("fused")
    with pytest.warns(RuntimeWarning, match=r"kernel of WithTable does not compile: [\s\S]*It runs as a scan"):
        found = run("fused_or_scan")
    close(found, run("scan"), 0)
    run("fused_or_scan")  # the warning comes once
    bad = partial(scan_units, lambda _, carry, x: (carry + table, x), (), jnp.zeros((2, 3)), jnp.ones((4, 2, 3)))
    with auto_is("fused"), pytest.raises(ValueError, match="does not compile"):
        bad()
    with auto_is("fused_or_scan"), pytest.warns(RuntimeWarning, match="It runs as a scan"):
        assert bad()[0].tolist() == [[4.0] * 3] * 2


class Doubled(LIF):
    """A function over time of its own."""

    def outputs(self, membranes):
        return 2 * super().outputs(membranes)


class Counter(Neuron):
    """States unlike the current."""

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.ones((*input_shape, 2), jnp.int32)

    def __call__(self, carry, inputs):
        return carry + 1, inputs * carry[..., 0].astype(inputs.dtype)


@pytest.mark.parametrize(("make", "expected"), [(Doubled, [2.0] * T), (Counter, np.arange(1, T + 1))])
def test_neurons_that_do_more_than_a_step_are_the_same_for_short_sequences(make, expected):
    for loop in ("auto", "plain", "scan"):
        outputs = unroll(make(), make().initialize_carry((B, N)), jnp.ones((T, B, N)), loop=loop)[1]
        np.testing.assert_array_equal(outputs[:, 0, 0], expected)
