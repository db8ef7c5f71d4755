"""The loop: windows, targets, losses, and what it refuses. Gradients themselves are pinned in test_ostl.py."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Surrogate, connect, unroll
from slax_rules import RULES, accuracy, cross_entropy, gradients, linearise, ostl, train_offline, train_online
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


@pytest.mark.parametrize("rule", RULES)
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
    states = jax.random.normal(jax.random.key(0), (5, 2, 6))
    currents = jax.random.normal(jax.random.key(1), (5, 2, 6))
    decay, threshold = neuron.decay(states), neuron.threshold(states)
    v = decay * states + currents
    psi = 1 / (25 * jnp.abs(v - threshold) + 1) ** 2
    a = 1 - threshold * psi
    blocks = linearise(neuron, states, currents)
    by_logit = decay * (1 - decay) * states
    spikes = (v >= threshold).astype(v.dtype)
    for ours, theirs in [
        (blocks.psi, psi),
        (blocks.d[:, 0], a),
        (blocks.o[:, 0], psi * decay),
        (blocks.D[:, 0, 0], a * decay),
        (blocks.pS[0][:, 0], a * by_logit),
        (blocks.pO[0], psi * by_logit),
        (blocks.pS[1][:, 0], -spikes + threshold * psi),
        (blocks.pO[1], -psi),
    ]:
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_offline_training_is_the_optimiser_on_the_gradient():
    model, copy = net(), net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    loss = train_offline(ostl(model), optimizer, cross_entropy, X, LABELS)
    expected, gradient = gradients(ostl(copy), cross_entropy, X, LABELS)
    assert loss == expected
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(copy, nnx.Param), gradient)
    assert close(nnx.state(model, nnx.Param), moved, 1e-6)


def test_online_training_is_one_step_per_window_with_carry_and_traces_kept():
    model, copy = net(), net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    loss = train_online(ostl(model), optimizer, cross_entropy, X, LABELS, window=3)

    cell, losses = ostl(copy), []
    carry = cell.initialize_carry((B, 7))
    graphdef, params, rest = nnx.split(cell, nnx.Param, ...)
    for start in range(0, T, 3):
        x = X[start : start + 3]

        def mean_loss(params, x=x, carry=carry):
            carry, outputs = unroll(nnx.merge(graphdef, params, rest), carry, x, chunk=len(x))
            return cross_entropy(outputs, LABELS).mean(), carry

        (window_loss, carry), gradient = jax.value_and_grad(mean_loss, has_aux=True)(params)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
        losses += [float(window_loss)] * len(x)
    assert close(nnx.state(model, nnx.Param), params, 1e-5)
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_online_training_with_one_window_is_offline_training():
    models = net(), net()
    optimizers = [nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param) for model in models]
    train_online(models[0], optimizers[0], cross_entropy, X, LABELS, window=T)
    train_offline(models[1], optimizers[1], cross_entropy, X, LABELS)
    assert close(nnx.state(models[0], nnx.Param), nnx.state(models[1], nnx.Param), 1e-6)


@pytest.mark.parametrize("online", [False, True])
def test_training_lowers_the_loss_under_jit_with_weight_decay(online):
    """Weight decay needs the parameters, which slax 0.0.1 did not hand to the optimiser."""
    model = net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.05) if online else optax.adamw(0.01), wrt=nnx.Param)
    step = nnx.jit(train_online if online else train_offline, static_argnames=("loss_fn", "window"))
    cell = ostl(model)
    with jax.numpy_dtype_promotion("standard"):  # for optax, whose step counter is an integer
        losses = [float(step(cell, optimizer, cross_entropy, X, LABELS, window=3)) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]


def test_training_is_traced_once():
    traces = []

    def counted_loss(outputs, labels):
        traces.append(1)
        return cross_entropy(outputs, labels)

    model = net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    step = nnx.jit(train_offline, static_argnames=("loss_fn", "window"))
    step(model, optimizer, counted_loss, X, LABELS)
    first = len(traces)
    for _ in range(3):
        step(model, optimizer, counted_loss, X, LABELS)
    assert len(traces) == first


def test_float16_losses_are_added_up_in_float32():
    model = connect([linear(7, 4, 0, jnp.bfloat16), LI(param_dtype=jnp.bfloat16)])
    loss, gradient = gradients(model, cross_entropy, X.astype(jnp.bfloat16), LABELS, window=3)
    assert loss.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.bfloat16)}


def test_cross_entropy_is_minus_log_softmax(x64):
    outputs = jax.random.normal(jax.random.key(0), (T, B, 4))
    expected = -jax.nn.log_softmax(outputs)[:, jnp.arange(B), LABELS]
    np.testing.assert_allclose(cross_entropy(outputs, LABELS), expected, rtol=1e-12)


@pytest.mark.parametrize("labels", [[0, 4, 2], [-1, 3, 2]])
def test_labels_out_of_range_are_an_error_or_nan_under_jit(labels):
    outputs = jnp.zeros((T, B, 4))
    for function in (cross_entropy, accuracy):
        with pytest.raises(ValueError, match=r"got labels from .* expected 0 to 3 for outputs of 4 classes"):
            function(outputs, jnp.array(labels))
    assert jnp.isnan(jax.jit(accuracy)(outputs, jnp.array(labels)))
    losses = jax.jit(cross_entropy)(outputs, jnp.array(labels))
    wrong = [not 0 <= label < 4 for label in labels]
    np.testing.assert_array_equal(jnp.isnan(losses), np.tile(wrong, (T, 1)))


def test_one_hot_labels_are_an_error():
    with pytest.raises(ValueError, match="got labels of float32, expected integers 0 to 3, not one-hot"):
        cross_entropy(jnp.zeros((T, B, 4)), jnp.eye(4)[LABELS])


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


def test_accuracy_sums_over_time_and_counts_ties_as_wrong():
    outputs = jnp.zeros((2, 4, 3)).at[:, 0, 1].set(1).at[0, 1, 0].set(1).at[1, 1, 2].set(2)
    outputs = outputs.at[:, 2, :2].set(1)
    assert accuracy(outputs, jnp.array([1, 2, 0, 0])) == 0.5


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
