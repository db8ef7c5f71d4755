"""Stacks, edges, delays, dropout and foreign modules: every way to run a stack is a loop over its modules in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from oracle import lagged
from slax_neurons import (
    ALIF,
    LI,
    LIF,
    BlockDiagonal,
    Delay,
    DelayBuffer,
    Dropout,
    Edge,
    Trainable,
    complexity,
    connect,
    health,
    unroll,
)
from slax_neurons.building_blocks import apply_rows, mutates_state, scan_chunks
from slax_neurons.engine import default_chunk, even_length

T, B = 11, 3
F64 = {"param_dtype": jnp.float64}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def linear(n_in, n_out, seed=0, **options):
    """Large enough for activity in every layer."""
    layer = nnx.Linear(n_in, n_out, rngs=nnx.Rngs(0), **(F64 | options))
    for variable, size in ((layer.kernel, 2.0 / n_in**0.5), (layer.bias, 0.3)):
        variable[...] = jnp.asarray(size * normal(*variable.shape, seed=seed), variable.dtype)
    return layer


def lif(threshold=0.8):
    return LIF(decay=0.8, threshold=threshold, **F64)


def delay(groups, features, longest, *, width=None, seed=0):
    """With both borders and a whole number among the delays."""
    d = np.random.default_rng(seed).uniform(0, longest, (groups, features))
    d.flat[:3] = 0.0, longest, longest // 2
    return Delay(features, longest, groups=groups, delays=Trainable(d), width=width, **F64)


def three_layers():
    """0 Linear, 1 LIF, 2 Linear, 3 LIF, 4 Linear, 5 LI."""
    return [linear(7, 6, 0), lif(), linear(6, 5, 1), lif(), linear(5, 4, 2), LI(decay=0.7, **F64)]


def with_delays(width=None):
    """0 Delay, 1 Linear, 2 LIF, 3 Delay of two groups, 4 blocks, 5 LI."""
    blocks = BlockDiagonal(12, 4, 2, rngs=nnx.Rngs(1), **F64)
    return [delay(1, 7, 3), linear(7, 6), lif(), delay(2, 6, 4, width=width, seed=1), blocks, LI(decay=0.7, **F64)]


def smooth():
    return [linear(7, 5), LI(decay=0.7, **F64), jnp.tanh, linear(5, 4, 1), ALIF(threshold=0.5, **F64)]


STACKS = {
    "skip and two cycles": (three_layers, {0: [1], 2: [3], 4: [1]}),
    "crossing cycles": (three_layers, {0: [3], 2: [5]}),
    "late": (three_layers, [Edge(1, 4, delay=3), Edge(3, 2, delay=2), Edge(1, 0), Edge(1, 0, delay=8)]),
    "residual": (lambda: [linear(7, 5), lif(), linear(5, 5, 1), lif()], [Edge(1, 2, synapse=lambda s: s)]),
    "Gaussian delays with edges": (lambda: with_delays(0.6), {1: [2, 3, 5]}),
    "feedback behind delays": (lambda: [*with_delays()[:4], linear(12, 4), LI(**F64)], {1: [3], 4: [0, 2]}),
    "neurons and functions": (smooth, {0: [1], 3: [1]}),
}


def weights(module):
    if hasattr(module, "effective"):
        return map(np.asarray, module.effective())
    return np.asarray(module.kernel[...]), np.asarray(module.bias[...])


def by_hand(model, x):
    """y_i(t) = module_i(y_{i-1}(t)) + sum of synapse(y_j(t - delay)), zero before the first step; of every module."""
    history, inputs, states = [[] for _ in model.modules], {}, {}
    for x_t in x:
        below = x_t
        for index, module in enumerate(model.modules):
            if isinstance(module, Delay):
                inputs.setdefault(index, []).append(below)
                d, width = np.asarray(module.delays.value), None if module.width is None else float(module.width[...])
                below = lagged.delayed(np.stack(inputs[index]), d, module.max_delay, width)[-1]
            elif isinstance(module, LIF | LI | ALIF):
                state = states.get(index, module.initialize_carry(below.shape))
                states[index], below = module(state, jnp.asarray(below))
                below = np.asarray(below)
            elif hasattr(module, "kernel"):
                kernel, bias = weights(module)
                below = below @ kernel + bias
            else:
                below = np.asarray(module(jnp.asarray(below)))
            for edge, synapse in model.edges_into(index):
                at = len(history[index]) - edge.steps
                if at >= 0:
                    y = history[edge.sender][at]
                    below = below + (y @ weights(synapse)[0] + weights(synapse)[1] if hasattr(synapse, "kernel") else y)
                elif hasattr(synapse, "kernel"):
                    below = below + weights(synapse)[1]
            history[index].append(below)
    return [np.stack(outputs) for outputs in history]


def close(ours, theirs, bound=1e-11):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize("name", STACKS)
def test_every_way_to_run_a_stack_is_its_equation(name, x64):
    """Whole, in chunks with remat, step by step, nested, in two parts; the gradient is that of the steps."""
    make, edges = STACKS[name]
    model, x = connect(make(), edges, rngs=nnx.Rngs(3)), normal(T, B, 7) + 0.2
    for seed, synapse in enumerate(model.synapses):
        if hasattr(synapse, "kernel"):
            synapse.bias[...] = jnp.asarray(0.2 * normal(*synapse.bias.shape, seed=seed))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    cotangent = jnp.asarray(normal(T, B, model.modules[-2].out_features if "neurons" not in name else 4, seed=9))

    def runner(**options):
        def run(params, x):
            model = nnx.merge(graphdef, params, rest)
            return unroll(model, model.initialize_carry((B, 7)), x, **options)

        return run

    def steps(params, x):
        model = nnx.merge(graphdef, params, rest)
        return jax.lax.scan(lambda carry, x: model(carry, x), model.initialize_carry((B, 7)), x)

    def nested(params, x):
        outer = connect([nnx.merge(graphdef, params, rest)])
        (carry,), outputs = unroll(outer, outer.initialize_carry((B, 7)), x, chunk=5)
        return carry, outputs

    def parts(params, x):
        model = nnx.merge(graphdef, params, rest)
        carry, first = unroll(model, model.initialize_carry((B, 7)), x[:4])
        carry, last = unroll(model, carry, x[4:])
        return carry, jnp.concatenate([first, last])

    @jax.jit
    def program(params, x):
        made = []
        for run in (steps, runner(chunk=4, remat=True)):

            def number(*at, run=run):
                carry, outputs = run(*at)
                return jnp.vdot(cotangent, outputs), (carry, outputs)

            made.append(jax.grad(number, (0, 1), has_aux=True)(params, x))
        outputs = model.outputs(model.initialize_carry((B, 7)), x)[1]
        return made, outputs, runner()(params, x), nested(params, x), parts(params, x)

    made, outputs, *others = jax.tree.map(np.asarray, program(params, jnp.asarray(x)))
    expected = by_hand(model, x)
    close(outputs, expected, 1e-11)
    (gradient, (carry, last)), (by_remat, found) = made
    close(last, expected[-1])
    firing = next(index for index, module in enumerate(model.modules) if isinstance(module, LIF | ALIF))
    assert len(np.unique(outputs[firing])) == 2
    assert sum(not leaf.any() for leaf in jax.tree.leaves(gradient)) <= (name == "late")
    close(by_remat, gradient, 1e-10)
    for way in (found, *others):
        close(way, (carry, last))


def test_stock_rnns_run_stacks_and_find_the_time_axis(x64):
    conv = nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0), **F64)
    model = connect([conv, lif(0.3), nnx.Conv(3, 2, (3, 3), rngs=nnx.Rngs(1), **F64)], {0: [1, 2]}, rngs=nnx.Rngs(2))
    assert [synapse.kernel.shape for synapse in model.synapses] == [(3, 3, 3, 3), (3, 3, 2, 3)]
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(5, B, 4, 5, 2)))
    carry, outputs = jax.jit(lambda x: unroll(model, model.initialize_carry(x.shape[1:]), x))(x)
    close(nnx.RNN(model, time_major=True, return_carry=True)(x), (carry, outputs))
    close(nnx.RNN(model)(jnp.swapaxes(x, 0, 1)), jnp.swapaxes(outputs, 0, 1))
    assert model.num_feature_axes == 3


def test_products_are_one_per_layer_and_chunk_and_only_a_cycle_is_stepped():
    sizes = [7, 6, 5, 4]
    narrow = {"param_dtype": jnp.float32}
    modules = [m for i in range(3) for m in (linear(sizes[i], sizes[i + 1], i, **narrow), LIF())]
    model = connect(modules, {2: [3]}, rngs=nnx.Rngs(0))
    run = lambda x: unroll(model, model.initialize_carry((B, 7)), x, chunk=4)[1]  # noqa: E731
    text = str(jax.make_jaxpr(run)(jnp.zeros((8, B, 7))))
    shapes = sorted(line.split("f32[")[1].split("]")[0] for line in text.splitlines() if "dot_general" in line)
    assert shapes == sorted([f"{4 * B},6", f"{4 * B},5", f"{4 * B},4", f"{B},5"])


def test_remat_keeps_less():
    model = connect([nnx.Linear(16, 16, rngs=nnx.Rngs(0)), LIF()])
    graphdef, params = nnx.split(model)

    def temporaries(remat):
        def loss(params, x):
            model = nnx.merge(graphdef, params)
            return jnp.sum(unroll(model, model.initialize_carry((8, 16)), x, chunk=16, remat=remat)[1][..., :1])

        compiled = jax.jit(jax.grad(loss)).lower(params, jnp.ones((512, 8, 16))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(True) < 0.75 * temporaries(False)


def test_chunks_fit_the_cache_and_the_sequence():
    def steps(n, length=1000, batch=32, edges=None):
        model = connect([nnx.Linear(n, n, rngs=nnx.Rngs(0)), LIF()], edges, rngs=nnx.Rngs(0))
        return default_chunk(model.initialize_carry((batch, n)), jnp.zeros((length, batch, n)))

    # Arrays of 1.5 MB have 768, 96, 48, 24 and 12 steps; chunks are near these, or near 32, and equally long.
    assert [steps(16), steps(128), steps(256), steps(512), steps(1024)] == [1000, 100, 40, 25, 25]
    assert [steps(16, length=20), steps(512, length=40), steps(128, batch=1)] == [20, 40, 1000]
    assert steps(128, edges=[Edge(1, 0, delay=50)]) == steps(128)  # a long delay does not shorten the chunk
    half = LIF(param_dtype=jnp.bfloat16).initialize_carry((32, 128))
    assert default_chunk(half, jnp.zeros((1000, 32, 128), jnp.bfloat16)) == 40  # for 48
    single = LIF().initialize_carry((32, 128))
    assert default_chunk(single, jnp.zeros((1000, 32, 128))) == 100
    assert [even_length(steps, 32) for steps in (20, 47, 48, 96, 100, 97)] == [20, 47, 24, 32, 25, 33]
    total, outputs = scan_chunks(lambda total, x: (total + x.sum(), x * 10 + total), jnp.zeros(()), jnp.arange(7.0), 3)
    assert total == 21
    np.testing.assert_array_equal(outputs, np.arange(7.0) * 10 + np.array([0.0, 0, 0, 3, 3, 3, 15]))


def test_edges_have_their_own_synapses_and_features_are_found_through_what_keeps_them():
    rngs = nnx.Rngs(0)
    base = nnx.Linear(3, 3, rngs=rngs)
    twins = connect([base, LIF()], [Edge(1, 0), Edge(1, 0, delay=2)], rngs=rngs).synapses
    assert not np.allclose(twins[0].kernel[...], twins[1].kernel[...])
    for tail in ([], [Dropout(0.1, rngs=rngs)], [connect([nnx.LayerNorm(3, rngs=rngs), LIF()])]):
        model = connect([base, LIF(), *tail], {0: [1 + len(tail)]}, rngs=rngs)
        assert model.synapses[0].kernel.shape == (3, 3)
    half = {"param_dtype": jnp.bfloat16}
    model = connect([nnx.Linear(3, 3, rngs=rngs, **half), LIF(**half)], {0: [1]}, rngs=rngs)
    carry = model.initialize_carry((B, 3))
    assert isinstance(carry[1], DelayBuffer)
    assert carry[1].outputs.dtype == jnp.bfloat16
    assert unroll(model, carry, jnp.ones((T, B, 3), jnp.bfloat16), chunk=4)[1].dtype == jnp.bfloat16


# ---------------------------------------------------------------------------------------------------------------- delays


@pytest.mark.parametrize("width", [None, 0.27])
@pytest.mark.parametrize(("longest", "groups"), [(1, 3), (4, 2), (25, 1)])
def test_delays_and_their_tangents_are_those_of_loops(longest, groups, width, x64):
    """Images too, which have a delay per channel; the tangent is the derivative, and that of a loop."""
    cell, x = delay(groups, 5, longest, width=width), normal(T, B, 2, 5)
    d = np.asarray(cell.delays.value)

    @nnx.jit
    def everything(cell, x):
        def outputs(d):
            graphdef, state = nnx.split(cell)
            state["delays"]["unconstrained"] = d
            made = nnx.merge(graphdef, state)
            return made.unroll(made.initialize_carry(x.shape[1:]), x)[1]

        along = jax.jvp(outputs, (cell.delays.value,), (jnp.ones_like(cell.delays.value),))
        return *along, cell.tangent(cell.initialize_carry(x.shape[1:]), x), cell.taps()

    outputs, slope, tangent, taps = everything(cell, jnp.asarray(x))
    for place in range(2):
        close(outputs[:, :, place], lagged.delayed(x[:, :, place], d, longest, width), 1e-12)
        close(tangent[:, :, place], lagged.delayed(x[:, :, place], d, longest, width, weight=lagged.slope), 1e-11)
    close(slope, tangent, 1e-11)
    expected = [[[lagged.kappa(k, d_gi, longest, width) for d_gi in row] for row in d] for k in range(longest + 1)]
    close(taps, np.array(expected), 1e-12)


def test_delays_beyond_a_border_are_at_it_and_whole_steps_are_exact():
    cell = Delay(4, 3, delays=Trainable(np.array([0.0, 0.0, 3.0, 3.0])))
    x = jnp.asarray(normal(T, B, 4), jnp.float32)

    def loss(d):
        graphdef, state = nnx.split(cell)
        state["delays"]["unconstrained"] = d[None]
        made = nnx.merge(graphdef, state)
        return jnp.sum(made.unroll(made.initialize_carry((B, 4)), x)[1] ** 2 * jnp.arange(1.0, 5.0))

    with jax.numpy_rank_promotion("allow"):
        at, beyond = (jax.value_and_grad(loss)(jnp.asarray(d)) for d in ([0.0, 0, 3, 3], [-0.5, -7.0, 3.5, 1e3]))
    jax.tree.map(np.testing.assert_array_equal, at, beyond)
    assert np.all(np.abs(at[1]) > 0)
    whole = Delay(9, 8, delays=np.arange(9), param_dtype=jnp.bfloat16)
    x = jnp.asarray(normal(T, B, 9), jnp.bfloat16)
    carry, outputs = whole.unroll(whole.initialize_carry((B, 9)), x)
    for k in range(9):
        np.testing.assert_array_equal(outputs[k:, :, k], x[: T - k, :, k])
        assert not outputs[:k, :, k].any()
    np.testing.assert_array_equal(carry, x[-8:])
    assert Delay(2, 9, delays=[3.0, 4.25], width=1e-3).taps()[:, 0].T.tolist() == np.eye(10)[[3, 4]].tolist()


def test_delays_start_where_they_are_told_and_are_rounded():
    assert Delay(3, 5, groups=2).delays.value.tolist() == [[0.0] * 3] * 2
    drawn = np.asarray(Delay(1000, 5, rngs=nnx.Rngs(0)).delays.value)
    np.testing.assert_allclose(np.quantile(drawn, [0, 0.25, 0.5, 0.75, 1]), [0, 1.25, 2.5, 3.75, 5], atol=0.25)
    assert not jax.tree.leaves(nnx.state(Delay(3, 4, delays=2.0), nnx.Param))
    for trained in (True, False):
        cell = Delay(3, 5, delays=Trainable([0.4, 2.6, 4.9]) if trained else [0.4, 2.6, 4.9], width=2.0)
        other = cell.rounded()
        assert (other.width, other.delays.value.tolist()) == (None, [[0.0, 3.0, 5.0]])
        assert bool(jax.tree.leaves(nnx.state(other, nnx.Param))) == trained


# --------------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("mask", ["step", "sequence"])
def test_dropout_masks(mask):
    """Half of the units, doubled; one mask per step or per sequence, the same in any pieces; off in evaluation."""
    dropout, x = Dropout(0.5, mask=mask, rngs=nnx.Rngs(0)), jnp.asarray(normal(T, B, 400), jnp.float32)
    carry = dropout.initialize_carry((B, 400))
    outputs = np.asarray(unroll(dropout, carry, x)[1])
    ratio = outputs / np.asarray(x)
    assert set(np.unique(ratio.round(4))) == {0.0, 2.0}
    assert abs((ratio == 0).mean() - 0.5) < 0.05
    assert (ratio.round(4) == ratio[:1].round(4)).all() == (mask == "sequence")
    middle, first = unroll(dropout, carry, x[:4], chunk=3)
    np.testing.assert_array_equal(np.concatenate([first, unroll(dropout, middle, x[4:])[1]]), outputs)
    another = unroll(dropout, dropout.initialize_carry((B, 400)), x)[1]
    assert not np.array_equal(another, outputs)  # drawn anew for each sequence
    same = [dropout.initialize_carry((B, 400), nnx.Rngs(7)) for _ in range(2)]
    np.testing.assert_array_equal(*(unroll(dropout, carry, x)[1] for carry in same))
    dropout.eval()
    np.testing.assert_array_equal(unroll(dropout, carry, x)[1], x)


# --------------------------------------------------------------------------------------- modules of Flax and of users


class Counts(nnx.Module):
    """Counts its calls in a variable of some type."""

    def __init__(self, kind):
        self.calls = kind(jnp.zeros(()))

    def __call__(self, x):
        self.calls[...] += 1
        return x * self.calls[...]


class Declares(Counts):
    mutates_state = True


class Holds(nnx.Module):
    """Has a variable and never writes to it."""

    def __init__(self, variable):
        self.variable = variable

    def __call__(self, x):
        return x


class Denies(Holds):
    mutates_state = False


class Own(nnx.RNNCellBase):
    """A user's recurrent cell, with a tuple for its carry."""

    num_feature_axes = 1

    def __init__(self):
        self.mix = nnx.Linear(7, 7, rngs=nnx.Rngs(3))

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return (jnp.zeros(input_shape), jnp.zeros(input_shape[:1], jnp.int32))

    def __call__(self, carry, inputs):
        h = jnp.tanh(self.mix(carry[0]) + inputs)
        return (h, carry[1] + 1), h


def test_which_modules_mutate_their_state():
    rngs = nnx.Rngs(0)
    mutating = [nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs), Holds(nnx.Rngs(0)), Holds(rngs.params)]
    mutating += [Holds(kind(jnp.zeros(()))) for kind in (nnx.BatchStat, nnx.Cache, nnx.Intermediate)]
    mutating += [Declares(nnx.Variable), connect([LIF(), connect([Declares(nnx.Variable)])])]
    constant = [nnx.BatchNorm(4, use_running_average=True, rngs=rngs), nnx.Dropout(0.5, deterministic=True, rngs=rngs)]
    constant += [Dropout(0.5, rngs=rngs), Holds(nnx.Variable(jnp.zeros(()))), Denies(nnx.Rngs(0)), LIF(decay=[0.9])]
    assert all(map(mutates_state, mutating))
    assert not any(map(mutates_state, constant))


@pytest.mark.parametrize("make", [lambda: Declares(nnx.Variable), lambda: Counts(nnx.BatchStat)])
def test_what_changes_itself_gets_the_whole_sequence_once(make):
    model, x = connect([make(), LIF()]), jnp.full((T, B, 4), 0.5)
    for calls in (1, 2):
        unroll(model, model.initialize_carry((B, 4)), x, chunk=3)
        assert model.modules[0].calls[...] == calls
    for analysis in (health, complexity):  # they work on copies
        assert analysis(model, x, chunk=3) == analysis(model, x, chunk=T)
        assert model.modules[0].calls[...] == 2


def test_batch_norm_in_training_takes_its_statistics_over_time_and_batch():
    norm, x = nnx.BatchNorm(4, momentum=0.0, rngs=nnx.Rngs(0)), 3 + 2 * normal(T, B, 4).astype(np.float32)
    outputs = np.asarray(unroll(connect([norm]), ((),), jnp.asarray(x), chunk=2)[1])
    np.testing.assert_allclose(outputs, (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.mean[...], x.mean((0, 1)), rtol=1e-4)


CELLS = {
    "LSTM": lambda: nnx.OptimizedLSTMCell(7, 7, rngs=nnx.Rngs(0)),
    "GRU": lambda: nnx.GRUCell(7, 7, rngs=nnx.Rngs(0)),
    "own": Own,
}


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_cells_of_flax_and_users_run_as_they_are(name):
    """Like the stock RNN of the stack, in chunks and inside a cycle; parameters that changed in place are used."""
    cell, x = CELLS[name](), jnp.asarray(normal(T, B, 7), jnp.float32)
    modules = [linear(7, 7, 1, param_dtype=jnp.float32), cell, linear(7, 4, 0, param_dtype=jnp.float32), LIF()]
    for edges in (None, {0: [1, 3]}):
        model = connect(modules, edges, rngs=nnx.Rngs(0))
        carry = model.initialize_carry((B, 7), nnx.Rngs(0))
        outputs = unroll(model, carry, x, chunk=3)[1]
        close(nnx.RNN(model, time_major=True)(x, initial_carry=carry), outputs, 1e-5)
    before = np.asarray(unroll(cell, carry[1].carry, x, chunk=T)[1])
    nnx.update(cell, jax.tree.map(lambda leaf: leaf * 0.5, nnx.state(cell, nnx.Param)))
    assert (np.asarray(unroll(cell, carry[1].carry, x, chunk=T)[1]) != before).any()


class Heads(nnx.Module):
    def __init__(self):
        self.one, self.other = linear(6, 2, 5), linear(6, 4, 6)

    def __call__(self, x):
        return {"one": self.one(x), "other": (self.other(x), x[:, 0])}


def test_the_last_module_may_make_a_tree(x64):
    """Each leaf is that of the module alone, in chunks and step by step; the tree is the last of all outputs."""
    model, x = connect([linear(7, 6), lif(), Heads()], {0: [1]}, rngs=nnx.Rngs(1)), jnp.asarray(normal(T, B, 7))
    carry, outputs = model.outputs(model.initialize_carry((B, 7)), x)
    spikes, heads = np.asarray(outputs[1]), model.modules[2]
    (one, bias), (other, other_bias) = weights(heads.one), weights(heads.other)
    expected = {"one": spikes @ one + bias, "other": (spikes @ other + other_bias, spikes[..., 0])}
    assert jax.tree.structure(outputs[2]) == jax.tree.structure(expected)
    close(outputs[2], expected)
    close(unroll(model, model.initialize_carry((B, 7)), x, chunk=4)[1], expected)
    close(nnx.RNN(model, time_major=True, return_carry=True)(x), (carry, expected))
    rows = apply_rows(lambda x: [x, x[:, :2]], jnp.ones((T, B, 4)))
    assert jax.tree.map(jnp.shape, rows) == [(T, B, 4), (T, B, 2)]


NORM = nnx.LayerNorm(4, rngs=nnx.Rngs(0))
norm = NORM  # the name of an attribute of jnp.linalg


def test_connect_takes_a_function_with_an_attribute_of_a_modules_name():
    model = connect([lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True), LIF()])
    assert unroll(model, model.initialize_carry((B, 4)), jnp.ones((T, B, 4)))[1].shape == (T, B, 4)
