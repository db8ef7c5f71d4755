"""The loop: windows, targets, losses, and what it refuses. Gradients themselves are pinned in test_ostl.py."""

import re
from pathlib import Path

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules
from slax_neurons import LI, LIF, Surrogate, connect, unroll
from slax_rules import (
    BPTT,
    OSTL,
    RULES,
    UORO,
    PerSequence,
    PerStep,
    StepPoint,
    cross_entropy,
    gradients,
    linearize,
    squared_error,
    train_offline,
    train_online,
)
from slax_rules.layerwise.input_traces import parameter_slopes
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


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_loss_does_not_depend_on_the_window(window, masked, x64):
    """The last window is shorter, and counts by its length, or by the true entries of the mask."""
    model, x = net(jnp.float64), inputs(T, B, 7)
    mask = jnp.ones((T, B), bool).at[T - 1].set(False).at[0, 1:].set(False) if masked else None
    whole = gradients(model, cross_entropy, x, LABELS, mask=mask)[0]
    loss = gradients(model, cross_entropy, x, LABELS, rule=OSTL(), window=window, mask=mask)[0]
    assert loss == pytest.approx(float(whole), rel=1e-12)
    optimizer = nnx.Optimizer(model, optax.sgd(0.0), wrt=nnx.Param)
    online = train_online(model, optimizer, cross_entropy, x, LABELS, rule=OSTL(), window=window, mask=mask)
    assert online == pytest.approx(float(whole), rel=1e-12)


@pytest.mark.parametrize("rule", ["bptt", "rtrl", "ostl", "fptt"])
def test_jit_of_flax_changes_nothing(rule, x64):
    model, x = net(jnp.float64), inputs(T, B, 7)
    jitted = nnx.jit(gradients, static_argnames=("loss_fn", "rule", "window"))
    ours = jitted(model, cross_entropy, x, LABELS, rule=RULES[rule].make(), window=3)
    assert close(ours, gradients(model, cross_entropy, x, LABELS, rule=RULES[rule].make(), window=3), 1e-12)


@pytest.mark.parametrize("rule", ["bptt", "otpe", "uoro"])
def test_training_in_a_scan_of_one_s_own_is_training_step_by_step(rule, x64):
    """A step of `jax.lax.scan` over states, under `jax.jit`, a rule with a random stream included."""
    batches = jnp.stack([inputs(T, B, 7, seed) for seed in range(3)])

    def make():
        model, chosen = net(jnp.float64), RULES[rule].make(rngs=nnx.Rngs(0))
        return model, nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param), chosen

    graphdef, state = nnx.split(make())

    @jax.jit
    def epoch(state, batches):
        def step(state, x):
            model, optimizer, chosen = nnx.merge(graphdef, state, copy=True)
            loss = train_offline(model, optimizer, cross_entropy, x, LABELS, rule=chosen, window=3)
            return nnx.state((model, optimizer, chosen)), loss

        return jax.lax.scan(step, state, batches)

    after, losses = epoch(state, batches)
    model, optimizer, chosen = make()
    expected = [train_offline(model, optimizer, cross_entropy, x, LABELS, rule=chosen, window=3) for x in batches]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    ours, theirs = (jax.tree.leaves(nnx.as_pure(found)) for found in (after, nnx.state((model, optimizer, chosen))))
    arrays = [(a, b) for a, b in zip(ours, theirs, strict=True) if jnp.issubdtype(a.dtype, jnp.floating)]
    assert close(*zip(*arrays, strict=True), 1e-12)
    assert len(set(map(float, losses))) == 3


def test_a_model_from_outside_of_a_traced_function_is_left_alone(x64):
    """Only what changes is written back, here the stream of a rule that is made inside."""
    model, x = net(jnp.float64), inputs(T, B, 7)

    @jax.jit
    def gradient(x):
        return gradients(model, cross_entropy, x, LABELS, rule=UORO(rngs=nnx.Rngs(0)))

    assert close(gradient(x), gradients(model, cross_entropy, x, LABELS, rule=UORO(rngs=nnx.Rngs(0))), 1e-12)


def test_autodiff_of_the_user_is_all_there_is():
    """No rule hides behind a derivative of its own."""
    sources = sorted(Path(slax_rules.__file__).parent.rglob("*.py"))
    assert len(sources) > 30
    assert [path.name for path in sources if re.search("custom_vjp|custom_jvp|defvjp", path.read_text())] == []


@pytest.mark.parametrize("rule", [BPTT(), OSTL()])
def test_targets_per_step_are_cut_like_the_inputs(rule, x64):
    model, x = net(jnp.float64), inputs(T, B, 7)
    constant = gradients(model, cross_entropy, x, LABELS, rule=rule, window=3)
    repeated = gradients(model, cross_entropy, x, jnp.tile(LABELS, (T, 1)), rule=rule, window=3)
    assert close(repeated, constant, 1e-12)
    changed = jnp.tile(LABELS, (T, 1)).at[T - 1].set(1)
    assert gradients(model, cross_entropy, x, changed, rule=rule, window=3)[0] != constant[0]


@pytest.mark.parametrize("steps", [T, B])
def test_marked_targets_are_what_they_say(steps, x64):
    """With as many steps as samples nothing else says which of the two they are."""
    model, x = net(jnp.float64), inputs(steps, B, 7)
    labels = jax.random.randint(jax.random.key(0), (steps, B), 0, 4)
    tracks = jax.random.normal(jax.random.key(1), (steps, B, 4))
    outputs = unroll(model, model.initialize_carry((B, 7)), x)[1]
    of_step = gradients(model, cross_entropy, x, PerStep(labels), rule=OSTL(), window=2)[0]
    assert of_step == pytest.approx(float(cross_entropy(outputs, labels).mean()), rel=1e-12)
    of_sequence = gradients(model, cross_entropy, x, PerSequence(LABELS), rule=OSTL(), window=2)[0]
    assert of_sequence == pytest.approx(float(cross_entropy(outputs, LABELS).mean()), rel=1e-12)
    of_track = gradients(model, squared_error, x, PerStep(tracks), rule=OSTL(), window=2)[0]
    assert of_track == pytest.approx(float(jnp.mean((outputs - tracks) ** 2)), rel=1e-12)
    # A tree under one mark; the whole of it is one per step, or one per sequence.
    both = gradients(
        model, lambda y, t: cross_entropy(y, t["a"]) + squared_error(y, t["b"]), x, PerStep({"a": labels, "b": tracks})
    )
    assert both[0] == pytest.approx(float(of_step + of_track), rel=1e-12)


@pytest.mark.parametrize("call", [gradients, train_offline, train_online])
def test_targets_that_may_be_one_per_step_or_one_per_sequence_are_an_error(call):
    """B = T: [B, B, ...] may be both; labels [B] may not."""
    model, x = net(), inputs(B, B, 7, dtype=jnp.float32)
    optimizer = [] if call is gradients else [nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)]
    with pytest.raises(ValueError, match=r"shape \[3, 3, 4\] for 3 steps and 3 samples.*PerStep\(.*PerSequence\("):
        call(model, *optimizer, squared_error, x, jnp.zeros((B, B, 4)))
    call(model, *optimizer, squared_error, x, PerStep(jnp.zeros((B, B, 4))))
    call(model, *optimizer, cross_entropy, x, LABELS)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (PerStep(LABELS), r"targets of shape \[3\] for inputs of 7 steps and 3 samples"),
        (PerSequence(jnp.zeros((T, B), int)), r"targets of shape \[7, 3\] for inputs of 7 steps and 3 samples"),
        ({"a": LABELS, "b": jnp.zeros((B + 1, 2))}, r"targets of shape \[4, 2\] for inputs of 7 steps"),
    ],
)
def test_targets_that_are_not_what_they_say_are_an_error(targets, message):
    with pytest.raises(ValueError, match=message):
        gradients(net(), cross_entropy, X, targets)


def test_remat_under_bptt_changes_nothing_but_the_memory(optimized):
    graphdef, params = nnx.split(net())
    x = inputs(256, B, 7, dtype=jnp.float32)

    def compiled(remat):
        @jax.jit
        def gradient(params, x):
            model = nnx.merge(graphdef, params)
            return gradients(model, cross_entropy, x, LABELS, rule=BPTT(remat=remat))

        return gradient.lower(params, x).compile()

    plain, remat = compiled(False), compiled(True)
    assert close(plain(params, x), remat(params, x), 1e-5)
    assert remat.memory_analysis().temp_size_in_bytes < 0.7 * plain.memory_analysis().temp_size_in_bytes


def test_permuting_samples_changes_no_gradient(x64):
    model, x = net(jnp.float64), inputs(T, B, 7)
    order = jnp.array([2, 0, 1])
    assert close(
        gradients(model, cross_entropy, x[:, order], LABELS[order], rule=OSTL(), window=3)[1],
        gradients(model, cross_entropy, x, LABELS, rule=OSTL(), window=3)[1],
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


def test_jacobians_of_a_lif_are_the_closed_forms(x64):
    """rules.md section 1.1: a = 1 - threshold psi, D = a decay, d = a, o = psi decay; by the decay's logit too."""
    model = net(jnp.float64)
    neuron = model.modules[1]
    states = jax.random.normal(jax.random.key(0), (2, 6))
    currents = jax.random.normal(jax.random.key(1), (2, 6))
    decay, threshold = neuron.decay(states), neuron.threshold(states)
    v = decay * states + currents
    psi = 1 / (25 * jnp.abs(v - threshold) + 1) ** 2
    a = 1 - threshold * psi
    jacobians = linearize(neuron, StepPoint(states, currents, neuron.integrate(states, currents)))
    by_logit = decay * (1 - decay) * states
    spikes = (v >= threshold).astype(v.dtype)
    for ours, theirs in [
        (jacobians.psi, psi),
        (jacobians.d[0], a),
        (jacobians.o[0], psi * decay),
        (jacobians.D[0][0], a * decay),
        (jacobians.pS[0][0], a * by_logit),
        (jacobians.pO[0], psi * by_logit),
        (jacobians.pS[1][0], -spikes + threshold * psi),
        (jacobians.pO[1], -psi),
    ]:
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


class Wave(LIF):
    """A LIF whose decay is the sine of a parameter, so that a cosine shows each derivative with respect to it."""

    def __init__(self):
        super().__init__(decay=0.5)
        self.phase = nnx.Param(jnp.float32(0.3))

    def integrate(self, carry, current):
        return jnp.sin(self.phase[...]) * carry + current


def test_a_derivative_along_a_state_computes_nothing_for_the_parameters():
    """One cosine, for the phase alone: tangents of zero for the other leaves would make one for each leaf."""
    neuron, ones = Wave(), jnp.ones((2, 3))
    found = str(jax.make_jaxpr(lambda x: linearize(neuron, StepPoint(x, x, neuron.integrate(x, x))))(ones))
    assert found.count(" cos ") == 1
    found = str(jax.make_jaxpr(lambda x: parameter_slopes(neuron, StepPoint(x, x, neuron.integrate(x, x))))(ones))
    assert found.count(" cos ") == 1


def test_options_that_cannot_be_hashed_are_named():
    convolution = nnx.Conv(1, 2, (3, 3), strides=[2, 2], rngs=nnx.Rngs(0))
    model = connect([convolution, LIF(), lambda x: x.reshape(x.shape[0], -1), LI()])
    with pytest.raises(TypeError, match=r"Got strides=\[2, 2\], expected hashable values"):
        gradients(model, cross_entropy, jnp.ones((3, 2, 4, 4, 1)), jnp.array([0, 1]))


@pytest.mark.parametrize("train", [gradients, train_offline, train_online])
@pytest.mark.parametrize("stacked", [False, True])
def test_a_flax_cell_needs_no_key(train, stacked):
    def made():
        cell = nnx.LSTMCell(7, 5, rngs=nnx.Rngs(0))
        model = connect([cell, linear(5, 4, 0, jnp.float32), LI()]) if stacked else cell
        optimizer = [] if train is gradients else [nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)]
        return model, *optimizer

    def result(**options):
        arguments = made()
        found = train(*arguments, cross_entropy, X, LABELS, window=3, **options)
        return jax.tree.leaves((found, nnx.state(arguments[0], nnx.Param)))

    zero = made()[0].initialize_carry((B, 7), nnx.Rngs(1))
    drawn = jax.tree.map(lambda c: jax.random.normal(jax.random.key(2), c.shape), zero)
    for mine, expected in zip(result(), result(carry=zero), strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert any((a != b).any() for a, b in zip(result(), result(carry=drawn), strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradients(net(), cross_entropy, X[:, 0], LABELS), r"\[7, 7\], expected \[T, B, features...\]"),
        (lambda: gradients(net(), cross_entropy, X[:0], LABELS), "a sequence of 0 steps"),
        (
            lambda: gradients(net(), cross_entropy, X[:, :0], LABELS[:0]),
            r"\[7, 0, 7\], a batch of 0 samples, expected at l",
        ),
        (lambda: gradients(net(), cross_entropy, X[:, :0], LABELS[:0], rule=OSTL()), "a batch of 0 samples"),
        (lambda: gradients(net(), cross_entropy, X[..., :6], LABELS), "Linear, expects 7 features"),
        (lambda: gradients(net(), cross_entropy, X, LABELS[:2]), r"targets of shape \[2\] for inputs of 7 steps and 3"),
        (lambda: gradients(net(), cross_entropy, X, LABELS, window=0), "window of 0 steps, expected at least 1"),
        (lambda: gradients(net(), lambda y, t: y.mean(), X, LABELS), r"loss_fn made \[\] of the outputs \[3, 4\]"),
        (lambda: gradients(net(), lambda y, t: y, X, LABELS), r"made \[3, 4\] .* expected one loss per sample, \[3\]"),
        (lambda: gradients(net(), lambda y, t: (y, t), X, LABELS), "made tuple of the outputs"),
    ],
)
def test_bad_input_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_own_spike_function_under_a_rule():
    model = connect([linear(7, 4, 0, jnp.float32), LIF(spike_fn=Surrogate(lambda x: jnp.exp(-jnp.abs(x))))])
    _, exact = gradients(model, cross_entropy, X, LABELS)
    _, online = gradients(model, cross_entropy, X, LABELS, rule=OSTL(), window=2)
    assert close(online, exact, 1e-5)
