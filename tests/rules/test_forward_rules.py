"""RTRL, SnAp and UORO: rules that carry the influence of parameters on the states of a whole model forward in time."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
from slax_neurons import LI, LIF, SURROGATES, Dropout, Edge, connect, unroll
from slax_rules import cross_entropy, gradients, ostl, train_online
from slax_rules.forward import ForwardCarry
from slax_rules.network import network
from slax_rules.rtrl import rtrl
from slax_rules.snap import snap
from slax_rules.uoro import uoro
from stacks import Conv, deviation, gradients_of, inputs, linear, pair, worst

T, B, K = 12, 3, 3  # four windows in one scan: one program for all
LABELS = jnp.array([0, 3, 2])
SIGNAL = oracle.softmax_cross_entropy(LABELS)
jitted = nnx.jit(gradients, static_argnames=("loss_fn", "window"))


def lif(**options):
    return {"kind": "lif", "decay": 0.8, "threshold": 0.7, **options}


LI_ = {"kind": "li"}
SELF, LATE = [(0, 0, 1)], [(1, 0, 2)]  # within the hidden layer, and back to it
NETS = {
    "LIF-LIF": lambda: pair([7, 6, 4], [lif(), lif(reset="zero", stop_reset_gradient=True)]),
    "LIF-LIF-LI": lambda: pair(
        [7, 5, 5, 4], [lif(reset="zero"), lif(decay=np.linspace(0.5, 0.9, 5), reset="none"), LI_]
    ),
    "CuBaLIF-LI": lambda: pair([7, 6, 4], [{"kind": "cuba_lif", "threshold": 0.7, "stop_reset_gradient": True}, LI_]),
    "self": lambda: pair([7, 6, 4], [lif(), LI_], edges=SELF),
    "both": lambda: pair([7, 6, 4], [lif(reset="zero"), {"kind": "alif", "threshold": 0.7}], edges=SELF + LATE),
    "convolution": lambda: pair([(4, 4, 1), Conv(2, (3, 3), (2, 2)), 4], [lif(), LI_]),
}


def run(model, window=None, x=None, **options):
    return jitted(model, cross_entropy, inputs(T, B, 7) if x is None else x, LABELS, window=window, **options)[1]


def furthest(ours, theirs):
    """The largest deviation of two gradients in the structure of the parameters, which must be the same."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    return max(deviation(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


# ----------------------------------------------------------------------------------------------------------------- RTRL


@pytest.mark.parametrize("net", NETS)
def test_rtrl_equals_bptt(net, x64):
    model, layers = NETS[net]()
    x = inputs(T, B, (4, 4, 1) if net == "convolution" else 7)
    ours = gradients_of(model, run(rtrl(model), K, x))
    assert worst(ours, oracle.bptt(layers, x, SIGNAL).gradients) < 1e-11


@pytest.mark.parametrize("window", [1, 5, T])
def test_rtrl_is_the_same_for_every_window(window, x64):
    model, layers = NETS["both"]()
    expected = oracle.rtrl(layers, inputs(T, B, 7), SIGNAL).gradients
    assert worst(gradients_of(model, run(rtrl(model), window)), expected) < 1e-11


class Own(nnx.RNNCellBase):
    """A cell of a user: a choice within the step, a number that is not trained, a counter that samples share."""

    def __init__(self):
        self.weights = nnx.Param(jax.random.normal(jax.random.key(0), (7, 4), jnp.float64))
        self.recurrent = nnx.Param(jax.random.normal(jax.random.key(1), (4, 4), jnp.float64))

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return {"step": jnp.zeros((), jnp.int32), "h": jnp.zeros((input_shape[0], 4), jnp.float64)}

    def __call__(self, carry, inputs):
        drive = inputs @ self.weights[...] + carry["h"] @ self.recurrent[...]
        h = jnp.where(drive > 0, jnp.tanh(drive), 0.1 * drive) / (1 + carry["step"].astype(drive.dtype) / 10)
        return {"step": carry["step"] + 1, "h": h}, h


class Looped(Own):
    """Its step holds a loop, of which nothing is known."""

    def __call__(self, carry, inputs):
        carry, h = super().__call__(carry, inputs)
        h, _ = jax.lax.scan(lambda h, gain: (gain * jnp.roll(h, 1, axis=1), None), h, jnp.array([0.5, 0.9]))
        return carry | {"h": h}, h


CELLS = {
    "GRUCell": lambda: nnx.GRUCell(7, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0)),
    "LSTMCell in a stack": lambda: connect(
        [nnx.LSTMCell(7, 5, param_dtype=jnp.float64, rngs=nnx.Rngs(0)), linear(5, 4, 0), LI(param_dtype=jnp.float64)]
    ),
    "own": Own,
    "with a loop": Looped,
}


@pytest.mark.parametrize("cell", CELLS)
def test_rtrl_takes_any_cell(cell, x64):
    model = CELLS[cell]()
    forward = rtrl(model)
    plain, ours = (m.initialize_carry((B, 7), nnx.Rngs(1)) for m in (model, forward))
    assert furthest(run(forward, K, carry=ours), run(model, carry=plain)) < 1e-11


def test_gradient_of_each_step_alone_equals_bptt(x64):
    model = NETS["both"]().model
    for step in (0, 4, T - 1):
        mask = jnp.zeros((T, B), bool).at[step].set(True)
        assert furthest(run(rtrl(model), K, mask=mask), run(model, mask=mask)) < 1e-11


def test_a_loss_on_the_last_state_reaches_the_model(x64):
    model = NETS["self"]().model

    @nnx.jit
    @nnx.grad
    def gradient(cell):
        carry, _ = unroll(cell, cell.initialize_carry((B, 7)), inputs(T, B, 7), chunk=K)
        plain = carry.plain if isinstance(carry, ForwardCarry) else carry
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(plain))

    exact = gradient(model)
    assert furthest(gradient(rtrl(model)), exact) < 1e-11
    assert furthest(gradient(snap(model, n=2)), exact) < 1e-11


def test_autodiff_through_the_stock_rnn_is_the_same_gradient(x64):
    model = NETS["self"]().model

    @nnx.jit
    @nnx.grad
    def gradient(cell):
        return jnp.mean(cross_entropy(nnx.RNN(cell, time_major=True)(inputs(T, B, 7)), LABELS))

    assert furthest(gradient(rtrl(model)), run(model)) < 1e-11


def test_dropout_with_one_mask_per_sequence(x64):
    hidden, read_out = NETS["self"]().model.modules[:2], [linear(6, 4, 1), LI(param_dtype=jnp.float64)]
    model = connect([*hidden, Dropout(0.5, rngs=nnx.Rngs(0)), *read_out])
    forward = rtrl(model)
    plain, ours = (m.initialize_carry((B, 7), nnx.Rngs(1)) for m in (model, forward))
    assert furthest(run(forward, K, carry=ours), run(model, carry=plain)) < 1e-11


# ------------------------------------------------------------------------------------------- the cell, whatever the rule

RULES = {"rtrl": rtrl, "snap": snap, "uoro": lambda model: uoro(model, rngs=nnx.Rngs(0))}
rules = pytest.mark.parametrize("rule", RULES)


@rules
def test_rule_shares_parameters_at_their_paths(rule, x64):
    model = NETS["self"]().model
    forward = RULES[rule](model)
    plain, ours = (jax.tree_util.tree_leaves_with_path(nnx.state(cell, nnx.Param)) for cell in (model, forward))
    assert [path for path, _ in plain] == [path for path, _ in ours]
    before = np.asarray(model.synapses[0].kernel[...])
    optimizer = nnx.Optimizer(forward, optax.sgd(0.1), wrt=nnx.Param)
    train_online(forward, optimizer, cross_entropy, inputs(T, B, 7), LABELS, window=4)
    assert (model.synapses[0].kernel[...] != before).any()
    assert model.synapses[0].kernel is forward.synapses[0].kernel


def test_rules_leave_the_forward_pass_unchanged(optimised):
    """Bit for bit, by itself and under the gradient."""
    model = pair([7, 6, 4], [lif(), LI_], edges=SELF, dtype=jnp.float32).model
    x = inputs(T, B, 7, dtype=jnp.float32)

    @nnx.jit
    def outputs(cell, x):
        return unroll(cell, cell.initialize_carry((B, 7)), x, chunk=K)

    carry, y = outputs(model, x)
    loss, _ = jitted(model, cross_entropy, x, LABELS)
    for wrap in RULES.values():
        ours, theirs = outputs(wrap(model), x)
        np.testing.assert_array_equal(theirs, y)
        jax.tree.map(np.testing.assert_array_equal, ours.plain, carry)
        assert jitted(wrap(model), cross_entropy, x, LABELS, window=T)[0] == loss


@rules
def test_memory_does_not_grow_with_time(rule, optimised):
    model = pair([7, 6, 4], [lif(), LI_], edges=SELF, dtype=jnp.float32).model
    graphdef, state = nnx.split(RULES[rule](model))

    @jax.jit
    def gradient(state, x):
        return gradients(nnx.merge(graphdef, state), cross_entropy, x, LABELS, window=8)[1]

    def temporaries(windows):
        compiled = gradient.lower(state, jnp.zeros((8 * windows, B, 7))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(4) == temporaries(8)


def test_blocks_of_a_larger_stack_are_ostl_with_their_own_recurrence(x64):
    """The last block exact, the first with all its own time, and signals between them within their step."""
    model, layers = NETS["self"]()
    hidden = connect(model.modules[:2], [Edge(1, 0, synapse=model.synapses[0])])
    blocks = connect([rtrl(hidden), rtrl(connect(model.modules[2:]))])
    expected = oracle.ostl(layers, inputs(T, B, 7), SIGNAL, with_h=True).gradients
    exact = gradients_of(model, run(model))
    for window in (1, K, T):
        ours = jitted(blocks, cross_entropy, inputs(T, B, 7), LABELS, window=window)[1]["modules"]
        first, second = ours[0], ours[1]["modules"]
        assert deviation(first["modules"][0]["kernel"][...], expected[0]["kernel"]) < 1e-11
        assert deviation(first["synapses"][0]["kernel"][...], expected[0]["edge0_kernel"]) < 1e-11
        assert deviation(second[0]["kernel"][...], exact[1]["kernel"]) < 1e-11
    assert deviation(expected[0]["kernel"], exact[0]["kernel"]) > 0.1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nnx.Linear(7, 4, rngs=nnx.Rngs(0)), TypeError, "Linear"),
        (lambda: ostl(connect([linear(7, 4, 0, jnp.float32), LIF()])), TypeError, "something is under OSTL already"),
        (
            lambda: connect([rtrl(connect([linear(7, 4, 0, jnp.float32), LIF()])), LI()]),
            TypeError,
            "under RTRL already",
        ),
        (lambda: connect([linear(7, 4, 0, jnp.float32)]), ValueError, "a carry without numbers"),
        (lambda: connect([LIF(), Dropout(0.5, mask="step", rngs=nnx.Rngs(0))]), ValueError, 'Dropout\\(mask="step"\\)'),
        (lambda: connect([LIF(), nnx.Dropout(0.5, rngs=nnx.Rngs(0))]), ValueError, "changes .*rngs.* when called"),
        (lambda: connect([LIF(), nnx.BatchNorm(7, rngs=nnx.Rngs(0))]), ValueError, "model.eval()"),
    ],
)
def test_what_cannot_be_carried_forward_is_an_error(make, error, message):
    with pytest.raises(error, match=message):
        forward = rtrl(make())
        unroll(forward, forward.initialize_carry((B, 7)), jnp.zeros((T, B, 7)))


def test_a_carry_of_the_plain_cell_is_an_error():
    model = connect([linear(7, 4, 0, jnp.float32), LIF()])
    with pytest.raises(ValueError, match="SnAp got a carry that is no ForwardCarry"):
        unroll(snap(model), model.initialize_carry((B, 7)), jnp.zeros((T, B, 7)))


# ---------------------------------------------------------------------------------------------------------------- reach


@pytest.mark.parametrize("net", ["both", "convolution"])
def test_no_derivative_is_outside_of_the_reach(net, x64):
    """At random states and inputs, of one step."""
    model = NETS[net]().model
    x = jax.random.normal(jax.random.key(0), (1, 1, 4, 4, 1) if net == "convolution" else (1, 1, 7))
    parts = network(model, x.shape[1:])
    states = jax.random.normal(jax.random.key(1), parts.states(model.initialize_carry(x.shape[1:])).shape)
    carry = parts.with_states(model.initialize_carry(x.shape[1:]), states)
    ((by_parameter, _),) = parts.pull_states(carry, x, [np.eye(states.shape[1])])
    for direct, reach in zip(by_parameter, parts.reach(1), strict=True):
        owners = np.broadcast_to(reach.rows, reach.reached.shape)
        pattern = np.zeros(direct.shape[1:], bool)
        np.put_along_axis(pattern, owners, reach.reached, axis=0) if len(owners) else None
        assert not direct[0][~pattern].any()
        assert direct[0].any() or not pattern.any()


def test_reach_does_not_depend_on_numbers(x64):
    """A boxcar's derivative is zero nearly everywhere, and a path all the same."""
    shapes = []
    for surrogate in ("fast_sigmoid", "boxcar"):
        neuron = LIF(spike_fn=SURROGATES[surrogate](), param_dtype=jnp.float64)
        model = connect([linear(7, 6, 0), neuron, linear(6, 4, 1), neuron], {0: [1]}, rngs=nnx.Rngs(0))
        shapes.append([reach.reached.sum() for reach in network(model, (B, 7)).reach(1)])
    assert shapes[0] == shapes[1]


# ----------------------------------------------------------------------------------------------------------------- UORO


def by_noise(monkeypatch, model, loss_fn, x, labels, window):
    """The gradient by UORO as a function of its noise [T, B, H]."""
    graphdef, state = nnx.split(uoro(model, rngs=nnx.Rngs(0)))

    def gradient(noise):
        monkeypatch.setattr(sys.modules[uoro.__module__], "noise", lambda key, step, shape, dtype: noise[step])
        return gradients(nnx.merge(graphdef, state, copy=True), loss_fn, x, labels, window=window)[1]

    return gradient


@pytest.mark.parametrize("window", [1, K])
def test_uoro_equals_the_textbook_with_the_same_noise(window, monkeypatch, x64):
    model, layers = pair([7, 6, 4], [lif(fixed=True), {**LI_, "fixed": True}])
    noise = jax.random.rademacher(jax.random.key(0), (T, B, 10), jnp.float64)
    x = inputs(T, B, 7)
    ours = jax.jit(by_noise(monkeypatch, model, cross_entropy, x, LABELS, window))(noise)
    assert worst(gradients_of(model, ours), oracle.uoro(layers, x, SIGNAL, np.asarray(noise)).gradients) < 1e-11


def test_mean_of_uoro_over_all_signs_is_exact(monkeypatch, x64):
    model = pair([2, 1, 1], [lif(), LI_], edges=SELF).model  # 3 states: what the neurons carry, and a last output
    x, labels = inputs(3, 1, 2, seed=1), jnp.zeros(1, int)

    def squared(outputs, labels):
        return jnp.sum(jnp.square(outputs - 0.3), axis=-1)

    signs = jnp.array(list(itertools.product((-1.0, 1.0), repeat=6))).reshape(-1, 2, 1, 3)
    noise = jnp.concatenate([signs, jnp.ones((len(signs), 1, 1, 3))], axis=1)  # that of the last step reaches no output
    each = jax.jit(jax.vmap(by_noise(monkeypatch, model, squared, x, labels, 1)))(noise)
    exact = gradients(model, squared, x, labels)[1]
    assert furthest(jax.tree.map(lambda g: jnp.mean(g, axis=0), each), exact) < 1e-12
    assert furthest(jax.tree.map(lambda g: g[0], each), exact) > 0.1


def test_error_of_the_mean_of_uoro_falls_as_the_root_of_the_number_of_draws(x64):
    model = pair([4, 3, 2], [lif(), LI_]).model
    x, labels = inputs(6, 2, 4), jnp.array([0, 1])
    graphdef, state = nnx.split(uoro(model, rngs=nnx.Rngs(0)))

    @jax.jit
    @jax.vmap
    def draw(key):
        cell = nnx.merge(graphdef, state, copy=True)
        carry = cell.initialize_carry((2, 4), nnx.Rngs(key))
        return jax.flatten_util.ravel_pytree(gradients(cell, cross_entropy, x, labels, window=3, carry=carry)[1])[0]

    exact, _ = jax.flatten_util.ravel_pytree(gradients(model, cross_entropy, x, labels)[1])
    draws = draw(jax.random.split(jax.random.key(0), 2**13))

    def error(n):
        means = draws.reshape(-1, n, len(exact)).mean(axis=1)
        return float(jnp.sqrt(jnp.mean(jnp.sum(jnp.square(means - exact[None]), axis=1))) / jnp.linalg.norm(exact))

    few, more, most = error(16), error(256), error(2**13)
    assert few / more == pytest.approx(4, rel=0.2)
    assert most < more / 4
    assert few > 0.1


def test_each_first_carry_draws_other_noise(x64):
    model = pair([4, 3, 2], [lif(), LI_]).model
    cell, x, labels = uoro(model, rngs=nnx.Rngs(0)), inputs(6, 2, 4), jnp.array([0, 1])
    carries = [cell.initialize_carry((2, 4), rngs) for rngs in (None, None, nnx.Rngs(7), nnx.Rngs(7))]
    one, two, three, four = (jitted(cell, cross_entropy, x, labels, window=3, carry=carry)[1] for carry in carries)
    assert furthest(one, two) > 0.01
    assert furthest(three, four) == 0


def test_uoro_of_one_step_is_exact(x64):
    model = pair([4, 3, 2], [lif(), LI_]).model
    x, labels = inputs(1, 2, 4), jnp.array([0, 1])
    ours = jitted(uoro(model, rngs=nnx.Rngs(0)), cross_entropy, x, labels)[1]
    assert furthest(ours, jitted(model, cross_entropy, x, labels)[1]) < 1e-12
