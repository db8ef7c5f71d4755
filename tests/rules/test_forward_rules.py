"""RTRL, SnAp and UORO: rules that carry the influence of parameters on the states of a whole model forward in time."""

import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import oracle
from slax_neurons import LI, LIF, SURROGATES, Dropout, connect
from slax_rules import BPTT, RTRL, UORO, SnAp, cross_entropy, gradients, train_online
from slax_rules.influence.influence import state_space
from stacks import Conv, deviation, gradients_of, inputs, linear, pair, worst

T, B, K = 12, 3, 3  # four windows in one scan: one program for all
LABELS = jnp.array([0, 3, 2])
SIGNAL = oracle.softmax_cross_entropy(LABELS)


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


def run(model, rule, window=None, x=None, **options):
    x = inputs(T, B, 7) if x is None else x
    return gradients(model, cross_entropy, x, LABELS, rule=rule, window=window, **options)[1]


def exact(model, x=None, **options):
    return run(model, BPTT(), None, x, **options)


def furthest(ours, theirs):
    """The largest deviation of two gradients in the structure of the parameters, which must be the same."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    return max(deviation(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


# ----------------------------------------------------------------------------------------------------------------- RTRL


@pytest.mark.parametrize("net", NETS)
def test_rtrl_equals_bptt(net, x64):
    model, layers = NETS[net]()
    x = inputs(T, B, (4, 4, 1) if net == "convolution" else 7)
    ours = gradients_of(model, run(model, RTRL(), K, x))
    assert worst(ours, oracle.bptt(layers, x, SIGNAL).gradients) < 1e-11


@pytest.mark.parametrize("window", [1, 5, T])
def test_rtrl_is_the_same_for_every_window(window, x64):
    model, layers = NETS["both"]()
    expected = oracle.rtrl(layers, inputs(T, B, 7), SIGNAL).gradients
    assert worst(gradients_of(model, run(model, RTRL(), window)), expected) < 1e-11


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
    carry = model.initialize_carry((B, 7), nnx.Rngs(1))
    assert furthest(run(model, RTRL(), K, carry=carry), exact(model, carry=carry)) < 1e-11


@pytest.mark.parametrize("rule", ["RTRL()", "SnAp(2)"])
def test_a_stack_may_begin_with_an_embedding_of_integers(rule):
    """The inputs are indices, not numbers of the dtype of the parameters.

    In a process without the check of types, by which a stack takes floating-point inputs alone.
    """
    program = f"""
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from slax_neurons import LI, LIF, connect
from slax_rules import RTRL, SnAp, cross_entropy, gradients
jax.config.update("jax_enable_x64", True)
rngs, f64 = nnx.Rngs(0), dict(param_dtype=jnp.float64)
first = [nnx.Embed(5, 4, rngs=rngs, **f64), lambda x: x[:, 0]]
rest = [nnx.Linear(4, 6, rngs=rngs, **f64), LIF(threshold=0.1, **f64), nnx.Linear(6, 3, rngs=rngs, **f64), LI(**f64)]
words, labels = jnp.asarray(np.random.default_rng(0).integers(0, 5, (9, 3, 1))), jnp.array([0, 2, 1])
for model in (connect(first + rest), connect([connect(first), *rest])):
    _, exact = gradients(model, cross_entropy, words, labels)
    _, found = gradients(model, cross_entropy, words, labels, rule={rule}, window=4)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert abs(b).max() > 1e-3
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
"""
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_gradient_of_each_step_alone_equals_bptt(x64):
    model = NETS["both"]().model
    for step in (0, 4, T - 1):
        mask = jnp.zeros((T, B), bool).at[step].set(True)
        assert furthest(run(model, RTRL(), K, mask=mask), exact(model, mask=mask)) < 1e-11


def test_dropout_with_one_mask_per_sequence(x64):
    hidden, read_out = NETS["self"]().model.modules[:2], [linear(6, 4, 1), LI(param_dtype=jnp.float64)]
    model = connect([*hidden, Dropout(0.5, rngs=nnx.Rngs(0)), *read_out])
    carry = model.initialize_carry((B, 7), nnx.Rngs(1))
    assert furthest(run(model, RTRL(), K, carry=carry), exact(model, carry=carry)) < 1e-11


# ------------------------------------------------------------------------------------------- the cell, whatever the rule

RULES = {"rtrl": RTRL, "snap": SnAp, "uoro": lambda: UORO(rngs=nnx.Rngs(0))}
rules = pytest.mark.parametrize("rule", RULES)


@rules
def test_a_training_step_moves_all_parameters_of_the_model(rule, x64):
    model = NETS["self"]().model
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    train_online(model, optimizer, cross_entropy, inputs(T, B, 7), LABELS, rule=RULES[rule](), window=4)
    for old, new in zip(before, jax.tree.leaves(nnx.state(model, nnx.Param)), strict=True):
        assert (old != new).any()


def test_loss_is_bitwise_that_of_the_plain_forward_pass(optimized):
    model = pair([7, 6, 4], [lif(), LI_], edges=SELF, dtype=jnp.float32).model
    x = inputs(T, B, 7, dtype=jnp.float32)
    loss, _ = gradients(model, cross_entropy, x, LABELS)
    for make in RULES.values():
        assert gradients(model, cross_entropy, x, LABELS, rule=make(), window=T)[0] == loss


@rules
def test_memory_does_not_grow_with_time(rule, optimized):
    model = pair([7, 6, 4], [lif(), LI_], edges=SELF, dtype=jnp.float32).model
    graphdef, state = nnx.split(model)

    @jax.jit
    def gradient(state, x):
        return gradients(nnx.merge(graphdef, state), cross_entropy, x, LABELS, rule=RULES[rule](), window=8)[1]

    def temporaries(windows):
        compiled = gradient.lower(state, jnp.zeros((8 * windows, B, 7))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(4) == temporaries(8)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nnx.Linear(7, 4, rngs=nnx.Rngs(0)), TypeError, "Linear"),
        (lambda: connect([linear(7, 4, 0, jnp.float32)]), ValueError, "a carry without numbers"),
        (lambda: connect([LIF(), Dropout(0.5, mask="step", rngs=nnx.Rngs(0))]), ValueError, 'Dropout\\(mask="step"\\)'),
        (lambda: connect([LIF(), nnx.Dropout(0.5, rngs=nnx.Rngs(0))]), ValueError, "changes .*rngs.* when called"),
        (lambda: connect([LIF(), nnx.BatchNorm(7, rngs=nnx.Rngs(0))]), ValueError, "model.eval()"),
    ],
)
def test_what_cannot_be_carried_forward_is_an_error(make, error, message):
    with pytest.raises(error, match=message):
        gradients(make(), cross_entropy, jnp.zeros((T, B, 7)), LABELS, rule=RTRL())


# ---------------------------------------------------------------------------------------------------------------- reach


@pytest.mark.parametrize("net", ["both", "convolution"])
def test_no_derivative_is_outside_of_the_reach(net, x64):
    """At random states and inputs, of one step."""
    model = NETS[net]().model
    x = jax.random.normal(jax.random.key(0), (1, 1, 4, 4, 1) if net == "convolution" else (1, 1, 7))
    parts = state_space(model, x.shape[1:])
    states = jax.random.normal(jax.random.key(1), parts.states(model.initialize_carry(x.shape[1:])).shape)
    carry = parts.with_states(model.initialize_carry(x.shape[1:]), states)
    ((by_parameter, _),) = parts.vjp_states(carry, x, [np.eye(states.shape[1])])
    for direct, reach in zip(by_parameter, parts.coloring(1), strict=True):
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
        shapes.append([reach.reached.sum() for reach in state_space(model, (B, 7)).coloring(1)])
    assert shapes[0] == shapes[1]


# ----------------------------------------------------------------------------------------------------------------- UORO


def by_noise(monkeypatch, model, loss_fn, x, labels, window):
    """The gradient by UORO as a function of its noise [T, B, H]."""
    graphdef, state = nnx.split(model)

    def gradient(noise):
        monkeypatch.setattr(sys.modules[UORO.__module__], "noise", lambda key, step, shape, dtype: noise[step])
        copy = nnx.merge(graphdef, state, copy=True)

        def loss_here(outputs, targets):  # a function of its own, whose program nothing else uses
            return loss_fn(outputs, targets)

        return gradients(copy, loss_here, x, labels, rule=UORO(rngs=nnx.Rngs(0)), window=window)[1]

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

    @jax.jit
    @jax.vmap
    def draw(key):
        rule = UORO(rngs=nnx.Rngs(key))
        return jax.flatten_util.ravel_pytree(gradients(model, cross_entropy, x, labels, rule=rule, window=3)[1])[0]

    exact, _ = jax.flatten_util.ravel_pytree(gradients(model, cross_entropy, x, labels)[1])
    draws = draw(jax.random.split(jax.random.key(0), 2**13))

    def error(n):
        means = draws.reshape(-1, n, len(exact)).mean(axis=1)
        return float(jnp.sqrt(jnp.mean(jnp.sum(jnp.square(means - exact[None]), axis=1))) / jnp.linalg.norm(exact))

    few, more, most = error(16), error(256), error(2**13)
    assert few / more == pytest.approx(4, rel=0.2)
    assert most < more / 4
    assert few > 0.1


def test_each_call_draws_other_noise_and_the_same_seed_the_same(x64):
    model = pair([4, 3, 2], [lif(), LI_]).model
    x, labels, rule = inputs(6, 2, 4), jnp.array([0, 1]), UORO(rngs=nnx.Rngs(0))
    others = [UORO(rngs=nnx.Rngs(noise=7)) for _ in range(2)]
    one, two, three, four = (
        gradients(model, cross_entropy, x, labels, rule=one, window=3)[1] for one in (rule, rule, *others)
    )
    assert furthest(one, two) > 0.01
    assert furthest(three, four) == 0
    assert furthest(one, three) > 0.01


def test_each_training_step_draws_other_noise(x64):
    """The key of the rule moves on with each call, also where all parameters stay as they are."""
    model = pair([4, 3, 2], [lif(), LI_]).model
    x, labels, rule = inputs(6, 2, 4), jnp.array([0, 1]), UORO(rngs=nnx.Rngs(0))
    kept = optax.GradientTransformation(
        lambda params: params, lambda g, _, params: (jax.tree.map(jnp.zeros_like, g), g)
    )
    optimizer = nnx.Optimizer(model, kept, wrt=nnx.Param)
    found = []
    for _ in range(2):
        train_online(model, optimizer, cross_entropy, x, labels, rule=rule, window=6)
        found.append(jax.tree.leaves(nnx.state(optimizer.opt_state)))
    assert furthest(*found) > 0.01
    same = gradients(model, cross_entropy, x, labels, rule=UORO(rngs=nnx.Rngs(0)), window=3)[1]
    assert furthest(jax.tree.leaves(same), found[0]) < 1e-11


def test_uoro_of_one_step_is_exact(x64):
    model = pair([4, 3, 2], [lif(), LI_]).model
    x, labels = inputs(1, 2, 4), jnp.array([0, 1])
    ours, theirs = (
        gradients(model, cross_entropy, x, labels, rule=rule)[1] for rule in (UORO(rngs=nnx.Rngs(0)), BPTT())
    )
    assert furthest(ours, theirs) < 1e-12
