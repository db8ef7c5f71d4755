"""Learned delays under the rules that take any cell, which carry the influence of each delay on all states forward."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, BlockDiagonal, Delay, Trainable, connect, unroll
from slax_rules import BPTT, OSTL, RTRL, TBPTT, UORO, Checkpoints, SnAp, cross_entropy, fit, gradients
from slax_rules.influence.influence import state_space
from stacks import deviation, inputs, linear

T, B, K = 8, 2, 4
LABELS = jnp.array([0, 2])


def delay(features, longest, seed, *, groups=1, width=None):
    """Delays inside [0, D], with both borders among them."""
    d = np.random.default_rng(seed).uniform(0, longest, (groups, features))
    d.flat[:2] = 0.0, longest
    return Delay(features, longest, groups=groups, delays=Trainable(d), width=width, param_dtype=jnp.float64)


def neurons():
    options = {"param_dtype": jnp.float64}
    return LIF(decay=Trainable(0.8), threshold=0.5, **options), LI(decay=Trainable(0.9), **options)


def first(width=None):
    """Delays before the first layer, with groups, and a recurrent layer behind them."""
    hidden, last = neurons()
    blocks = BlockDiagonal(8, 4, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(1))
    blocks.kernel[...] *= 2
    modules = [delay(4, 3, 0, groups=2, width=width), blocks, hidden, linear(4, 3, 2), last]
    return connect(modules, {3: [4]}, rngs=nnx.Rngs(5))


def between():
    hidden, last = neurons()
    return connect([linear(4, 4, 8), hidden, delay(4, 2, 1), linear(4, 3, 2), last])


def recurrent():
    """A layer that hears its own spikes through learned delays."""
    hidden, last = neurons()
    modules = [linear(4, 4, 8), hidden, delay(4, 2, 1), linear(4, 3, 2), last]
    return connect(modules, {0: [2]}, rngs=nnx.Rngs(5))


def alone():
    """One layer: each delay reaches, within the step, all that it ever reaches."""
    return connect([delay(4, 3, 0), linear(4, 3, 0), neurons()[0]])


def run(model, rule, window=None):
    return gradients(model, cross_entropy, inputs(T, B, 4), LABELS, rule=rule, window=window)[1]


def furthest(ours, theirs):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(deviation(a, b) for a, b in pairs)


NETS = {"first": first, "Gaussian": lambda: first(0.6), "between": between, "recurrent": recurrent}


@pytest.mark.parametrize("name", NETS)
def test_rtrl_is_bptt_in_windows_of_any_length(name, x64):
    model = NETS[name]()
    exact = run(model, BPTT())
    (place,) = (index for index, module in enumerate(model.modules) if isinstance(module, Delay))
    assert np.abs(exact["modules"][place]["delays"]["unconstrained"][...]).min() > 1e-6
    for window in (1, K):
        assert furthest(run(model, RTRL(), window), exact) < 1e-9


def test_snap_is_bptt_where_n_steps_reach_everything(x64):
    model = alone()
    assert furthest(run(model, SnAp(n=1), K), run(model, BPTT())) < 1e-9
    # A weight before the delays reaches the inputs two steps ago, and then the layer behind, in the fourth step.
    model = between()
    exact = run(model, BPTT())
    assert furthest(run(model, SnAp(n=4), K), exact) < 1e-9
    assert furthest(run(model, SnAp(n=1), K), exact) > 1e-3


def test_snap_keeps_of_a_delay_what_its_own_output_reaches(x64):
    """Not the inputs in the carry; of a weight before the delay, the unit's membrane and last two spikes, and the read-out."""
    model = between()
    space, carry = state_space(model, (B, 4)), model.initialize_carry((B, 4))
    for rule in (SnAp(n=4), RTRL()):
        shapes = {leaf.shape for leaf in rule.initialize_influence(space, carry)}
        assert (B, 3, 1, 4) in shapes  # of the delays
        assert (B, 1 + 2 + 3, 4, 4) in shapes  # of the first kernel
    gaussian = connect(
        [delay(4, 2, 1, width=0.5), linear(4, 3, 2), neurons()[1]]
    )  # a loop, whose structure is not known
    influence = RTRL().initialize_influence(state_space(gaussian, (B, 4)), gaussian.initialize_carry((B, 4)))
    assert (B, 2 * 4 + 3, 1, 4) in {leaf.shape for leaf in influence}


def test_truncation_cuts_and_uoro_runs(x64):
    model = between()
    exact = run(model, BPTT())
    assert furthest(run(model, TBPTT(steps=T)), exact) < 1e-12
    assert furthest(run(model, TBPTT(steps=2)), exact) > 1e-3
    noisy = run(model, UORO(rngs=nnx.Rngs(0)), K)
    assert jax.tree.structure(noisy) == jax.tree.structure(exact)
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(noisy))


def test_uoro_is_right_on_average(x64):
    model = alone()
    exact = np.asarray(run(model, BPTT())["modules"][0]["delays"]["unconstrained"][...]).ravel()
    rule = UORO(rngs=nnx.Rngs(0))
    drawn = [run(model, rule, T)["modules"][0]["delays"]["unconstrained"][...].ravel() for _ in range(400)]
    mean, error = np.mean(drawn, axis=0), np.std(drawn, axis=0) / 20
    assert np.all(np.abs(mean - exact) < 4 * error)
    assert np.any(np.abs(exact) > 4 * error)


def test_training_resumes_from_a_checkpoint_with_the_delays_it_had(tmp_path):
    def train(epochs, **options):
        modules = [Delay(4, 5, groups=2, width=2.0, rngs=nnx.Rngs(0)), BlockDiagonal(8, 4, 2, rngs=nnx.Rngs(1)), LI()]
        model = connect(modules)
        optimizer = nnx.Optimizer(model, optax.sgd(1.0, momentum=0.9), wrt=nnx.Param)
        batches = [(inputs(T, B, 4, seed, jnp.float32), LABELS) for seed in range(2)]
        fit(model, optimizer, cross_entropy, batches, epochs=epochs, progress=False, **options)
        return np.asarray(model.modules[0].delays.value)

    whole = train(2)
    assert not np.array_equal(train(1, checkpoints=Checkpoints(tmp_path, every=1)), whole)
    np.testing.assert_array_equal(train(2, checkpoints=Checkpoints(tmp_path, every=1)), whole)


def test_a_carry_is_arrays_that_can_be_stored(tmp_path, x64):
    model, x = between(), inputs(T, B, 4)
    carry, _ = unroll(model, model.initialize_carry((B, 4)), x[:3])
    leaves, structure = jax.tree.flatten(carry)
    np.savez(tmp_path / "carry.npz", *leaves)
    stored = np.load(tmp_path / "carry.npz")
    again = jax.tree.unflatten(structure, [jnp.asarray(stored[name]) for name in stored.files])
    rest = unroll(model, again, x[3:])[1]
    np.testing.assert_array_equal(rest, unroll(model, carry, x[3:])[1])
    np.testing.assert_allclose(rest, unroll(model, model.initialize_carry((B, 4)), x)[1][3:], atol=1e-14)


def test_the_rules_for_layers_are_bptt_in_one_layer(x64):
    model = alone()
    exact = run(model, BPTT())
    assert np.abs(exact["modules"][0]["delays"]["unconstrained"][...]).min() > 1e-6
    for window in (1, K, T):
        assert furthest(run(model, OSTL(), window), exact) < 1e-9
