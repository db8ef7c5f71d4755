"""Flax's layers and recurrent cells inside stacks: convolution, pooling, norms with and without statistics, dropout, cells."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Dropout, connect, unroll
from slax_neurons.dropout import DropoutState
from slax_rules import BPTT, TBPTT, cross_entropy, gradients, train_offline, train_online
from stacks import inputs, linear

T, B = 8, 3
OPTIONS = {"param_dtype": jnp.float64}


def rngs(seed=0):
    return nnx.Rngs(seed, dropout=seed + 1)


def run(model, x, chunk=None, carry=None):
    return unroll(model, model.initialize_carry(x.shape[1:]) if carry is None else carry, x, chunk=chunk)


def images():
    return jax.random.uniform(jax.random.key(0), (T, B, 6, 8, 2))


def test_convolution_pooling_flatten_and_norms():
    """A network of images, whole, in chunks and in the stock RNN."""
    model = connect(
        [
            nnx.Conv(2, 4, (3, 3), rngs=rngs()),
            nnx.GroupNorm(4, num_groups=2, rngs=rngs()),
            LIF(),
            functools.partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2)),
            nnx.Conv(4, 3, (3, 3), rngs=rngs(1)),
            LIF(threshold=0.1),
            functools.partial(nnx.max_pool, window_shape=(3, 2), strides=(3, 2)),
            lambda x: x.reshape(x.shape[0], -1),
            nnx.LayerNorm(6, rngs=rngs()),
            linear(6, 5, 2, jnp.float32),
            LI(),
        ]
    )
    with jax.numpy_dtype_promotion("standard"):  # avg_pool of Flax divides by an integer
        whole = run(model, images())
        others = [run(model, images(), 3), nnx.RNN(model, time_major=True, return_carry=True)(images())]
    for other in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), other, whole)
    assert whole[1].shape == (T, B, 5)
    assert whole[1].std() > 0.1


def normalized():
    return connect([linear(7, 6, 0, jnp.float32), nnx.BatchNorm(6, momentum=0.9, rngs=rngs()), LIF()])


def test_batch_norm_takes_its_statistics_over_time_and_batch():
    x = inputs(T, B, 7, dtype=jnp.float32)
    for chunk in (None, 1, 3):
        model = normalized()
        outputs = run(model, x, chunk)[1]
        rows = np.asarray(model.modules[0](x)).reshape(T * B, 6)
        currents = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + model.modules[1].epsilon)
        expected = run(LIF(), jnp.asarray(currents, jnp.float32).reshape(T, B, 6))[1]
        np.testing.assert_array_equal(outputs, expected)
        assert 0.1 < outputs.mean() < 0.9
        np.testing.assert_allclose(model.modules[1].mean[...], 0.1 * rows.mean(0), rtol=1e-5)
        np.testing.assert_allclose(model.modules[1].var[...], 0.9 + 0.1 * rows.var(0), rtol=1e-5)


def test_batch_norm_in_evaluation_is_one_map_for_all_rows():
    x, model = inputs(T, B, 7, dtype=jnp.float32), normalized()
    run(model, x)
    model.eval()
    kept = model.modules[1].mean[...]
    whole, chunked = run(model, x)[1], run(model, x, 3)[1]
    stock = nnx.RNN(model, time_major=True)(x)
    np.testing.assert_array_equal(whole, chunked)
    np.testing.assert_array_equal(whole, stock)
    np.testing.assert_array_equal(model.modules[1].mean[...], kept)
    model.train()
    assert (run(model, x)[1] != whole).any()


def test_batch_norm_in_training_does_not_run_step_by_step():
    model = connect([nnx.BatchNorm(3, rngs=rngs()), LIF()])
    with pytest.raises(ValueError, match=r"statistics over all steps in training. Use unroll, or call model.eval\(\)"):
        model(model.initialize_carry((B, 3)), jnp.ones((B, 3)))
    layers = [linear(3, 3, 0, jnp.float32), nnx.BatchNorm(3, rngs=rngs()), LIF()]
    model = connect(layers, {0: [2]}, rngs=rngs())
    with pytest.raises(ValueError, match="inside a cycle"):
        run(model, jnp.ones((T, B, 3)))


def test_batch_norm_in_a_nested_stack_is_the_same():
    x, flat, nested = (
        inputs(T, B, 7, dtype=jnp.float32),
        normalized(),
        connect([normalized(), linear(6, 2, 1, jnp.float32)]),
    )
    expected = run(flat, x)[1]
    run(nested, x)
    np.testing.assert_array_equal(nested.modules[0].modules[1].mean[...], flat.modules[1].mean[...])
    np.testing.assert_array_equal(run(connect([normalized()]), x, 3)[1], expected)


class Noise(nnx.Module):
    """A user's module with a random stream of its own."""

    def __init__(self):
        self.rngs = nnx.Rngs(noise=0)

    def __call__(self, x):
        return x + jax.random.normal(self.rngs.noise(), x.shape)


def test_random_streams_of_a_users_module_move_on():
    model, x = connect([Noise(), linear(7, 3, 0, jnp.float32), LI()]), inputs(T, B, 7, dtype=jnp.float32)
    assert (run(model, x, 3)[1] != run(model, x, 3)[1]).all()
    losses = [float(gradients(model, cross_entropy, x, jnp.array([0, 2, 1]))[0]) for _ in range(2)]
    assert losses[0] != losses[1]


def test_what_changes_itself_is_refused_in_cycles_and_under_remat():
    layers = [linear(3, 3, 0, jnp.float32), LIF(), nnx.Dropout(0.5, rngs=rngs())]
    model = connect(layers, {0: [2]}, rngs=rngs())
    with pytest.raises(ValueError, match=r"a Dropout inside a cycle, .* use slax_neurons.Dropout"):
        run(model, jnp.ones((T, B, 3)))
    with pytest.raises(ValueError, match="remat=True for a model with a module that changes its own variables"):
        model = connect(layers)
        unroll(model, model.initialize_carry((B, 3)), jnp.ones((T, B, 3)), remat=True)


def test_a_neuron_that_is_more_than_its_step_is_refused_in_cycles():
    """A cycle runs steps, which do not call what its class replaces."""

    class Doubled(LIF):
        def outputs(self, membranes):
            return 2 * super().outputs(membranes)

    class InOnePass(LIF):
        def unroll(self, carry, inputs):
            return super().unroll(carry, inputs)

        def pre_reset_states(self, carry, inputs, kernel="auto"):
            return super().pre_reset_states(carry, inputs, kernel)

    x = jnp.ones((T, B, 3))
    for neuron, replaced in ((Doubled(), "outputs"), (InOnePass(), "pre_reset_states and unroll")):
        run(connect([linear(3, 3, 0, jnp.float32), neuron]), x)
        for inside in (neuron, connect([neuron])):
            cycle = connect([linear(3, 3, 0, jnp.float32), inside], {0: [1]}, rngs=rngs())
            message = f"a {type(neuron).__name__} inside a cycle, which runs step by step, but its class replaces {replaced} of"
            with pytest.raises(TypeError, match=message):
                run(cycle, x)


@pytest.mark.parametrize("window", [None, 3])
def test_gradients_return_what_modules_change_in_the_model(window):
    """Statistics of each window in turn, and a fresh mask for each call."""
    x, labels = inputs(T, B, 7, dtype=jnp.float32), jnp.array([0, 2, 1])
    layers = [linear(7, 6, 0, jnp.float32), nnx.BatchNorm(6, rngs=rngs()), Dropout(0.5, rngs=rngs())]
    model = connect([*layers, LI(), linear(6, 3, 1, jnp.float32), LI()])
    rule = BPTT() if window is None else TBPTT(steps=window)
    losses = [float(gradients(model, cross_entropy, x, labels, rule=rule)[0]) for _ in range(2)]
    assert losses[0] != losses[1]
    assert model.modules[2].rngs.count[...] == 2
    rows = np.asarray(model.modules[0](x))
    mean = np.zeros(6)
    for _ in range(2):
        for start in range(0, T, window or T):
            mean = 0.99 * mean + 0.01 * rows[start : start + (window or T)].mean((0, 1))
    np.testing.assert_allclose(model.modules[1].mean[...], mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("train", [train_offline, train_online])
def test_training_keeps_what_modules_change(train):
    x, labels = inputs(T, B, 7, dtype=jnp.float32), jnp.array([0, 2, 1])
    model = connect([linear(7, 3, 0, jnp.float32), nnx.BatchNorm(3, rngs=rngs()), LI()])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    train(model, optimizer, cross_entropy, x, labels, window=4)
    assert model.modules[1].mean[...].any()
    model.eval()
    kept = model.modules[1].mean[...]
    train(model, optimizer, cross_entropy, x, labels, window=4)
    np.testing.assert_array_equal(model.modules[1].mean[...], kept)


@pytest.mark.parametrize("mask", ["step", "sequence"])
def test_dropout_masks(mask):
    """Zero or scaled up, at the rate, one mask per step or for all steps, the same for every way to run it."""
    model, x = connect([Dropout(0.25, mask=mask, rngs=rngs())]), jnp.ones((T, 40, 50))
    carry = model.initialize_carry(x.shape[1:])
    outputs = np.asarray(run(model, x, carry=carry)[1])
    assert set(np.unique(outputs)) == {0, np.float32(1 / 0.75)}
    assert abs((outputs == 0).mean() - 0.25) < (0.01 if mask == "step" else 0.04)
    assert (outputs == outputs[:1]).all() == (mask == "sequence")
    assert not (outputs[:, :1] == outputs).all()
    for chunk in (1, 3):
        np.testing.assert_array_equal(run(model, x, chunk, carry)[1], outputs)
    steps = []
    for x_t in x:
        carry, y = model(carry, x_t)
        steps.append(y)
    np.testing.assert_array_equal(jnp.stack(steps), outputs)


def test_dropout_draws_anew_for_each_sequence_and_the_same_for_the_same_key():
    dropout, x = Dropout(0.5, rngs=rngs()), jnp.ones((T, B, 20))

    def mask(*args):
        return np.asarray(unroll(dropout, dropout.initialize_carry((B, 20), *args), x)[1])

    assert (mask() != mask()).any()
    np.testing.assert_array_equal(mask(rngs(5)), mask(rngs(5)))
    np.testing.assert_array_equal(mask(rngs(5)), mask(rngs(5).dropout))


def test_dropout_is_off_in_evaluation():
    model, x = connect([Dropout(0.5, rngs=rngs()), Dropout(0.5, mask="step", rngs=rngs())]), jnp.ones((T, B, 20))
    model.eval()
    jitted = jax.jit(lambda x: run(model, x)[1])  # nothing is drawn, so no stream is changed under jit
    np.testing.assert_array_equal(jitted(x), x)
    assert model.modules[0].rngs.count[...] == 0


def test_dropout_inside_a_cycle(x64):
    layers = [linear(7, 6, 0), LIF(**OPTIONS), Dropout(0.5, mask="step", rngs=rngs())]
    model = connect(layers, {0: [2]}, rngs=rngs())
    carry = model.initialize_carry((B, 7))
    assert isinstance(carry[2].carry, DropoutState)
    whole, chunked = (unroll(model, carry, inputs(T, B, 7), chunk=chunk)[1] for chunk in (None, 3))
    np.testing.assert_array_equal(whole, chunked)
    assert set(np.unique(whole)) == {0, 2}


@pytest.mark.parametrize(
    ("options", "message"), [({"rate": 1.0}, r"rate=1.0, .* in \[0, 1\)"), ({"rate": 0.1, "mask": "all"}, "'step', 'sequence'")]
)  # fmt: skip
def test_bad_dropout_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        Dropout(**options, rngs=rngs())


def test_flax_dropout_draws_one_mask_per_step_and_moves_its_own_stream_on():
    model, x = connect([nnx.Dropout(0.5, rngs=rngs())]), jnp.ones((T, B, 50))
    outputs = np.asarray(run(model, x, 3)[1])
    assert abs((outputs == 0).mean() - 0.5) < 0.06
    assert (outputs[0] != outputs[1]).any()
    assert (outputs != np.asarray(run(model, x)[1])).any()


class Own(nnx.RNNCellBase):
    """A user's recurrent cell, with a tuple for its carry."""

    def __init__(self, n):
        self.mix = linear(n, n, 3, jnp.float32)

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return (jnp.zeros(input_shape), jnp.zeros(input_shape[:1], jnp.int32))

    def __call__(self, carry, inputs):
        h = jnp.tanh(self.mix(carry[0]) + inputs)
        return (h, carry[1] + 1), h

    @property
    def num_feature_axes(self):
        return 1


CELLS = {
    "LSTM": lambda: nnx.LSTMCell(7, 5, rngs=rngs()),
    "OptimizedLSTM": lambda: nnx.OptimizedLSTMCell(7, 5, rngs=rngs()),
    "GRU": lambda: nnx.GRUCell(7, 5, rngs=rngs()),
    "SimpleCell": lambda: nnx.SimpleCell(7, 5, rngs=rngs()),
    "own": lambda: Own(7),
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_recurrent_cells_of_flax_and_users(cell):
    """As they are: forward like the stock RNN of the cell and of the stack, and gradients for their parameters."""
    cell = cell()
    width = 7 if isinstance(cell, Own) else 5
    model = connect([cell, linear(width, 4, 0, jnp.float32), LIF(threshold=0.3)])
    x = inputs(T, B, 7, dtype=jnp.float32)
    carry = model.initialize_carry((B, 7), rngs())
    outputs = run(model, x, 3, carry)[1]
    hidden = nnx.RNN(cell, time_major=True)(x, initial_carry=carry[0])
    np.testing.assert_array_equal(outputs, run(connect(list(model.modules)[1:]), hidden)[1])
    np.testing.assert_array_equal(outputs, nnx.RNN(model, time_major=True)(x, initial_carry=carry))
    gradient = nnx.grad(lambda model: jnp.sum(unroll(model, carry, x)[1] * jnp.arange(4.0)[None, None]))(model)
    assert 0.02 < outputs.mean() < 0.98
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient["modules"][0]))


def test_a_flax_cell_can_be_in_a_cycle():
    cell = nnx.GRUCell(6, 5, rngs=rngs())
    model = connect([linear(7, 6, 0, jnp.float32), cell, linear(5, 4, 1, jnp.float32), LIF()], {0: [1, 3]}, rngs=rngs())
    x, carry = inputs(T, B, 7, dtype=jnp.float32), model.initialize_carry((B, 7), rngs())
    theirs = nnx.RNN(model, time_major=True)(x, initial_carry=carry)
    np.testing.assert_allclose(run(model, x, 3, carry)[1], theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["SimpleCell", "own"])
def test_parameters_that_changed_in_place_are_used(cell):
    """JAX keeps what it traced; the same cell with other numbers must not get the old ones."""
    cell, x = CELLS[cell](), inputs(T, B, 7, dtype=jnp.float32)
    carry = cell.initialize_carry((B, 7), rngs())
    before = np.asarray(unroll(cell, carry, x, chunk=T)[1])
    for leaf in jax.tree.leaves(nnx.state(cell, nnx.Param), is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)):
        leaf[...] = leaf[...] * 0.5
    assert (np.asarray(unroll(cell, carry, x, chunk=T)[1]) != before).any()
