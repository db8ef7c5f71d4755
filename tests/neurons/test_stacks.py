"""Stacks, edges, delays, dropout and foreign modules: every way to run a stack is the network of the oracle."""

from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
import slax_neurons as sn
from oracle import lagged
from slax_neurons import LI, LIF, Delay, Dropout, Edge, Neuron, Trainable, connect, unroll
from slax_neurons.building_blocks import mutates_state, reverse_pass_of_jax
from stacks import close, linear, pair

T, B = 11, 3
F64 = {"param_dtype": jnp.float64}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


FIRING, LEAKY = {"kind": "lif", "decay": 0.8, "threshold": 0.8}, {"kind": "li", "decay": 0.7}
DELAYS = {0: np.linspace(0, 5, 7), 2: np.linspace(4, 0.5, 5)}
STACKS = {
    "skip and two cycles": {"edges": [(0, 0, 1), (1, 1, 1), (0, 2, 0)]},
    "crossing cycles": {"edges": [(1, 0, 1), (2, 1, 1)]},
    "late": {"edges": [(0, 2, 3), (1, 1, 2), (0, 0, 1), (0, 0, 8)]},
    "feedback behind delays": {"edges": [(0, 0, 1), (2, 2, 1), (0, 2, 0)], "delays": DELAYS},
}


@pytest.mark.parametrize("name", STACKS)
def test_every_way_to_run_a_stack_is_its_equation(name, x64):
    """Step by step, in chunks with remat, nested and in parts; the gradient in chunks is that of the steps."""
    model, layers = pair([7, 6, 5, 4], [FIRING, FIRING, LEAKY], **STACKS[name])
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    x = normal(T, B, 7) + 0.2
    expected = [np.stack([now[index].output for now in oracle.forward(layers, x)]) for index in range(3)]

    def steps(model, x):
        return jax.lax.scan(lambda carry, x: model(carry, x), model.initialize_carry((B, 7)), x)

    def chunks(model, x):
        return unroll(model, model.initialize_carry((B, 7)), x, chunk=4, remat=True)

    def parts(model, x):
        carry, outputs = model.outputs(model.initialize_carry((B, 7)), x[:7])
        (carry,), last = unroll(connect([model]), (carry,), x[7:], chunk=3)
        return carry, outputs, last

    @jax.jit
    def program(params, x):
        def number(params, x, run):
            carry, outputs = run(nnx.merge(graphdef, params, rest), x)
            return jnp.vdot(normal(T, B, 4, seed=9), outputs), (carry, outputs)

        made = [jax.grad(number, (0, 1), has_aux=True)(params, x, run) for run in (steps, chunks)]
        return made, parts(nnx.merge(graphdef, params, rest), x)

    made, (carry, outputs, last) = jax.tree.map(np.asarray, program(params, jnp.asarray(x)))
    (gradient, states), (by_chunks, found) = made
    firing = [y for module, y in zip(model.modules, outputs, strict=True) if isinstance(module, Neuron)]
    close((firing, last), ([y[:7] for y in expected], expected[-1][7:]))
    close(states[1], expected[-1])
    close((found, carry), (states, states[0]))
    close(by_chunks, gradient, 1e-10)
    assert all(len(np.unique(spikes)) == 2 for spikes in expected[:2])
    assert sum(not leaf.any() for leaf in jax.tree.leaves(gradient)) <= (name == "late")


def test_functions_are_modules_and_synapses():
    layer = nnx.Linear(7, 5, rngs=nnx.Rngs(0))
    model = connect([layer, LI(), jnp.tanh], [Edge(1, 2, synapse=lambda u: 2 * u), Edge(0, 2, synapse=jnp.sin)])
    current, u, y = model.outputs(model.initialize_carry((B, 7)), jnp.asarray(normal(T, B, 7), jnp.float32))[1]
    close(y, np.tanh(u) + 2 * u + np.sin(current), 1e-6)


def test_stock_rnns_run_stacks_and_find_the_time_axis(x64):
    conv = nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0), **F64)
    modules = [conv, LIF(threshold=0.3, **F64), nnx.Conv(3, 2, (3, 3), rngs=nnx.Rngs(1), **F64)]
    model = connect(modules, {0: [1, 2]}, rngs=nnx.Rngs(2))
    assert [synapse.kernel.shape for synapse in model.synapses] == [(3, 3, 3, 3), (3, 3, 2, 3)]
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(5, B, 4, 5, 2)))
    carry, outputs = jax.jit(lambda x: unroll(model, model.initialize_carry(x.shape[1:]), x))(x)
    close(nnx.RNN(model, time_major=True, return_carry=True)(x), (carry, outputs))
    close(nnx.RNN(model)(jnp.swapaxes(x, 0, 1)), jnp.swapaxes(outputs, 0, 1))
    assert model.num_feature_axes == 3


def test_products_are_one_per_layer_and_chunk_and_only_a_cycle_is_stepped():
    model = pair([7, 6, 5, 4], [FIRING] * 3, edges=[(1, 1, 1)], dtype=jnp.float32).model
    run = lambda x: unroll(model, model.initialize_carry((B, 7)), x, chunk=4)[1]  # noqa: E731
    text = str(jax.make_jaxpr(run)(jnp.zeros((8, B, 7))))
    shapes = sorted(line.split("f32[")[1].split("]")[0] for line in text.splitlines() if "dot_general" in line)
    assert shapes == sorted([f"{4 * B},6", f"{4 * B},5", f"{4 * B},4", f"{B},5"])


class FewerMembranes(Neuron):
    """Two states, of which one membrane is made."""

    carry_type = namedtuple("carry_type", ["u", "a"])

    def integrate(self, carry, inputs):
        return 0.8 * carry.u + inputs - 0.2 * carry.a

    def fire(self, membrane):
        return self.carry_type(jnp.sin(membrane), 0.5 * membrane), membrane**2


class MoreMembranes(Neuron):
    """One state, of which two membranes are made."""

    def integrate(self, carry, inputs):
        return 0.8 * carry + inputs, 0.3 * carry

    def fire(self, membrane):
        return jnp.sin(membrane[0]) + membrane[1], membrane[0] ** 2


class SteepAtOne(Neuron):
    """A membrane whose derivative by the state is infinite at a state of one, which no step begins with."""

    def integrate(self, carry, inputs):
        return 0.5 * jnp.sqrt(jnp.abs(1 - carry)) + inputs

    def fire(self, membrane):
        return membrane, membrane


@pytest.mark.parametrize("cls", [FewerMembranes, MoreMembranes, SteepAtOne])
def test_the_reverse_pass_of_a_loop_is_that_of_jax(cls, x64):
    neuron, x = cls(param_dtype=jnp.float64), jnp.asarray(normal(T, B, 7))
    carry = neuron.initialize_carry((B, 7))
    if cls is SteepAtOne:  # the last state is one
        x = x.at[-1].set(1 - 0.5 * jnp.sqrt(jnp.abs(1 - unroll(neuron, carry, x[:-1])[0])))
        assert (unroll(neuron, carry, x)[0] == 1).any()

    def loss(x):
        return (unroll(neuron, carry, x)[1] ** 2).sum()

    found = []
    for by_jax in (True, False):
        with reverse_pass_of_jax(by_jax):
            found.append(jax.jit(jax.grad(loss))(x))
    assert jnp.isfinite(found[0]).all()
    close(*found)


def test_edges_have_their_own_synapses_and_features_are_found_through_what_keeps_them():
    rngs, half = nnx.Rngs(0), {"param_dtype": jnp.bfloat16}
    base = nnx.Linear(3, 3, rngs=rngs)
    twins = connect([base, LIF()], [Edge(1, 0), Edge(1, 0, delay=2)], rngs=rngs).synapses
    assert not np.allclose(twins[0].kernel[...], twins[1].kernel[...])
    for tail in ([Dropout(0.1, rngs=rngs)], [connect([nnx.LayerNorm(3, rngs=rngs), LIF()])]):
        assert connect([base, LIF(), *tail], {0: [2]}, rngs=rngs).synapses[0].kernel.shape == (3, 3)
    model = connect([nnx.Linear(3, 3, rngs=rngs, **half), LIF(**half)], {0: [1]}, rngs=rngs)
    carry = model.initialize_carry((B, 3))
    assert carry[1].outputs.dtype == jnp.bfloat16
    assert unroll(model, carry, jnp.ones((T, B, 3), jnp.bfloat16), chunk=4)[1].dtype == jnp.bfloat16


# ---------------------------------------------------------------------------------------------------------------- delays


@pytest.mark.parametrize("width", [None, 0.27])
@pytest.mark.parametrize(("longest", "groups"), [(1, 3), (4, 2), (25, 1)])
def test_delays_and_their_tangents_are_those_of_loops(longest, groups, width, x64):
    """Images too, which have a delay per channel; the tangent is the derivative, and that of a loop."""
    x, d = normal(T, B, 2, 5), np.random.default_rng(0).uniform(0, longest, (groups, 5))
    d.flat[:3] = 0.0, longest, longest // 2  # both borders and a whole number
    cell = Delay(5, longest, groups=groups, delays=Trainable(d), width=width, **F64)

    @nnx.jit
    def everything(cell, x):
        def outputs(d):
            graphdef, state = nnx.split(cell)
            state["delays"]["unconstrained"] = d
            made = nnx.merge(graphdef, state)
            return made.unroll(made.initialize_carry(x.shape[1:]), x)[1]

        along = jax.jvp(outputs, (cell.delays.value,), (jnp.ones_like(cell.delays.value),))
        return *along, cell.tangent(cell.initialize_carry(x.shape[1:]), x), cell.taps()

    outputs, slope, tangent, taps = everything(cell, jnp.asarray(x))
    for place in range(2):
        close(outputs[:, :, place], lagged.delayed(x[:, :, place], d, longest, width), 1e-12)
        close(tangent[:, :, place], lagged.delayed(x[:, :, place], d, longest, width, weight=lagged.slope), 1e-11)
    close(slope, tangent, 1e-11)
    expected = [[[lagged.kappa(k, d_gi, longest, width) for d_gi in row] for row in d] for k in range(longest + 1)]
    close(taps, np.array(expected), 1e-12)


def test_delays_beyond_a_border_are_at_it_and_whole_steps_are_exact():
    x = jnp.asarray(normal(T, B, 4), jnp.float32)

    def late(d):
        cell = Delay(4, 3, delays=Trainable(np.zeros(4)))
        cell.delays.unconstrained[...] = d[None]
        return cell.unroll(cell.initialize_carry((B, 4)), x)[1]

    slopes = jax.jit(lambda d: jax.jvp(late, (d,), (jnp.ones(4),)))  # each output has one delay
    at, beyond = (slopes(jnp.asarray(d)) for d in ([0.0, 0, 3, 3], [-0.5, -7.0, 3.5, 1e3]))
    jax.tree.map(np.testing.assert_array_equal, at, beyond)
    assert np.abs(at[1]).max((0, 1)).all()
    whole, x = Delay(9, 8, delays=np.arange(9), param_dtype=jnp.bfloat16), jnp.asarray(normal(T, B, 9), jnp.bfloat16)
    carry, outputs = whole.unroll(whole.initialize_carry((B, 9)), x)
    for k in range(9):
        np.testing.assert_array_equal(outputs[:, :, k], np.concatenate([0 * x[:k, :, k], x[: T - k, :, k]]))
    np.testing.assert_array_equal(carry, x[-8:])
    assert Delay(2, 9, delays=[3.0, 4.25], width=1e-3).taps()[:, 0].T.tolist() == np.eye(10)[[3, 4]].tolist()


def test_delays_start_where_they_are_told_and_are_rounded():
    assert Delay(3, 5, groups=2).delays.value.tolist() == [[0.0] * 3] * 2
    drawn = np.asarray(Delay(1000, 5, rngs=nnx.Rngs(0)).delays.value)
    np.testing.assert_allclose(np.quantile(drawn, [0, 0.25, 0.5, 0.75, 1]), [0, 1.25, 2.5, 3.75, 5], atol=0.25)
    for given, trained in ((Trainable([0.4, 2.6, 4.9]), 1), ([0.4, 2.6, 4.9], 0)):
        other = Delay(3, 5, delays=given, width=2.0).rounded()
        assert (other.width, other.delays.value.tolist()) == (None, [[0.0, 3.0, 5.0]])
        assert len(jax.tree.leaves(nnx.state(other, nnx.Param))) == trained


# --------------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("mask", ["step", "sequence"])
def test_dropout_masks(mask):
    """Half of the units, doubled; one mask per step or per sequence, the same in any pieces; off in evaluation."""
    dropout, x = Dropout(0.5, per=mask, rngs=nnx.Rngs(0)), jnp.asarray(normal(T, B, 400), jnp.float32)
    carry = dropout.initialize_carry((B, 400))
    outputs = np.asarray(unroll(dropout, carry, x)[1])
    ratio = outputs / np.asarray(x)
    assert set(np.unique(ratio.round(4))) == {0.0, 2.0}
    assert abs((ratio == 0).mean() - 0.5) < 0.05
    assert (ratio.round(4) == ratio[:1].round(4)).all() == (mask == "sequence")
    middle, first = unroll(dropout, carry, x[:4], chunk=3)
    np.testing.assert_array_equal(np.concatenate([first, unroll(dropout, middle, x[4:])[1]]), outputs)
    assert not np.array_equal(unroll(dropout, dropout.initialize_carry((B, 400)), x)[1], outputs)  # drawn anew
    same = [dropout.initialize_carry((B, 400), nnx.Rngs(7)) for _ in range(2)]
    np.testing.assert_array_equal(*(unroll(dropout, carry, x)[1] for carry in same))
    dropout.eval()
    np.testing.assert_array_equal(unroll(dropout, carry, x)[1], x)


# --------------------------------------------------------------------------------------- modules of Flax and of users


class Counts(nnx.Module):
    """Counts its calls in a variable of some type."""

    def __init__(self, kind):
        self.calls = kind(jnp.zeros(()))

    def __call__(self, x):
        self.calls[...] += 1
        return x * self.calls[...]


class Declares(Counts):
    mutates_state = True


class Holds(nnx.Module):
    """Has a variable and never writes to it."""

    def __init__(self, variable):
        self.variable = variable

    def __call__(self, x):
        return x


class Denies(Holds):
    mutates_state = False


def test_which_modules_mutate_their_state():
    rngs = nnx.Rngs(0)
    mutating = [nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs), Holds(nnx.Rngs(0)), Holds(rngs.params)]
    mutating += [Holds(kind(jnp.zeros(()))) for kind in (nnx.BatchStat, nnx.Cache, nnx.Intermediate)]
    mutating += [Declares(nnx.Variable), connect([LIF(), connect([Declares(nnx.Variable)])])]
    constant = [nnx.BatchNorm(4, use_running_average=True, rngs=rngs), nnx.Dropout(0.5, deterministic=True, rngs=rngs)]
    constant += [Dropout(0.5, rngs=rngs), Holds(nnx.Variable(jnp.zeros(()))), Denies(nnx.Rngs(0)), LIF(decay=[0.9])]
    assert all(map(mutates_state, mutating))
    assert not any(map(mutates_state, constant))


@pytest.mark.parametrize("make", [lambda: Declares(nnx.Variable), lambda: Counts(nnx.BatchStat)])
def test_what_changes_itself_gets_the_whole_sequence_once(make):
    model, x = connect([make(), LIF()]), jnp.full((T, B, 4), 0.5)
    for calls in (1, 2):
        unroll(model, model.initialize_carry((B, 4)), x, chunk=3)
        assert model.modules[0].calls[...] == calls
    for analysis in (sn.health, sn.complexity):  # they work on copies
        assert analysis(model, x, chunk=3) == analysis(model, x, chunk=T)
        assert model.modules[0].calls[...] == 2


def test_batch_norm_in_training_takes_its_statistics_over_time_and_batch():
    norm, x = nnx.BatchNorm(4, momentum=0.0, rngs=nnx.Rngs(0)), 3 + 2 * normal(T, B, 4).astype(np.float32)
    outputs = np.asarray(unroll(connect([norm]), ((),), jnp.asarray(x), chunk=2)[1])
    np.testing.assert_allclose(outputs, (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.mean[...], x.mean((0, 1)), rtol=1e-4)


def test_recurrent_cells_of_flax_run_as_they_are():
    """Like the stock RNN of the stack, in chunks and inside a cycle; parameters that changed in place are used."""
    cell, x = nnx.OptimizedLSTMCell(7, 7, rngs=nnx.Rngs(0)), jnp.asarray(normal(T, B, 7), jnp.float32)
    modules = [linear(7, 7, 1, jnp.float32), cell, linear(7, 4, 0, jnp.float32), LIF()]

    @nnx.jit
    def both(model, carry):
        return unroll(model, carry, x, chunk=3)[1], nnx.RNN(model, time_major=True)(x, initial_carry=carry)

    for edges in (None, {0: [1, 3]}):
        model = connect(modules, edges, rngs=nnx.Rngs(0))
        carry = model.initialize_carry((B, 7), nnx.Rngs(0))
        close(*both(model, carry), 1e-5)
    before = np.asarray(unroll(cell, carry[1].carry, x, chunk=T)[1])
    nnx.update(cell, jax.tree.map(lambda leaf: leaf * 0.5, nnx.state(cell, nnx.Param)))
    assert (np.asarray(unroll(cell, carry[1].carry, x, chunk=T)[1]) != before).any()


def test_the_last_module_may_make_a_tree():
    """In chunks and step by step; the tree is the last of all outputs."""
    modules = [linear(7, 6, 0, jnp.float32), LIF(), lambda s: {"one": 2 * s, "other": (jnp.exp(s), s[:, 0])}]
    model, x = connect(modules, {0: [1]}, rngs=nnx.Rngs(1)), jnp.asarray(normal(T, B, 7), jnp.float32)
    rest = model.initialize_carry((B, 7))
    _, (_, spikes, heads) = model.outputs(rest, x)
    expected = {"one": 2 * spikes, "other": (jnp.exp(spikes), spikes[..., 0])}
    assert jax.tree.structure(heads) == jax.tree.structure(expected)
    for found in (heads, unroll(model, rest, x, chunk=4)[1], nnx.RNN(model, time_major=True)(x)):
        close(found, expected, 1e-6)
