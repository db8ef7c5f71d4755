"""The loop: windows, targets, losses, and what it refuses. Gradients themselves are pinned in test_ostl.py."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Surrogate, connect, unroll
from slax_rules import RULES, Moment, cross_entropy, gradients, linearise, ostl, train_offline, train_online
from stacks import deviation, inputs, linear, pair

T, B = 7, 3
LABELS = jnp.array([0, 3, 2])
X = inputs(T, B, 7, dtype=jnp.float32)


def net(dtype=jnp.float32):
    return pair([7, 6, 4], [{"kind": "lif", "threshold": 0.7}, {"kind": "li"}], dtype=dtype).model


def close(ours, theirs, tolerance):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(deviation(a, b) < tolerance for a, b in pairs)


def test_loss_and_gradient_are_those_of_the_mean_over_time_and_batch(x64):
    model, x = net(jnp.float64), inputs(T, B, 7)

    def loss_of(model):
        return cross_entropy(unroll(model, model.initialize_carry((B, 7)), x)[1], LABELS).mean()

    expected, by_autodiff = nnx.value_and_grad(loss_of)(model)
    loss, gradient = gradients(model, cross_entropy, x, LABELS)
    assert loss == pytest.approx(float(expected), rel=1e-12)
    assert close(gradient, by_autodiff, 1e-12)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_loss_does_not_depend_on_the_window(window, x64):
    """The last window is shorter, and counts by its length."""
    model, x = net(jnp.float64), inputs(T, B, 7)
    whole = gradients(model, cross_entropy, x, LABELS)[0]
    assert gradients(model, cross_entropy, x, LABELS, window=window)[0] == pytest.approx(float(whole), rel=1e-12)


@pytest.mark.parametrize("rule", ["bptt", "rtrl", "ostl", "fptt"])
def test_jit_changes_nothing(rule, x64):
    model, x = RULES[rule].wrap(net(jnp.float64)), inputs(T, B, 7)
    jitted = nnx.jit(gradients, static_argnames=("loss_fn", "window"))
    ours = jitted(model, cross_entropy, x, LABELS, window=RULES[rule].window)
    assert close(ours, gradients(model, cross_entropy, x, LABELS, window=RULES[rule].window), 1e-12)


@pytest.mark.parametrize("window", [None, 3])
def test_targets_per_step_are_cut_like_the_inputs(window, x64):
    model, x = net(jnp.float64), inputs(T, B, 7)
    constant = gradients(model, cross_entropy, x, LABELS, window=window)
    repeated = gradients(model, cross_entropy, x, jnp.tile(LABELS, (T, 1)), window=window)
    assert close(repeated, constant, 1e-12)
    changed = gradients(model, cross_entropy, x, jnp.tile(LABELS, (T, 1)).at[T - 1].set(1), window=window)
    assert changed[0] != constant[0]


def test_permuting_samples_changes_no_gradient(x64):
    model, x = ostl(net(jnp.float64)), inputs(T, B, 7)
    order = jnp.array([2, 0, 1])
    assert close(
        gradients(model, cross_entropy, x[:, order], LABELS[order], window=3)[1],
        gradients(model, cross_entropy, x, LABELS, window=3)[1],
        1e-12,
    )


def test_gradients_match_finite_differences_of_a_smooth_spike(x64):
    """BPTT with true derivatives throughout: the spike is a sigmoid and so is its surrogate's antiderivative."""

    @jax.custom_jvp
    def smooth(x):
        return jax.nn.sigmoid(4 * x)

    smooth.defjvps(lambda t, s, x: 4 * s * (1 - s) * t)
    model = net(jnp.float64)
    model.modules[1].spike_fn = smooth
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    x = inputs(T, B, 7)

    def loss(flat):
        return gradients(nnx.merge(graphdef, unflatten(flat), rest), cross_entropy, x, LABELS)[0]

    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    exact, _ = jax.flatten_util.ravel_pytree(gradients(model, cross_entropy, x, LABELS)[1])
    step, loss = 1e-6, jax.jit(loss)
    directions = np.random.default_rng(0).normal(size=(5, flat.size))
    for direction in directions:
        numeric = (loss(flat + step * direction) - loss(flat - step * direction)) / (2 * step)
        assert float(exact @ direction) == pytest.approx(float(numeric), rel=1e-7)


def test_blocks_of_a_lif_are_the_closed_forms(x64):
    """rules.md section 1.1: a = 1 - threshold psi, D = a decay, d = a, o = psi decay; by the decay's logit too."""
    model = net(jnp.float64)
    neuron = model.modules[1]
    states = jax.random.normal(jax.random.key(0), (2, 6))
    currents = jax.random.normal(jax.random.key(1), (2, 6))
    decay, threshold = neuron.decay(states), neuron.threshold(states)
    v = decay * states + currents
    psi = 1 / (25 * jnp.abs(v - threshold) + 1) ** 2
    a = 1 - threshold * psi
    blocks = linearise(neuron, Moment(states, currents, neuron.integrate(states, currents)))
    by_logit = decay * (1 - decay) * states
    spikes = (v >= threshold).astype(v.dtype)
    for ours, theirs in [
        (blocks.psi, psi),
        (blocks.d[0], a),
        (blocks.o[0], psi * decay),
        (blocks.D[0][0], a * decay),
        (blocks.pS[0][0], a * by_logit),
        (blocks.pO[0], psi * by_logit),
        (blocks.pS[1][0], -spikes + threshold * psi),
        (blocks.pO[1], -psi),
    ]:
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("train", [gradients, train_offline, train_online])
def test_flax_cell_that_needs_a_key_starts_from_a_given_carry(train):
    model = connect([nnx.LSTMCell(7, 5, rngs=nnx.Rngs(0)), linear(5, 4, 0, jnp.float32), LI()])
    optimizer = [] if train is gradients else [nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)]
    with pytest.raises(ValueError, match="RNGs must be provided"):
        train(model, *optimizer, cross_entropy, X, LABELS, window=3)
    before = jax.tree.leaves(nnx.state(model.modules[0], nnx.Param))
    result = train(
        model, *optimizer, cross_entropy, X, LABELS, window=3, carry=model.initialize_carry((B, 7), nnx.Rngs(1))
    )
    after = jax.tree.leaves(result[1]["modules"][0] if train is gradients else nnx.state(model.modules[0], nnx.Param))
    assert any((new != old).any() for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradients(net(), cross_entropy, X[:, 0], LABELS), r"\[7, 7\], expected \[T, B, features...\]"),
        (lambda: gradients(net(), cross_entropy, X[:0], LABELS), "a sequence of 0 steps"),
        (lambda: gradients(net(), cross_entropy, X[..., :6], LABELS), "Linear, expects 7 features"),
        (lambda: gradients(net(), cross_entropy, X, LABELS[:2]), r"targets of shape \[2\] for inputs of 7 steps and 3"),
        (lambda: gradients(net(), cross_entropy, X, LABELS, window=0), "length of 0 steps"),
        (lambda: gradients(net(), lambda y, t: y.mean(), X, LABELS), r"loss_fn made \[\] of outputs"),
        (lambda: gradients(net(), lambda y, t: y, X, LABELS), "expected one loss per step and sample"),
    ],
)
def test_bad_input_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_own_spike_function_under_a_rule():
    model = connect([linear(7, 4, 0, jnp.float32), LIF(spike_fn=Surrogate(lambda x: jnp.exp(-jnp.abs(x))))])
    _, exact = gradients(model, cross_entropy, X, LABELS)
    _, online = gradients(ostl(model), cross_entropy, X, LABELS, window=2)
    assert close(online, exact, 1e-5)
