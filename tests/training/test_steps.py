"""Training steps: when the optimizer steps and with what, masks, precision, and what optimizers may ask for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import LI, LIF, connect, unroll
from stacks import linear
from training.small import close as within
from training.small import numbers, optimizer_of, same

T, B = 9, 3
LABELS = jnp.array([0, 3, 2])
DRAWN = (np.random.default_rng(0).random((T, B, 7)) < 0.4).astype(float)
X = jnp.asarray(DRAWN, jnp.float32)
SGD = optax.sgd(0.1)
STEPS = pytest.mark.parametrize("step", [sr.train_offline, sr.train_online])


def counting(dtype=jnp.float32):
    """It sums counts, whose total is more than the type of a frame of events holds."""
    first = lambda frames: (frames + frames) / 100  # noqa: E731
    return connect([first, *net(dtype).modules])


def net(dtype=jnp.float32):
    options = {"param_dtype": dtype}
    return connect([linear(7, 6, 0, dtype), LIF(threshold=0.7, **options), linear(6, 4, 1, dtype), LI(**options)])


def double():
    return net(jnp.float64), jnp.asarray(DRAWN)


def close(ours, theirs, rtol):
    return within(*(list(map(np.asarray, jax.tree.leaves(one))) for one in (ours, theirs)), rtol, rtol)


def parameters(model):
    return jax.tree.leaves(nnx.state(model, nnx.Param))


def test_offline_training_is_the_optimizer_on_the_gradient():
    loss, gradient = sr.gradients(net(), sr.cross_entropy, X, LABELS, rule=sr.OSTL())
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(net(), nnx.Param), gradient)
    for step in (sr.train_offline, sr.train_online):
        model = net()
        optimizer = optimizer_of(model, transformation=SGD)
        found = step(model, optimizer, sr.cross_entropy, X, LABELS, rule=sr.OSTL(), window=T)
        assert found == pytest.approx(float(loss), rel=1e-6)
        assert close(nnx.state(model, nnx.Param), expected, 1e-6)


def test_windows_of_padding_change_nothing(x64):
    """Momenta too; a window of which some entries are valid is a step, and the loss is the mean over valid entries."""
    results = []
    for length in (T, 3):
        model, x = double()
        optimizer = optimizer_of(model)
        mask, labels = sr.valid_steps(jnp.array([2, 3, 1]), length), sr.PerSequence(LABELS)
        options = {"rule": sr.OSTL(), "window": 3, "mask": mask}
        loss = sr.train_online(model, optimizer, sr.cross_entropy, x[:length], labels, **options)
        results.append((loss, nnx.state((model, optimizer))))
        assert optimizer.step == 1
    assert close(*results, 1e-14)


@pytest.mark.parametrize(
    ("rule", "window", "steps"),
    [(sr.BPTT(), 4, 4), (sr.TBPTT(steps=2), 4, 2), (sr.TBPTT(steps=10), 4, 4), (sr.TBPTT(steps=4), 2, 2)],
)
def test_bptt_online_flows_through_the_steps_of_a_window(rule, window, steps, x64):
    """And that of TBPTT through its own steps within a window: at constant parameters it is the sum of their gradients."""
    adds_up = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda g, total, params: (jax.tree.map(jnp.zeros_like, g), jax.tree.map(jnp.add, total, g)),
    )
    model, x = double()
    optimizer = nnx.Optimizer(model, adds_up, wrt=nnx.Param)
    sr.train_online(model, optimizer, sr.cross_entropy, x[:8], LABELS, rule=rule, window=window)
    found = jax.tree.map(lambda total: total * window / 8, jax.tree.leaves(nnx.state(optimizer.opt_state)))
    exact, expected = (
        sr.gradients(model, sr.cross_entropy, x[:8], LABELS, rule=r)[1] for r in (sr.BPTT(), sr.TBPTT(steps=steps))
    )
    assert close(found, expected, 1e-12) and not close(found, exact, 1e-3)


def with_momentum(model):
    """An optimizer that has made a step, so that there is a momentum."""
    optimizer = optimizer_of(model)
    sr.train_offline(model, optimizer, sr.cross_entropy, X, LABELS)
    return optimizer


@STEPS
def test_mask_without_a_valid_entry_is_no_step_under_jit(step):
    model = net()
    optimizer = with_momentum(model)
    before = numbers(model, optimizer)
    jitted = nnx.jit(step, static_argnames=("loss_fn", "window"))
    assert jitted(model, optimizer, sr.cross_entropy, X, LABELS, window=3, mask=jnp.zeros((T, B), bool)) == 0
    assert same(numbers(model, optimizer), before)


# ---------------------------------------------------------------------------------------------------- gradients not finite


def infinite_slope(outputs, labels):
    """A loss of 0 whose derivative is not finite."""
    return jnp.sqrt(jnp.abs(outputs[:, 0] - jax.lax.stop_gradient(outputs[:, 0])))


def overflow(outputs, labels):
    return 1e38 * jnp.sum(jnp.square(jnp.square(outputs * 1e10)), axis=-1)


@pytest.mark.parametrize(
    "step, rule, loss_fn, x, labels",
    [
        (sr.train_offline, sr.OSTL(), sr.cross_entropy, X.at[T - 1, 0, 0].set(jnp.nan), LABELS),
        (sr.train_offline, sr.BPTT(), overflow, X, LABELS),
        (sr.train_online, sr.BPTT(), infinite_slope, X, LABELS),
        (sr.train_online, sr.OSTL(), sr.cross_entropy, X, jnp.array([0, 9, 1])),
    ],
    ids=["inputs", "overflow", "slope", "label"],
)
def test_a_gradient_that_is_not_finite_is_no_step(step, rule, loss_fn, x, labels):
    """Model and optimizer, its momenta and counters included, stay as they are, and the loss is NaN."""
    model = net()
    optimizer = with_momentum(model)
    before = numbers(model, optimizer)
    options = {"rule": rule, "window": T, "mask": jnp.ones((T, B), bool).at[0].set(False)}
    assert jnp.isnan(step(model, optimizer, loss_fn, x, labels, **options))
    assert same(numbers(model, optimizer), before)
    assert jnp.isfinite(step(model, optimizer, sr.cross_entropy, X, LABELS, **options))
    assert not same(numbers(model, optimizer), before)


def test_a_bad_target_costs_its_window_alone(x64):
    """Behind inputs that are not finite the state of the model is not, so that no window is a step."""
    one, two = double(), double()
    optimizers = [optimizer_of(model) for model, _ in (one, two)]
    options = {"rule": sr.OSTL(), "window": 3}
    x = one[1].at[4, 0, 0].set(jnp.nan)
    assert jnp.isnan(sr.train_online(one[0], optimizers[0], sr.cross_entropy, x, LABELS, **options))
    sr.train_online(two[0], optimizers[1], sr.cross_entropy, two[1][:3], sr.PerSequence(LABELS), **options)
    assert close(nnx.state((one[0], optimizers[0])), nnx.state((two[0], optimizers[1])), 1e-12)
    assert optimizers[0].step == 1
    targets = jnp.broadcast_to(jax.nn.one_hot(LABELS, 4, dtype=float), (T, B, 4))
    sr.train_online(one[0], optimizers[0], sr.squared_error, one[1], targets.at[1, 2].set(jnp.nan), **options)
    mask = jnp.ones((T, B), bool).at[:3].set(False)
    sr.train_online(two[0], optimizers[1], sr.squared_error, two[1], targets, mask=mask, **options)
    assert close(nnx.state(one[0]), nnx.state(two[0]), 1e-12)


# ------------------------------------------------------------------------------------------------ optimizers and parameters


def test_parameters_of_rules_are_trained_with_the_model(x64):
    """As under the rule by itself, also where two layers share a route."""
    moved = []
    for listed in (False, True):
        model, x = double()
        rule = sr.EProp(output_decay=0.9, route=sr.Adaptive(model, rngs=nnx.Rngs(5)))
        before = parameters(rule.route)
        given = sr.PerLayer([rule, sr.OSTL(route=rule.route)]) if listed else rule
        sr.train_offline(model, optimizer_of(model, given), sr.cross_entropy, x, LABELS, rule=given)
        moved.append([parameters(model), parameters(rule.route)])
    assert close(*moved, 1e-12)
    assert min(np.abs(new - old).max() for new, old in zip(moved[0][1], before, strict=True)) > 1e-6


def test_the_matrix_in_place_of_a_frozen_kernel_rests(x64):
    model, x = double()
    model.modules[2].kernel = nnx.Variable(model.modules[2].kernel[...])
    rule = sr.EProp(output_decay=0.9, route=sr.Adaptive(model, rngs=nnx.Rngs(5)))
    before = parameters(rule.route)
    sr.train_offline(model, optimizer_of(model, rule), sr.cross_entropy, x, LABELS, rule=rule)
    assert [same(*both) for both in zip(before, parameters(rule.route), strict=True)] == [False, True]


def test_an_optimizer_may_lower_the_rate_at_a_plateau():
    """Without steps the loss is a plateau: the rate is halved at each update but the first, whose loss is the best so far."""
    model = net()
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=1)
    optimizer = nnx.Optimizer(model, optax.chain(optax.sgd(0.0), plateau), wrt=nnx.Param)
    with jax.numpy_dtype_promotion("standard"):  # Optax needs it
        losses = sr.fit(model, optimizer, sr.cross_entropy, [(X, LABELS)] * 4, rule=sr.OSTL()).losses
    state = optimizer.opt_state[1]
    assert state.scale[...] == 0.5**3 and state.best_value[...] == losses[0]


# --------------------------------------------------------------------------------------------------------- half precision


def low_precision_net(dtype, param_dtype):
    """Weights in `param_dtype`, all products and states in `dtype`."""
    first, second = linear(7, 6, 0, param_dtype), linear(6, 4, 1, param_dtype)
    first.dtype = second.dtype = dtype  # as nnx.Linear(..., dtype=dtype, param_dtype=param_dtype) sets it
    return connect([first, LIF(param_dtype=dtype), second, LI(param_dtype=dtype)])


def test_float32_parameters_have_float32_gradients():
    """And take steps that are too small for bfloat16: 1e-4 of each number."""
    model, x = low_precision_net(jnp.bfloat16, jnp.float32), X.astype(jnp.bfloat16)
    copy = nnx.clone(model)
    optimizer = nnx.Optimizer(model, optax.scale(-1e-4), wrt=nnx.Param)
    sr.train_offline(model, optimizer, sr.cross_entropy, x, LABELS, rule=sr.OSTL(), window=3)
    gradient = jax.tree.leaves(sr.gradients(copy, sr.cross_entropy, x, LABELS, rule=sr.OSTL(), window=3)[1])
    assert {leaf.dtype for leaf in gradient} == {jnp.dtype(jnp.float32)}
    for new, old, g in zip(parameters(model), parameters(copy), gradient, strict=True):
        assert np.abs(1e4 * (old - new) - g).max() < 2e-2 * np.abs(g).max()


def test_gradients_of_many_windows_are_added_up_in_float32():
    """4096 shares of 1/4096 make 1. Sums in bfloat16 stop growing at 1/16, in float16 at 1/2."""
    for dtype in (jnp.bfloat16, jnp.float16):
        model = connect([nnx.Linear(1, 1, rngs=nnx.Rngs(0), param_dtype=dtype), LI(decay=1e-3, param_dtype=dtype)])
        x = jnp.ones((4096, 1, 1), dtype)
        loss, gradient = sr.gradients(model, lambda y, _: y[..., 0], x, jnp.zeros(1), rule=sr.TBPTT(steps=1))
        assert loss.dtype == jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(dtype)}
        assert [float(leaf.squeeze()) for leaf in jax.tree.leaves(gradient)] == pytest.approx([1, 1], rel=1e-2)


@nnx.jit
def tried(model, x):
    trial = sr.start_trial(model, x.shape[1:], rule=sr.OSTL())
    trial, outputs, _ = sr.extend_trial(model, trial, sr.cross_entropy, x, lambda y: y.argmax(-1), rule=sr.OSTL())
    return outputs, trial.trace


@pytest.mark.parametrize("step", [sr.train_online, None])
def test_frames_of_events_become_numbers_before_the_first_module(step):
    frames = jnp.asarray(np.random.default_rng(0).integers(0, 250, (T, B, 7)), jnp.uint8)
    found = []
    for x in (frames, frames.astype(jnp.float32)):
        model = counting()
        if step is None:
            found.append(tried(model, x))
        else:
            loss, gradient = sr.gradients(model, sr.cross_entropy, x, LABELS, rule=sr.OSTL())
            trained = step(model, nnx.Optimizer(model, SGD, wrt=nnx.Param), sr.cross_entropy, x, LABELS)
            found.append((loss, gradient, trained, parameters(model)))
    assert same(*map(jax.tree.leaves, found))
    assert np.ptp(np.asarray(jax.tree.leaves(found[0])[-1])) > 0


def test_a_loss_that_is_not_a_number_has_no_gradient_that_is_one():
    """Of a label that is not there; where the mask leaves it out, it may be any number. Also with signals of another route."""
    labels, rngs = LABELS.at[1].set(9), nnx.Rngs(0)
    routes = [sr.RULES[name].make(rngs=rngs) for name in ("decolle", "drtp")]
    loss, gradient = sr.gradients(net(), sr.cross_entropy, X[:, 1:2], labels[1:2])  # of no label that is there
    assert np.isnan(loss) and all(np.isnan(leaf).all() for leaf in jax.tree.leaves(gradient))
    for rule in (sr.RTRL(), *routes):
        loss, gradient = sr.gradients(net(), sr.cross_entropy, X, labels, rule=rule)
        assert np.isnan(loss) and all(np.isnan(leaf).all() for leaf in jax.tree.leaves(gradient))
        mask = jnp.ones((T, B), bool).at[:, 1].set(False)
        loss, gradient = sr.gradients(net(), sr.cross_entropy, X, labels, mask, rule=rule)
        assert np.isfinite(loss) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("call", ["unroll", "step", "gradients"])
def test_numbers_that_a_model_may_index_with_stay_as_they_are(call, no_shape_checks):
    """Tokens for a function or a module of one's own, also in a dtype that rounds them; not those for a layer of weights."""
    dtype, tokens = jnp.bfloat16, jnp.full((2, B, 1), 515)
    table = nnx.Linear(1000, 4, param_dtype=dtype, dtype=dtype, use_bias=False, rngs=nnx.Rngs(0))
    one_hot = lambda z: jax.nn.one_hot(z[..., 0], 1000, dtype=dtype)  # noqa: E731
    model = connect([one_hot, table, LI(decay=0.0001, param_dtype=dtype)])
    carry = ((), (), jnp.zeros((B, 4), dtype))
    if call == "gradients":
        found = sr.gradients(model, sr.cross_entropy, tokens, LABELS % 4, carry=carry)[1]["modules"][1]["kernel"][...]
        assert np.flatnonzero(np.abs(np.asarray(found, np.float32)).sum(1)).tolist() == [515]
        return
    outputs = unroll(model, carry, tokens)[1][0] if call == "unroll" else model(carry, tokens[0])[1]
    np.testing.assert_allclose(outputs[0], table.kernel[515], rtol=0.02)
    frames, whole = jnp.ones((T, B, 7), bool), connect([LIF(), *net().modules])
    start = whole.initialize_carry((B, 7))
    np.testing.assert_array_equal(whole(start, frames[0])[1], unroll(whole, start, frames)[1][0])
