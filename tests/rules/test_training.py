"""Training steps: when the optimizer steps and with what, masks, precision, and what optimizers may ask for."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from covering import combinations
from rules import by_window
from slax_neurons import LI, LIF, connect
from slax_rules import (
    BPTT,
    OSTL,
    TBPTT,
    Adaptive,
    EProp,
    PerSequence,
    cross_entropy,
    firing_rate,
    fptt,
    gradients,
    squared_error,
    train_offline,
    train_online,
    valid_steps,
)
from stacks import deviation, inputs, linear, pair

T, B = 9, 3
LABELS = jnp.array([0, 3, 2])
LENGTHS = jnp.array([2, 3, 1])  # all within the first of three windows
X = inputs(T, B, 7, dtype=jnp.float32)


def net(dtype=jnp.float32):
    return pair([7, 6, 4], [{"kind": "lif", "threshold": 0.7}, {"kind": "li"}], dtype=dtype).model


def parameters(model):
    return jax.tree.leaves(nnx.state(model, nnx.Param))


def close(ours, theirs, tolerance):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(deviation(a, b) < tolerance for a, b in pairs)


def test_offline_training_is_the_optimizer_on_the_gradient():
    model, copy = net(), net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    loss = train_offline(model, optimizer, cross_entropy, X, LABELS, rule=OSTL())
    expected, gradient = gradients(copy, cross_entropy, X, LABELS, rule=OSTL())
    assert loss == pytest.approx(float(expected), rel=1e-6)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(copy, nnx.Param), gradient)
    assert close(nnx.state(model, nnx.Param), moved, 1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_online_training_is_one_step_per_window_with_carry_and_traces_kept(masked, x64):
    """With a mask the second of three windows has no valid entry and is no step, not even by momentum."""
    model, copy = net(jnp.float64), net(jnp.float64)
    x = inputs(T, B, 7)
    mask = jnp.ones((T, B), bool).at[3:6].set(False).at[7:, 1].set(False) if masked else None
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    loss = train_online(model, optimizer, cross_entropy, x, LABELS, rule=OSTL(), window=3, mask=mask)

    losses, traces = [], by_window.start(copy, OSTL(), x)
    by_hand = optax.sgd(0.1, momentum=0.9)
    params = nnx.state(copy, nnx.Param)
    state = by_hand.init(params)
    for start in range(0, T, 3):
        valid = jnp.ones((3, B), bool) if mask is None else mask[start : start + 3]
        nnx.update(copy, params)
        window_loss, gradient, traces = by_window.window(
            copy, OSTL(), cross_entropy, traces, x[start : start + 3], PerSequence(LABELS), valid
        )
        losses.append(float(window_loss) * int(valid.sum()))
        if valid.any():
            updates, state = by_hand.update(gradient, state)
            params = optax.apply_updates(params, updates)
    assert close(nnx.state(model, nnx.Param), params, 1e-12)
    assert loss == pytest.approx(sum(losses) / (27 if mask is None else int(mask.sum())), rel=1e-12)
    assert optimizer.step == (2 if masked else 3)


@pytest.mark.parametrize(
    ("rule", "window", "steps"),
    [(BPTT(), 4, 4), (TBPTT(steps=2), 4, 2), (TBPTT(steps=10), 4, 4), (TBPTT(steps=4), 2, 2)],
)
def test_the_gradient_of_bptt_flows_online_through_the_steps_of_a_window(rule, window, steps, x64):
    """And that of TBPTT through its own steps within a window: at constant parameters it is the sum of their gradients."""
    adds_up = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda gradient, total, params: (
            jax.tree.map(jnp.zeros_like, gradient),
            jax.tree.map(jnp.add, total, gradient),
        ),
    )
    model, x = net(jnp.float64), inputs(8, B, 7)
    optimizer = nnx.Optimizer(model, adds_up, wrt=nnx.Param)
    train_online(model, optimizer, cross_entropy, x, LABELS, rule=rule, window=window)
    found = jax.tree.map(lambda total: total * window / 8, jax.tree.leaves(nnx.state(optimizer.opt_state)))
    exact, expected = (gradients(model, cross_entropy, x, LABELS, rule=r)[1] for r in (BPTT(), TBPTT(steps=steps)))
    assert close(found, expected, 1e-12)
    assert not close(found, exact, 0.01)


def test_tbptt_online_in_pieces_refuses_what_changes_itself():
    model = connect([*net().modules, nnx.BatchNorm(4, rngs=nnx.Rngs(0))])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    with pytest.raises(
        ValueError, match=r"an online window of 9 steps in pieces of 2 .* Use window=2, or .*model\.eval"
    ):
        train_online(model, optimizer, cross_entropy, X, LABELS, rule=TBPTT(steps=2), window=T)
    train_online(model, optimizer, cross_entropy, X, LABELS, rule=TBPTT(steps=2), window=2)
    model.eval()
    train_online(model, optimizer, cross_entropy, X, LABELS, rule=TBPTT(steps=2), window=T)


def test_online_training_with_one_window_is_offline_training():
    models = net(), net()
    optimizers = [nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param) for model in models]
    train_online(models[0], optimizers[0], cross_entropy, X, LABELS, window=T)
    train_offline(models[1], optimizers[1], cross_entropy, X, LABELS)
    assert close(nnx.state(models[0], nnx.Param), nnx.state(models[1], nnx.Param), 1e-6)


def test_windows_of_padding_leave_parameters_and_optimizer_as_they_are(x64):
    results = []
    for x in (inputs(T, B, 7), inputs(T, B, 7)[:3]):
        model = net(jnp.float64)
        optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
        mask, labels = valid_steps(LENGTHS, len(x)), PerSequence(LABELS)
        loss = train_online(model, optimizer, cross_entropy, x, labels, rule=OSTL(), window=3, mask=mask)
        results.append((loss, nnx.state((model, optimizer))))
    assert close(*results, 1e-14)


def leaves_of(*objects):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(objects))]


def with_momentum(model):
    """An optimizer that has made a step, so that there is a momentum."""
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    train_offline(model, optimizer, cross_entropy, X, LABELS)
    return optimizer


@pytest.mark.parametrize("step", [train_offline, train_online])
def test_mask_without_a_valid_entry_is_no_step_under_jit_and_an_error_outside(step):
    model, mask = net(), jnp.zeros((T, B), bool)
    optimizer = with_momentum(model)
    before = leaves_of(model, optimizer)
    jitted = nnx.jit(step, static_argnames=("loss_fn", "window"))
    assert jitted(model, optimizer, cross_entropy, X, LABELS, window=3, mask=mask) == 0
    for new, old in zip(leaves_of(model, optimizer), before, strict=True):
        np.testing.assert_array_equal(new, old)
    with pytest.raises(ValueError, match="without a single true entry"):
        step(model, optimizer, cross_entropy, X, LABELS, mask=mask)


# ---------------------------------------------------------------------------------------------------- gradients not finite


def infinite_slope(outputs, labels):
    """A loss of 0 whose derivative is not finite."""
    return jnp.sqrt(jnp.abs(outputs[:, 0] - jax.lax.stop_gradient(outputs[:, 0])))


WHERE = {
    "in the inputs": (cross_entropy, X.at[T - 1, 0, 0].set(jnp.nan)),
    "in the slope": (infinite_slope, X),
    "an overflow": (lambda y, t: 1e38 * jnp.sum(jnp.square(jnp.square(y * 1e10)), axis=-1), X),
}


@pytest.mark.parametrize(
    "step, rule, where, masked",
    combinations([train_offline, train_online], [BPTT(), OSTL()], WHERE, [False, True]),
    ids=lambda part: getattr(part, "__name__", repr(part)),
)
def test_a_gradient_that_is_not_finite_is_no_step(step, rule, where, masked):
    """Model and optimizer, its momenta and counters included, stay as they are, and the loss is NaN."""
    loss_fn, x = WHERE[where]
    model = net()
    optimizer = with_momentum(model)
    before = leaves_of(model, optimizer)
    mask = jnp.ones((T, B), bool).at[0].set(False) if masked else None
    window = T if step is train_online else 4
    assert jnp.isnan(step(model, optimizer, loss_fn, x, LABELS, rule=rule, window=window, mask=mask))
    for new, old in zip(leaves_of(model, optimizer), before, strict=True):
        np.testing.assert_array_equal(new, old)
    assert jnp.isfinite(step(model, optimizer, cross_entropy, X, LABELS, rule=rule, window=window, mask=mask))
    assert any((new != old).any() for new, old in zip(leaves_of(model, optimizer), before, strict=True))


def test_windows_before_one_that_is_not_finite_are_steps_and_those_after_it_are_none(x64):
    """The state of the model is not finite from there on."""
    model, copy, x = net(jnp.float64), net(jnp.float64), inputs(T, B, 7)
    optimizers = [nnx.Optimizer(one, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param) for one in (model, copy)]
    broken = x.at[4, 0, 0].set(jnp.nan)
    assert jnp.isnan(train_online(model, optimizers[0], cross_entropy, broken, LABELS, rule=OSTL(), window=3))
    train_online(copy, optimizers[1], cross_entropy, x[:3], PerSequence(LABELS), rule=OSTL(), window=3)
    assert close(nnx.state((model, optimizers[0])), nnx.state((copy, optimizers[1])), 1e-12)
    assert optimizers[0].step == 1


def test_statistics_of_a_batch_norm_survive_what_is_not_finite():
    model = connect([*net().modules, nnx.BatchNorm(4, rngs=nnx.Rngs(0))])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    before = leaves_of(model)
    assert jnp.isnan(train_offline(model, optimizer, cross_entropy, X.at[0].set(jnp.nan), LABELS))
    for new, old in zip(leaves_of(model), before, strict=True):
        np.testing.assert_array_equal(new, old)
    train_offline(model, optimizer, cross_entropy, X, LABELS)
    assert (model.modules[-1].mean[...] != 0).any()


# ------------------------------------------------------------------------------------------------ optimizers and parameters


@pytest.mark.parametrize("step", [train_offline, train_online])
def test_an_optimizer_of_another_model_is_an_error(step):
    model, x = net(), X
    other = pair([7, 5, 4], [{"kind": "lif"}, {"kind": "li"}], dtype=jnp.float32).model
    for made_with in (other, connect(model.modules[:2]), model.modules[0]):
        optimizer = nnx.Optimizer(made_with, optax.adam(0.1), wrt=nnx.Param)
        with pytest.raises(ValueError, match=r"does not fit the parameters .* nnx.Optimizer\(model, \.\.\.\)"):
            step(model, optimizer, cross_entropy, x, LABELS)


@pytest.mark.parametrize("step", [train_offline, train_online])
def test_what_is_no_optimizer_of_flax_is_an_error(step):
    message = (
        r"got GradientTransformationExtraArgs as the optimizer, expected nnx.Optimizer\(.*Wrap the Optax transformation"
    )
    with pytest.raises(TypeError, match=f"{step.__name__} {message}"):
        inspect.unwrap(step)(
            net(), optax.adam(0.1), cross_entropy, X, LABELS
        )  # without the tests' check of annotations
    with pytest.raises(TypeError, match=f"{step.__name__} got Connect as the optimizer"):
        inspect.unwrap(step)(net(), net(), cross_entropy, X, LABELS)


def adaptive(model):
    return EProp(output_decay=0.9, route=Adaptive(model, rngs=nnx.Rngs(5)))


@pytest.mark.parametrize("step", [train_offline, train_online])
def test_a_rule_with_parameters_needs_an_optimizer_of_both(step):
    model = net()
    rule = adaptive(model)
    with jax.numpy_dtype_promotion("standard"):  # for Optax, whose step counter is an integer
        optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
        with pytest.raises(ValueError, match=r"since EProp has parameters of its own: nnx.Optimizer\(\(model, rule\)"):
            step(model, optimizer, cross_entropy, X, LABELS, rule=rule)
        optimizer = nnx.Optimizer((model, rule), optax.adam(0.1), wrt=nnx.Param)
        step(model, optimizer, cross_entropy, X, LABELS, rule=rule)
        with pytest.raises(ValueError, match="does not fit the parameters"):
            step(model, optimizer, cross_entropy, X, LABELS, rule=OSTL())


def test_parameters_of_rules_in_a_list_are_trained_with_the_model(x64):
    """As under the rule by itself, also where two layers share a route."""
    moved = []
    for listed in (False, True):
        model = net(jnp.float64)
        rule = adaptive(model)
        given = [rule, OSTL(route=rule.route)] if listed else rule
        optimizer = nnx.Optimizer((model, given), optax.sgd(1.0, momentum=0.9), wrt=nnx.Param)
        for _ in range(2):
            train_offline(model, optimizer, cross_entropy, inputs(T, B, 7), LABELS, rule=given)
        moved.append([parameters(model), jax.tree.leaves(nnx.state(rule.route, nnx.Param))])
    assert close(*moved, 1e-12)
    fresh = jax.tree.leaves(nnx.state(adaptive(net(jnp.float64)).route, nnx.Param))
    assert min(deviation(new, old) for new, old in zip(moved[0][1], fresh, strict=True)) > 1e-6


@pytest.mark.parametrize("step", [train_offline, train_online])
def test_an_optimizer_that_asks_for_the_gradient_elsewhere_gets_it_for_model_and_rule(step, x64):
    """The "paper" variant of FPTT keeps the gradient at the parameters that the step leads to."""
    model, x = net(jnp.float64), inputs(T, B, 7)
    rule = adaptive(model)
    optimizer = nnx.Optimizer((model, rule), fptt(optax.sgd(1.0), variant="paper"), wrt=nnx.Param)
    step(model, optimizer, cross_entropy, x, LABELS, rule=rule, window=T)
    kernel, matrix = (nnx.as_pure(optimizer.opt_state.multiplier)[index] for index in (0, 1))
    expected = gradients(model, cross_entropy, x, LABELS, rule=rule, window=T)[1]
    assert close(kernel, nnx.as_pure(expected), 1e-12)
    kernels = [expected["modules"][index]["kernel"][...] for index in (0, 2)]
    assert close(matrix, kernels, 1e-12)


# ---------------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("step", [train_offline, train_online])
def test_training_lowers_the_loss_under_jit_with_weight_decay(step):
    """Weight decay needs the parameters, which slax 0.0.1 did not hand to the optimizer."""
    model = net()
    transformation = optax.sgd(0.05) if step is train_online else optax.adamw(0.01)
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)
    with jax.numpy_dtype_promotion("standard"):  # for optax, whose step counter is an integer
        losses = [float(step(model, optimizer, cross_entropy, X, LABELS, rule=OSTL(), window=3)) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("step", [train_offline, train_online])
def test_training_is_traced_once(step):
    traces = []

    def counted_loss(outputs, labels):
        traces.append(1)
        return cross_entropy(outputs, labels)

    model = net()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    step(model, optimizer, counted_loss, X, LABELS)
    first = len(traces)
    for _ in range(3):
        step(model, optimizer, counted_loss, X, LABELS)
    assert len(traces) == first


@pytest.mark.parametrize("step", [train_offline, train_online])
def test_clipping_bounds_each_step_and_keeps_its_direction(step):
    model, copy = net(), net()
    clipped = optax.chain(optax.clip_by_global_norm(1e-2), optax.sgd(1.0))
    optimizer = nnx.Optimizer(model, clipped, wrt=nnx.Param)
    step(model, optimizer, cross_entropy, X, LABELS, window=T)
    gradient = jax.tree.leaves(gradients(copy, cross_entropy, X, LABELS)[1])
    assert optax.tree.norm(gradient) > 1
    moved = [old - new for new, old in zip(parameters(model), parameters(copy), strict=True)]
    assert optax.tree.norm(moved) == pytest.approx(1e-2, rel=1e-3)
    assert close(moved, optax.tree.scale(1e-2 / optax.tree.norm(gradient), gradient), 1e-3)


def sgd_by_gradient_at():
    """Takes no notice of the gradient that it is given, but asks for it."""

    def update(gradient, state, params, *, gradient_at, **extra):
        return optax.tree.scale(-0.1, gradient_at(params)), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


@pytest.mark.parametrize("mask", [None, valid_steps(LENGTHS, T)], ids=["all", "masked"])
@pytest.mark.parametrize("penalties", [(), (firing_rate(0.05, weight=1.0),)], ids=["no_penalty", "penalty"])
@pytest.mark.parametrize("step", [train_offline, train_online])
def test_optimizer_that_asks_gets_the_gradient_of_the_same_window(step, penalties, mask, x64):
    """With the same random draws: what the model changed of itself in the meantime is not seen."""
    moved = []
    for optimizer in (optax.sgd(0.1), sgd_by_gradient_at()):
        model = net(jnp.float64)
        model.modules.append(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
        batch = (inputs(T, B, 7), LABELS)
        made = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
        step(model, made, cross_entropy, *batch, mask=mask, penalties=penalties)
        moved.append(parameters(model))
    assert close(*moved, 1e-12)


def low_precision_net(dtype, param_dtype=None):
    """Weights in `param_dtype`, all products and states in `dtype`."""
    modules = [linear(7, 6, 0, param_dtype or dtype), LIF(param_dtype=dtype)]
    modules += [linear(6, 4, 1, param_dtype or dtype), LI(param_dtype=dtype)]
    modules[0].dtype = modules[2].dtype = dtype  # as nnx.Linear(..., dtype=dtype, param_dtype=param_dtype) sets it
    return connect(modules)


@pytest.mark.parametrize("rule", [BPTT(), OSTL()], ids=["bptt", "ostl"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_trains_and_keeps_its_dtype(dtype, rule):
    model = low_precision_net(dtype)
    optimizer = nnx.Optimizer(model, optax.sgd(0.05), wrt=nnx.Param)
    x = X.astype(dtype)
    losses = [train_online(model, optimizer, cross_entropy, x, LABELS, rule=rule, window=3) for _ in range(20)]
    assert losses[0].dtype == jnp.float32 and losses[-1] < 0.8 * losses[0]
    assert {leaf.dtype for leaf in parameters(model)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("rule", [BPTT(), OSTL()], ids=["bptt", "ostl"])
def test_float32_parameters_with_bfloat16_products_have_float32_gradients(rule):
    """And take steps that are too small for bfloat16: 1e-4 of each number."""
    model, x = low_precision_net(jnp.bfloat16, jnp.float32), X.astype(jnp.bfloat16)
    copy = nnx.clone(model)
    optimizer = nnx.Optimizer(model, optax.scale(-1e-4), wrt=nnx.Param)
    loss = train_offline(model, optimizer, cross_entropy, x, LABELS, rule=rule, window=3)
    expected, gradient = gradients(copy, cross_entropy, x, LABELS, rule=rule, window=3)
    assert loss == pytest.approx(float(expected), rel=1e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}
    moved = [1e4 * (old - new) for new, old in zip(parameters(model), parameters(copy), strict=True)]
    assert close(moved, gradient, 2e-2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_gradients_of_many_windows_are_added_up_in_float32(dtype):
    """4096 shares of 1/4096 make 1. Sums in bfloat16 stop growing at 1/16, in float16 at 1/2."""
    model = connect([nnx.Linear(1, 1, rngs=nnx.Rngs(0), param_dtype=dtype), LI(decay=1e-3, param_dtype=dtype)])
    x = jnp.ones((4096, 1, 1), dtype)
    loss, gradient = gradients(model, lambda y, _: y[..., 0], x, jnp.zeros(1), rule=TBPTT(steps=1))
    assert loss.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(dtype)}
    assert [float(leaf.squeeze()) for leaf in jax.tree.leaves(gradient)] == pytest.approx([1, 1], rel=1e-2)


def test_scaled_loss_keeps_what_underflows_in_float16():
    """The recipe of the module: float32 parameters, the loss times a number, the gradient by it again."""
    model, scale = low_precision_net(jnp.float16, jnp.float32), 2.0**12
    x, targets = X.astype(jnp.float16), jnp.zeros((B, 4))

    def small(outputs, targets):
        return 1e-7 * squared_error(outputs, targets)

    def scaled(outputs, targets):
        return scale * small(outputs, targets)

    def moved(loss_fn, transformation):
        copy = nnx.clone(model)
        train_offline(copy, nnx.Optimizer(copy, transformation, wrt=nnx.Param), loss_fn, x, targets)
        return [old - new for old, new in zip(parameters(model), parameters(copy), strict=True)]

    exact = jax.tree.leaves(gradients(model, squared_error, x, targets)[1])
    assert deviation(moved(small, optax.sgd(1e7))[2], exact[2]) > 0.5
    ours = moved(scaled, optax.chain(optax.scale(1 / scale), optax.sgd(1e7)))
    assert close(ours, exact, 5e-2)
