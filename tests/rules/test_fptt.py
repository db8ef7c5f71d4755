"""FPTT against loops in NumPy, each variant as its source writes it; its identities; and through the training steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from rules import by_window
from slax_neurons import LI, connect
from slax_rules import BPTT, OSTL, RULES, cross_entropy, fptt, fptt_average, train_offline, train_online
from slax_rules.forward_propagation import VARIANTS, FPTTState
from stacks import deviation, inputs, linear, pair

T, B = 6, 3
LABELS = jnp.array([0, 3, 2])
START = {"a": np.array([0.5, -1.0, 0.2]), "b": np.array([[1.0, 0.3], [-0.4, 2.0]])}


@pytest.fixture(autouse=True)
def double(x64):
    """All in float64, and with the promotion that Optax counts its steps with."""
    with jax.numpy_dtype_promotion("standard"):
        yield


class Loop:
    """The rule as its sources write it, on one vector. `gradient` maps parameters to the gradient of this step's loss."""

    def __init__(self, variant, w, alpha=0.5, beta=0.5):
        self.variant, self.alpha, self.beta = variant, alpha, beta
        self.restart(w)

    def restart(self, w):
        self.multiplier, self.average = np.zeros_like(w), w

    def step(self, gradient, w, move):
        alpha, multiplier, average = self.alpha, self.multiplier, self.average
        if self.variant == "official":
            # The gradient of l_t - <lambda, W> + alpha/2 |W - Wbar|^2.
            new = w + move(gradient(w) - multiplier + alpha * (w - average))
            self.multiplier = multiplier - alpha * (new - average)
            self.average = (1 - self.beta) * average + self.beta * new - self.beta / alpha * self.multiplier
            return new
        # The gradient of l_t + alpha/2 |W - Wbar - lambda / (2 alpha)|^2.
        new = w + move(gradient(w) + alpha * (w - average - multiplier / (2 * alpha)))
        of = {"slax001": new, "head": w}.get(self.variant)
        self.multiplier = gradient(new) if of is None else multiplier - alpha * (of - average)
        self.average = (average + (new if of is None else of)) / 2 - self.multiplier / (2 * alpha)
        return new


def sgd(rate=0.1):
    return lambda g: -rate * g


class Adam:
    def __init__(self, rate):
        self.rate, self.mean, self.square, self.count = rate, 0, 0, 0

    def __call__(self, g):
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * g
        self.square = 0.999 * self.square + 0.001 * g**2
        mean, square = self.mean / (1 - 0.9**self.count), self.square / (1 - 0.999**self.count)
        return -self.rate * mean / (np.sqrt(square) + 1e-8)


def gradient_of_step(t):
    """A loss of its own for each step, not quadratic."""
    return lambda w: np.sin(w + t) + 0.3 * (w - np.cos(t * np.arange(w.size)))


def ours(transformation, n_steps):
    """The parameters after each step, as one vector, and the last state."""
    _, unravel = ravel_pytree(START)

    def at(t):
        return lambda params: unravel(jnp.asarray(gradient_of_step(t)(np.asarray(ravel_pytree(params)[0]))))

    params = jax.tree.map(jnp.asarray, START)
    states = transformation.init(params)
    path = []
    for t in range(n_steps):
        updates, states = transformation.update(at(t)(params), states, params, gradient_at=at(t))
        params = optax.apply_updates(params, updates)
        path.append(np.asarray(ravel_pytree(params)[0]))
    return path, states


def theirs(loop, move, n_steps, restart_every=None):
    w, path = np.asarray(ravel_pytree(START)[0]), []
    for t in range(n_steps):
        if restart_every and t % restart_every == 0:
            loop.restart(w)
        w = loop.step(gradient_of_step(t), w, move)
        path.append(w)
    return path


def loop(variant, **options):
    return Loop(variant, np.asarray(ravel_pytree(START)[0]), **options)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("inner", "move"), [(optax.sgd(0.1), sgd), (optax.adam(0.05), lambda: Adam(0.05))])
def test_equals_the_loop_of_its_source(variant, inner, move):
    reference = loop(variant, alpha=0.8)
    path, state = ours(fptt(inner, alpha=0.8, variant=variant), 7)
    np.testing.assert_allclose(path, theirs(reference, move(), 7), rtol=1e-12)
    np.testing.assert_allclose(ravel_pytree(state.multiplier)[0], reference.multiplier, rtol=1e-9)
    np.testing.assert_allclose(ravel_pytree(state.average)[0], reference.average, rtol=1e-9)


def test_weight_of_the_average_is_beta():
    path, _ = ours(fptt(optax.sgd(0.1), beta=0.3), 7)
    np.testing.assert_allclose(path, theirs(loop("official", beta=0.3), sgd(), 7), rtol=1e-12)
    assert deviation(path[-1], theirs(loop("official"), sgd(), 7)[-1]) > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_first_step_is_that_of_the_optimizer_alone(variant):
    (first, *_), _ = ours(fptt(optax.sgd(0.1), variant=variant), 1)
    start = np.asarray(ravel_pytree(START)[0])
    np.testing.assert_allclose(first, start - 0.1 * gradient_of_step(0)(start), rtol=1e-15)


@pytest.mark.parametrize("move", [sgd, lambda: Adam(0.05)])
def test_updates_with_the_parameters_of_before_the_step_are_the_official_ones(move):
    """What the later slax does has other multipliers and averages, one step late, and the same parameters."""
    inner = optax.sgd(0.1) if move is sgd else optax.adam(0.05)
    head = theirs(loop("head"), move(), 9)
    np.testing.assert_allclose(ours(fptt(inner), 9)[0], head, rtol=1e-12)
    assert deviation(ours(fptt(inner, variant="slax001"), 9)[0][-1], head[-1]) > 1e-3


def test_multiplier_is_the_gradient_at_the_new_parameters_if_the_optimizer_minimizes_exactly():
    """Of l_t(W) = (W - c_t) A (W - c_t) / 2; the halved multiplier of slax 0.0.1 misses it."""
    alpha, rng = 0.5, np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    A, targets = root @ root.T + np.eye(4), rng.normal(size=(6, 4))

    def newton(g, state, params=None):
        return -jnp.linalg.solve(A + alpha * np.eye(4), g), state

    exact = optax.GradientTransformation(lambda params: optax.EmptyState(), newton)
    gaps = {}
    for variant in ("official", "slax001"):
        transformation, w, gap = fptt(exact, alpha=alpha, variant=variant), jnp.zeros(4), []
        state = transformation.init(w)
        for c in targets:
            updates, state = transformation.update(A @ (w - c), state, w)
            w = w + updates
            gap.append(deviation(state.multiplier, A @ (w - c)))
        gaps[variant] = gap
    assert max(gaps["official"]) < 1e-12
    assert gaps["slax001"][0] < 1e-12 and min(gaps["slax001"][1:]) > 0.1


@pytest.mark.parametrize("variant", VARIANTS)
def test_reset_starts_the_rule_anew_after_each_sequence(variant):
    path, state = ours(fptt(optax.sgd(0.1), variant=variant, reset_every=3), 8)
    reference = loop(variant)
    np.testing.assert_allclose(path, theirs(reference, sgd(), 8, restart_every=3), rtol=1e-12)
    np.testing.assert_allclose(ravel_pytree(state.average)[0], reference.average, rtol=1e-9)
    assert deviation(path[3], ours(fptt(optax.sgd(0.1), variant=variant), 8)[0][3]) > 1e-3


def net():
    return pair([7, 6, 4], [{"kind": "lif", "threshold": 0.7}, {"kind": "li"}]).model


def vector(model):
    return ravel_pytree(nnx.as_pure(nnx.state(model, nnx.Param)))[0]


@pytest.mark.parametrize(
    ("rule", "window", "variant"),
    [
        (BPTT(), T, "official"),
        (BPTT(), 1, "official"),
        (BPTT(), 3, "paper"),
        (OSTL(), 3, "official"),
        (OSTL(), 3, "paper"),
    ],
)
def test_composes_with_any_rule_and_window(rule, window, variant):
    """Two sequences, against the loop on the gradients of the windows; weights and neuron parameters in one vector."""
    model = net()
    optimizer = nnx.Optimizer(model, fptt(optax.sgd(0.1), variant=variant), wrt=nnx.Param)
    copy = net()
    w, unravel = ravel_pytree(nnx.as_pure(nnx.state(copy, nnx.Param)))

    def window_of(w, state, x):
        nnx.update(copy, unravel(w))
        _, gradient, state = by_window.window(copy, rule, cross_entropy, state, x, LABELS)
        return np.asarray(ravel_pytree(nnx.as_pure(gradient))[0]), state

    w, before = np.asarray(w), np.asarray(w)
    reference = Loop(variant, w)
    for seed in (0, 1):
        x = inputs(T, B, 7, seed=seed)
        train_online(model, optimizer, cross_entropy, x, LABELS, rule=rule, window=window)
        state = by_window.start(copy, rule, x)
        for start in range(0, T, window):
            piece = x[start : start + window]
            after = window_of(w, state, piece)[1]
            w = reference.step(lambda w, state=state, piece=piece: window_of(w, state, piece)[0], w, sgd())
            state = after
    assert deviation(vector(model), w) < 1e-12
    average = fptt_average(optimizer.opt_state, nnx.state(model, nnx.Param))
    assert deviation(ravel_pytree(average)[0], reference.average) < 1e-12
    decay = model.modules[1].decay.unconstrained[...]
    assert not jnp.isclose(decay, net().modules[1].decay.unconstrained[...], rtol=1e-6)
    assert deviation(before, w) > 1e-3


def test_offline_training_hands_over_the_gradient_at_the_new_parameters():
    """After one step the multiplier of "paper" is the gradient at the parameters that the step led to."""
    model, x = net(), inputs(T, B, 7)
    optimizer = nnx.Optimizer(model, fptt(optax.sgd(0.1), variant="paper"), wrt=nnx.Param)
    train_offline(model, optimizer, cross_entropy, x, LABELS)
    copy = nnx.clone(model)
    train_offline(copy, nnx.Optimizer(copy, optax.sgd(1.0), wrt=nnx.Param), cross_entropy, x, LABELS)
    multiplier = ravel_pytree(nnx.as_pure(optimizer.opt_state.multiplier))[0]
    assert deviation(multiplier, vector(model) - vector(copy)) < 1e-12


def test_parameters_become_their_average_also_inside_a_chain():
    model, x = net(), inputs(T, B, 7)
    chained = optax.chain(optax.clip_by_global_norm(1.0), fptt(optax.adamax(0.05)))
    optimizer = nnx.Optimizer(model, chained, wrt=nnx.Param)
    train_online(model, optimizer, cross_entropy, x, LABELS, window=1)
    before = vector(model)
    nnx.update(model, fptt_average(optimizer.opt_state, nnx.state(model, nnx.Param)))
    assert deviation(vector(model), ravel_pytree(nnx.as_pure(optimizer.opt_state[1].average))[0]) == 0
    assert deviation(vector(model), before) > 1e-3
    train_online(model, optimizer, cross_entropy, x, LABELS, window=1)  # and training goes on
    with pytest.raises(ValueError, match="an optimizer state with 0 states of fptt in it"):
        fptt_average(optax.sgd(0.1).init(START), START)


def test_state_of_half_precision_parameters_is_in_float32_and_they_stay_what_they_are():
    model = connect([linear(7, 4, 0, jnp.bfloat16), LI(param_dtype=jnp.bfloat16)])
    optimizer = nnx.Optimizer(model, fptt(optax.sgd(0.1)), wrt=nnx.Param)
    train_online(model, optimizer, cross_entropy, inputs(T, B, 7, dtype=jnp.bfloat16), LABELS, window=3)
    assert isinstance(optimizer.opt_state, FPTTState)
    kept = jax.tree.leaves((optimizer.opt_state.multiplier, optimizer.opt_state.average))
    assert {leaf.dtype for leaf in kept} == {jnp.dtype(jnp.float32)}
    average = fptt_average(optimizer.opt_state, nnx.state(model, nnx.Param))
    for tree in (average, nnx.state(model, nnx.Param)):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype(jnp.bfloat16)}


def test_the_registry_has_the_optimizer():
    """`RULES["fptt"]` is BPTT within windows, and an optimizer around another one."""
    entry, moved = RULES["fptt"], []
    assert entry.updates == ("online",)
    for wrap in (entry.optimizer, fptt):
        model = net()
        optimizer = nnx.Optimizer(model, wrap(optax.sgd(0.1)), wrt=nnx.Param)
        train_online(model, optimizer, cross_entropy, inputs(T, B, 7), LABELS, rule=entry.make(), window=2)
        moved.append(vector(model))
    assert deviation(*moved) == 0
    assert deviation(moved[0], vector(net())) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "fptt got alpha=0.0, .*expected alpha > 0"),
        ({"beta": 0.0}, "fptt got .*beta=0.0"),
        ({"reset_every": 0}, "fptt got .*reset_every=0"),
    ],
)
def test_option_out_of_range_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        fptt(optax.sgd(0.1), **options)


def test_update_without_what_it_needs_is_an_error():
    transformation = fptt(optax.sgd(0.1), variant="paper")
    params = jnp.ones(3)
    state = transformation.init(params)
    with pytest.raises(ValueError, match="fptt got no parameters"):
        transformation.update(params, state)
    with pytest.raises(ValueError, match='fptt got no gradient_at for variant="paper"'):
        transformation.update(params, state, params)
