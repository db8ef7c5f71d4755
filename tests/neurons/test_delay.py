"""Delays against plain loops, at their borders, in pieces of a sequence, and in stacks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from oracle import lagged as loops
from slax_neurons import LI, LIF, BlockDiagonal, Delay, Dropout, Edge, Trainable, complexity, connect, health, summary
from slax_neurons import unroll as unroll_cell
from slax_neurons.engine import default_chunk
from slax_neurons.modules import mutates_state
from slax_rules import cross_entropy, gradients
from stacks import deviation, inputs, linear, pair

T, B = 11, 3
LABELS = np.array([0, 3, 2])
SIGNAL = oracle.softmax_cross_entropy(LABELS)
WIDTHS = [None, 0.27, 3.0]


def values(groups, features, longest, seed=0):
    """Delays in [0, D], with both borders and a whole number among them."""
    d = np.random.default_rng(seed).uniform(0, longest, (groups, features))
    d.flat[:3] = 0.0, longest, longest // 2
    return d


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def delay(d, longest, **options):
    return Delay(d.shape[1], longest, delays=Trainable(d), groups=d.shape[0], **{"param_dtype": jnp.float64} | options)


def run(cell, x, carry=None):
    return cell.unroll(cell.initialize_carry(x.shape[1:]) if carry is None else carry, jnp.asarray(x))


# ------------------------------------------------------------------------------------------------------------- equation


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("longest", "groups"), [(1, 3), (2, 1), (4, 3), (7, 1)])
def test_outputs_and_tangents_are_those_of_loops(longest, groups, width, x64):
    d, x = values(groups, 5, longest), normal(T, B, 5)
    cell = delay(d, longest, width=width)
    np.testing.assert_allclose(run(cell, x)[1], loops.delayed(x, d, longest, width), atol=1e-13)
    tangent = cell.tangent(cell.initialize_carry(x.shape[1:]), jnp.asarray(x))
    np.testing.assert_allclose(tangent, loops.delayed(x, d, longest, width, weight=loops.slope), atol=1e-12)
    taps = [[[loops.kappa(k, d_gi, longest, width) for d_gi in row] for row in d] for k in range(longest + 1)]
    np.testing.assert_allclose(cell.taps(), taps, atol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_whole_steps_delay_exactly_what_comes(dtype):
    x = normal(T, B, 9, dtype=np.float32).astype(dtype)
    cell = Delay(9, 8, delays=np.arange(9), param_dtype=dtype)
    carry, outputs = run(cell, x)
    assert outputs.dtype == dtype
    expected = [np.concatenate([np.zeros((k, B), x.dtype), x[: T - k, :, k]]) for k in range(9)]
    np.testing.assert_array_equal(np.asarray(outputs), np.stack(expected, axis=-1))
    np.testing.assert_array_equal(np.asarray(carry), x[-8:])


def test_the_longest_delay_is_one_step_or_more_and_can_exceed_the_sequence(x64):
    d = np.array([[0.0, 25.0, 8.5]])
    x = normal(T, B, 3)
    np.testing.assert_allclose(run(delay(d, 25), x)[1], loops.delayed(x, d, 25), atol=1e-14)


@pytest.mark.parametrize("width", [None, 0.5])
def test_images_have_a_delay_per_channel(width, x64):
    d, x = values(2, 4, 3), normal(T, B, 2, 3, 4)
    outputs = run(delay(d, 3, width=width), x)[1]
    assert outputs.shape == (T, B, 2, 3, 8)
    for row, column in np.ndindex(2, 3):
        expected = loops.delayed(x[:, :, row, column], d, 3, width)
        np.testing.assert_allclose(outputs[:, :, row, column], expected, atol=1e-13)


def test_the_gaussian_is_dcls_without_what_it_adds_to_the_norm(x64):
    """ConstructKernel1d.forward_vgauss at 096daf8: X = exp(-((k - P) / S)^2 / 2), X / (sum X + 1e-7), S = |sigma| + 0.27."""
    d, sigma = values(1, 6, 8), 0.23
    exponentials = np.exp(-0.5 * ((np.arange(9)[:, None] - d) / (abs(sigma) + 0.27)) ** 2)
    theirs = exponentials / (exponentials.sum(axis=0) + 1e-7)
    np.testing.assert_allclose(delay(d, 8, width=sigma + 0.27).taps()[:, 0], theirs, atol=1e-7)


def test_a_narrow_gaussian_is_finite():
    taps = Delay(2, 9, delays=[3.0, 4.25], width=1e-3).taps()[:, 0]
    np.testing.assert_array_equal(np.asarray(taps).T, np.eye(10)[[3, 4]])


# ------------------------------------------------------------------------------------------------------------ derivative


@pytest.mark.parametrize("width", [None, 0.5])
def test_the_tangent_is_the_derivative_by_each_delay(width, x64):
    d, x = values(2, 4, 5), jnp.asarray(normal(T, B, 4))

    cell = delay(d, 5, width=width)
    tangent = cell.tangent(cell.initialize_carry(x.shape[1:]), x)
    assert np.abs(tangent).max() > 0.1
    jacobian = np.asarray(jax.jacfwd(lambda u: _with(cell, u, x))(jnp.asarray(d))).reshape(T, B, 8, 8)
    np.testing.assert_allclose(jacobian, np.asarray(tangent)[..., None] * np.eye(8), atol=1e-12)
    # and of the outputs themselves, where they have a derivative: not at whole numbers
    inside = np.clip(d + 0.01 * (d == np.round(d)), 0.01, 4.99)
    cell, eps = delay(inside, 5, width=width), 1e-6
    slopes = (run(delay(inside + eps, 5, width=width), x)[1] - run(delay(inside - eps, 5, width=width), x)[1]) / (
        2 * eps
    )
    np.testing.assert_allclose(cell.tangent(cell.initialize_carry(x.shape[1:]), x), slopes, atol=1e-8)


def _with(cell, delays, x):
    graphdef, state = nnx.split(cell)
    state["delays"]["unconstrained"] = delays
    return run(nnx.merge(graphdef, state), x)[1]


def test_at_a_whole_number_the_slope_is_that_of_longer_delays_but_for_the_longest(x64):
    x, eps = jnp.asarray(normal(T, B, 3)), 1e-7
    cell = delay(np.array([[0.0, 2.0, 5.0]]), 5)
    tangent = cell.tangent(cell.initialize_carry(x.shape[1:]), x)
    side = np.array([[1.0, 1.0, -1.0]])
    moved = run(delay(np.array([[0.0, 2.0, 5.0]]) + eps * side, 5), x)[1]
    np.testing.assert_allclose(tangent, np.asarray(moved - run(cell, x)[1]) / (eps * side[0]), atol=1e-6)


def test_beyond_a_border_the_delay_is_at_the_border_and_its_gradient_passes(x64):
    """So a delay that went too far comes back as soon as its gradient turns."""
    x = jnp.asarray(normal(T, B, 4))
    at, beyond = (jnp.asarray(d)[None] for d in ([0.0, 0.0, 3.0, 3.0], [-0.5, -7.0, 3.5, 1e3]))
    cell = delay(np.asarray(at), 3)
    target = normal(T, B, 4, seed=1)

    def loss(delays):
        return jnp.sum((_with(cell, delays, x) - target) ** 2)

    np.testing.assert_array_equal(_with(cell, beyond, x), _with(cell, at, x))
    gradient = jax.grad(loss)(at)
    assert np.all(np.abs(gradient) > 0.1)
    np.testing.assert_array_equal(jax.grad(loss)(beyond), gradient)


def test_a_fixed_delay_has_no_parameters_and_the_width_is_not_one():
    assert not jax.tree.leaves(nnx.state(Delay(3, 4, delays=2.0), nnx.Param))
    assert [leaf.shape for leaf in jax.tree.leaves(nnx.state(Delay(3, 4, width=2.0), nnx.Param))] == [(1, 3)]


def network(d, longest, *, width=None, before=False):
    """Delay, Linear, LIF, Linear, LI, or the delays between the two layers; and the oracle's layers, with lagged inputs."""
    hidden = {"kind": "lif", "decay": 0.8, "threshold": 0.7, "surrogate": "arctan"}
    model, layers = pair([5, 5, 4], [hidden, {"kind": "li", "decay": 0.9}])
    cell = delay(d, longest, width=width)
    modules = list(model.modules)
    place = 0 if before else 2
    modules[place] = linear(cell.out_features, modules[place].out_features, 7)
    kernel, bias = np.asarray(modules[place].kernel[...]), np.asarray(modules[place].bias[...])
    kernels = loops.lagged_kernels(kernel, d, longest, width)
    if before:
        layers = [oracle.Layer(kernels.reshape(-1, kernels.shape[-1]), bias, layers[0].neuron), layers[1]]
    else:
        edges = tuple(oracle.Edge(0, k, kernels[k]) for k in range(1, longest + 1))
        layers = [layers[0], oracle.Layer(kernels[0], bias, layers[1].neuron, edges)]
    return connect([*modules[:place], cell, *modules[place:]]), layers, kernel


@pytest.mark.parametrize("width", [None, 0.5])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("before", [True, False], ids=["before the first layer", "between layers"])
def test_bptt_has_the_gradient_of_the_oracle(before, groups, width, x64):
    longest, x = 3, inputs(T, B, 5)
    d = values(groups, 5, longest)
    model, layers, kernel = network(d, longest, width=width, before=before)
    ours = gradients(model, cross_entropy, x, LABELS)
    theirs = oracle.bptt(layers, loops.lagged(np.asarray(x), longest) if before else np.asarray(x), SIGNAL)
    assert abs(ours[0] - theirs.loss) < 1e-12
    found = theirs.gradients[0 if before else 1]
    if before:
        lags = found["kernel"].reshape(longest + 1, 5, -1)
    else:
        lags = np.stack([found["kernel"], *(found[f"edge{k}_kernel"] for k in range(longest))])
    by_kernel, by_delay = loops.pull_back(lags, kernel, d, longest, width)
    modules = ours[1]["modules"]
    place = 0 if before else 2
    assert np.abs(by_delay).min() > 1e-6
    assert deviation(modules[place]["delays"]["unconstrained"][...], by_delay) < 1e-9
    assert deviation(modules[place + 1]["kernel"][...], by_kernel) < 1e-9
    assert deviation(modules[place + 1]["bias"][...], found["bias"]) < 1e-9


@pytest.mark.parametrize("width", [None, 0.5])
def test_bptt_has_the_slope_of_the_loss_and_no_chunk_changes_it(width, x64):
    d = np.clip(values(2, 5, 4), 0.1, 3.9) + 0.01
    smooth = LI(decay=Trainable(0.7), param_dtype=jnp.float64)
    modules = [
        linear(5, 5, 0),
        smooth,
        jnp.tanh,
        delay(d, 4, width=width),
        linear(10, 4, 1),
        LI(param_dtype=jnp.float64),
    ]
    model, x, eps = connect(modules), jnp.asarray(normal(T, B, 5)), 1e-6
    variable = model.modules[3].delays.unconstrained
    loss, gradient = gradients(model, cross_entropy, x, LABELS)
    ours = np.asarray(gradient["modules"][3]["delays"]["unconstrained"][...])
    for g, i in np.ndindex(d.shape):
        losses = []
        for sign in (1, -1):
            variable[...] = jnp.asarray(d).at[g, i].add(sign * eps)
            losses.append(gradients(model, cross_entropy, x, LABELS)[0])
        variable[...] = jnp.asarray(d)
        assert abs((losses[0] - losses[1]) / (2 * eps) - ours[g, i]) < 1e-8
    assert abs(loss - losses[0]) < 1e-4
    graphdef, state = nnx.split(model)

    def by_chunk(chunk):
        def loss(state):
            model = nnx.merge(graphdef, state)
            return jnp.sum(unroll_cell(model, model.initialize_carry((B, 5)), x, chunk=chunk)[1] ** 2)

        return jax.jit(jax.grad(loss))(state)

    for chunk in (1, 4):
        for a, b in zip(jax.tree.leaves(by_chunk(chunk)), jax.tree.leaves(by_chunk(T)), strict=True):
            assert deviation(a, b) < 1e-12


# ------------------------------------------------------------------------------------------------ pieces of a sequence


@pytest.mark.parametrize(("width", "shape"), [(None, (5,)), (0.5, (5,)), (None, (2, 2, 5))], ids=str)
def test_pieces_of_a_sequence_are_the_sequence_bit_for_bit(width, shape, optimized):
    cell = Delay(5, 4, groups=2, delays=Trainable(values(2, 5, 4)), width=width)
    x = jnp.asarray(normal(T, B, *shape, dtype=np.float32))

    @jax.jit
    def whole(carry, x):
        return cell.unroll(carry, x)

    start = cell.initialize_carry(x.shape[1:])
    end, outputs = whole(start, x)
    for cut in (1, 2, 7):
        middle, first = whole(start, x[:cut])
        last, rest = whole(middle, x[cut:])
        np.testing.assert_array_equal(np.concatenate([first, rest]), outputs)
        np.testing.assert_array_equal(last, end)
    step, carry = jax.jit(cell.__call__), start
    for t in range(T):
        carry, now = step(carry, x[t])
        np.testing.assert_array_equal(now, outputs[t])
    np.testing.assert_array_equal(carry, end)
    for chunk in (1, 3, T):
        carry, again = jax.jit(lambda carry, x, chunk=chunk: unroll_cell(cell, carry, x, chunk=chunk))(start, x)
        np.testing.assert_array_equal(again, outputs)
        np.testing.assert_array_equal(carry, end)


def test_it_runs_in_the_stock_rnn():
    cell = Delay(5, 4, rngs=nnx.Rngs(0))
    x = jnp.asarray(normal(T, B, 5, dtype=np.float32))
    carry, outputs = nnx.RNN(cell, time_major=True, return_carry=True)(x, initial_carry=cell.initialize_carry((B, 5)))
    np.testing.assert_array_equal(outputs, run(cell, x)[1])
    np.testing.assert_array_equal(carry, run(cell, x)[0])


def test_making_the_gaussian_narrower_compiles_nothing():
    cell = Delay(5, 4, width=2.0)
    graphdef, state = nnx.split(cell)
    traced = []

    @jax.jit
    def outputs(state, x):
        traced.append(1)
        return run(nnx.merge(graphdef, state), x)[1]

    x = jnp.ones((T, B, 5))
    wide = outputs(state, x)
    cell.width[...] *= 0.1
    assert not np.array_equal(outputs(nnx.state(cell), x), wide)
    assert len(traced) == 1


# ---------------------------------------------------------------------------------------------------------- initialization


def test_delays_start_at_zero_or_uniform_or_where_they_are_told():
    assert Delay(3, 5, groups=2).delays.value.tolist() == [[0.0] * 3] * 2
    drawn = np.asarray(Delay(1000, 5, rngs=nnx.Rngs(0)).delays.value)
    assert drawn.min() >= 0
    assert drawn.max() <= 5
    np.testing.assert_allclose(np.quantile(drawn, [0.25, 0.5, 0.75]), [1.25, 2.5, 3.75], atol=0.25)
    assert Delay(3, 5, groups=2, delays=[0.0, 1.0, 5.0]).delays.value.tolist() == [[0.0, 1.0, 5.0]] * 2
    assert Delay(2, 5, groups=2, delays=Trainable(np.array([[0, 1], [2, 3.5]]))).delays.value.tolist() == [
        [0, 1],
        [2, 3.5],
    ]
    assert "unconstrained" in vars(Delay(3, 5, rngs=nnx.Rngs(0)).delays)


def test_it_can_be_made_inside_a_traced_function():
    abstract = nnx.eval_shape(lambda: Delay(3, 5, rngs=nnx.Rngs(0)))
    assert abstract.delays.unconstrained.shape == (1, 3)
    made = nnx.jit(lambda: Delay(3, 5, rngs=nnx.Rngs(0)))()
    np.testing.assert_allclose(made.delays.value, Delay(3, 5, rngs=nnx.Rngs(0)).delays.value, rtol=1e-6)


@pytest.mark.parametrize("trained", [True, False])
def test_rounded_delays_are_whole_steps_and_exact(trained):
    d = np.array([[0.4, 2.6, 4.9]])
    cell = Delay(3, 5, delays=Trainable(d) if trained else d, width=2.0)
    if trained:
        cell.delays.unconstrained[...] += 3.0
    other = cell.rounded()
    assert other.width is None
    assert other.delays.value.tolist() == [[3.0, 5.0, 5.0] if trained else [0.0, 3.0, 5.0]]
    assert bool(jax.tree.leaves(nnx.state(other, nnx.Param))) == trained


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Delay(0, 5), r"in_features=0, expected at least 1"),
        (lambda: Delay(3, 0), r"max_delay=0, expected at least 1"),
        (lambda: Delay(3, 5, groups=0), r"groups=0, expected at least 1"),
        (lambda: Delay(3, 5, width=0.0), r"width=0.0, expected a number of steps > 0, or None"),
        (lambda: Delay(3, 5, width=np.nan), r"width=nan, expected"),
        (lambda: Delay(3, 5, delays=5.5), r"got .* 5.5\]\], expected numbers inside \[0.0, 5.0\]"),
        (lambda: Delay(3, 5, delays=Trainable([0.0, 1.0, -1.0])), r"expected numbers inside \[0.0, 5.0\]"),
        (
            lambda: Delay(3, 5, delays=[1.0, 2.0]),
            r"shape \[2\], expected a number, one per input, \[3\], or .* \[1, 3\]",
        ),
        (lambda: Delay(3, 5, groups=2, delays=np.ones((3, 3))), r"shape \[3, 3\], .* \[2, 3\]"),
        (lambda: Delay(3, 5, delays=1.0, rngs=nnx.Rngs(0)), "got delays and rngs, .* Pass one of the two"),
        (lambda: run(Delay(3, 5), jnp.ones((T, B, 4))), r"inputs of shape \[3, 4\] per step, expected 3 features"),
        (
            lambda: Delay(3, 5).unroll(jnp.ones((4, B, 3)), jnp.ones((T, B, 3))),
            r"a carry of float32\[4, 3, 3\] .* expected float32\[5, 3, 3\]. Make the carry with initialize_carry\(\(3, 3\)\)",
        ),
        (
            lambda: run(Delay(3, 5), jnp.ones((T, B, 3), jnp.bfloat16)),
            r"float32\[5, 3, 3\] for inputs of bfloat16.* the Delay with param_dtype=bfloat16",
        ),
    ],
)
def test_what_is_wrong_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------------------------------------------------- in stacks


def stack(d=None, edges=None):
    """0 Delay, 1 Linear, 2 LIF, 3 Delay, 4 Linear, 5 LI."""
    options = {"param_dtype": jnp.float64}
    modules = [
        delay(values(1, 5, 3), 3),
        linear(5, 6, 0),
        LIF(**options),
        delay(values(2, 6, 4, seed=1), 4),
        linear(12, 4, 1),
        LI(**options),
    ]
    return connect(modules, edges, rngs=nnx.Rngs(3))


EDGES = {
    "none": None,
    "recurrent, through its own delays": {1: [3]},
    "feedback, not delayed": {1: [2]},
    "into the Linear behind a delay": {4: [2]},
    "late, from a delay": [Edge(3, 4, delay=2)],
    "all": {1: [2, 3, 5], 4: [0, 2, 3]},
}


@pytest.mark.parametrize("edges", EDGES)
def test_stacks_are_loops_over_their_modules(edges, x64):
    """Delays by `oracle.lagged` from all inputs that ever were; edges end behind the delay, and begin behind it too."""
    model, x = stack(edges=EDGES[edges]), normal(T, B, 5)
    carry = model.initialize_carry((B, 5))
    assert carry[0].shape == (3, B, 5)
    seen, history = {0: [], 3: []}, [[] for _ in model.modules]
    states = {2: jnp.zeros((B, 6)), 5: jnp.zeros((B, 4))}
    for x_t in x:
        below = x_t
        for index, module in enumerate(model.modules):
            if isinstance(module, Delay):
                seen[index].append(np.asarray(below))
                d = np.asarray(module.delays.value)
                below = loops.delayed(np.stack(seen[index]), d, module.max_delay)[-1]
            elif index in states:
                states[index], below = module(states[index], jnp.asarray(below))
            else:
                below = module(jnp.asarray(below))
                for edge, synapse in model.edges_into(index):
                    past = [np.zeros((B, history_size(model, edge.sender)))] * edge.steps + history[edge.sender]
                    now = past[len(history[index])]
                    below = below + synapse(jnp.asarray(now))
            history[index].append(np.asarray(below))
    expected = np.stack(history[-1])
    assert len(np.unique(np.stack(history[2]))) == 2
    for chunk in (1, 4, T):
        np.testing.assert_allclose(unroll_cell(model, carry, jnp.asarray(x), chunk=chunk)[1], expected, atol=1e-12)
    for t in range(T):
        carry, now = model(carry, jnp.asarray(x[t]))
        np.testing.assert_allclose(now, expected[t], atol=1e-12)


def history_size(model, index):
    return {0: 5, 1: 6, 2: 6, 3: 12, 4: 4, 5: 4}[index]


def test_no_edge_ends_at_a_delay_or_runs_through_one():
    with pytest.raises(TypeError, match="into a Delay: a cell takes input only from the chain"):
        connect([Delay(3, 2), LIF()], {0: [1]})
    with pytest.raises(TypeError, match=r"a Delay as the synapse of .* expected no carry. Put it into the chain"):
        connect([linear(3, 3, 0, jnp.float32), LIF()], [Edge(1, 0, synapse=Delay(3, 2))])
    with pytest.raises(ValueError, match="Module 1 of the stack, Delay, expects 4 features in the last axis"):
        connect([linear(3, 3, 0, jnp.float32), Delay(4, 2)]).initialize_carry((B, 3))


def test_the_engine_and_the_analyses_know_it():
    cell = Delay(8, 5, groups=2, delays=Trainable(values(2, 8, 5)))
    model = connect([cell, nnx.Linear(16, 4, rngs=nnx.Rngs(0)), LIF()])
    assert not mutates_state(model)
    assert model.num_feature_axes == 1
    assert connect([Delay(1, 2), nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)), LIF()]).num_feature_axes == 3
    x = jax.random.bernoulli(jax.random.key(0), 0.5, (T, B, 8)).astype(jnp.float32)
    carry = model.initialize_carry((B, 8))
    long, late = jnp.zeros((4000, B, 8)), connect([Delay(8, 500, groups=2), *list(model.modules)[1:]])
    assert default_chunk(carry, long) == default_chunk(late.initialize_carry((B, 8)), long)
    rows = summary(model, (B, 8)).modules
    assert (rows[0].kind, rows[0].output, rows[0].states, rows[0].parameters) == ("Delay", "[3, 16]", "[5, 3, 8]", 16)
    assert health(model, x).layers[0].units == 4
    counts = complexity(model, x)
    assert counts.footprint == 4 * (16 + 16 * 4 + 4)
    assert counts.dense == T * 16 * 4
    assert counts.effective_acs < counts.effective_macs  # spikes behind a fraction of a step are no spikes
    model.modules[0] = cell.rounded()
    counts = complexity(model, x)
    assert counts.effective_macs == 0
    assert counts.effective_acs > 0


def test_a_fixed_delay_first_says_which_dtype_the_stack_has(x64):
    narrow = nnx.Linear(3, 4, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    model = connect([Delay(3, 2, delays=1.0), lambda x: x.astype(jnp.bfloat16), narrow])
    carry = model.initialize_carry((B, 3))
    assert carry[0].dtype == jnp.float32
    assert unroll_cell(model, carry, jnp.ones((T, B, 3), jnp.float32))[1].dtype == jnp.bfloat16


def test_dropout_behind_it_and_stacks_around_it():
    inner = connect([Delay(8, 3, rngs=nnx.Rngs(1)), nnx.Linear(8, 4, rngs=nnx.Rngs(0)), LIF()])
    model = connect(
        [inner, Dropout(0.5, rngs=nnx.Rngs(0)), Delay(4, 3, groups=2), BlockDiagonal(8, 4, 2, rngs=nnx.Rngs(0)), LI()]
    )
    x = jnp.ones((T, B, 8))
    carry = model.initialize_carry((B, 8))
    outputs = unroll_cell(model, carry, x)[1]
    middle, first = unroll_cell(model, carry, x[:4])
    np.testing.assert_array_equal(np.concatenate([first, unroll_cell(model, middle, x[4:])[1]]), outputs)


# ------------------------------------------------------------------------------------------------------------- the blocks


def test_a_block_diagonal_is_a_linear_with_zeros_outside_the_blocks(x64):
    blocks = BlockDiagonal(12, 8, 4, bias_init=nnx.initializers.normal(1.0), param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    kernel, bias = blocks.effective()
    assert kernel.shape == (12, 8)
    for g, h in itertools.product(range(4), range(4)):
        block = kernel[3 * g : 3 * g + 3, 2 * h : 2 * h + 2]
        np.testing.assert_array_equal(block, blocks.kernel[...][g] if g == h else np.zeros((3, 2)))
    x = jnp.asarray(normal(T, B, 12))
    np.testing.assert_allclose(blocks(x), x @ kernel + bias[None, None], atol=1e-14)
    without = BlockDiagonal(12, 8, 4, use_bias=False, rngs=nnx.Rngs(0))
    assert without.effective()[1] is None
    narrow = BlockDiagonal(12, 8, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert narrow(jnp.ones((B, 12), jnp.float32)).dtype == jnp.bfloat16


def test_a_block_diagonal_starts_like_linears_and_counts_like_a_grouped_convolution():
    init = nnx.initializers.lecun_normal()
    blocks = BlockDiagonal(4 * 100, 4 * 50, 4, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(np.std(np.asarray(blocks.kernel[...]), axis=(1, 2)), 0.1, rtol=0.05)
    custom = BlockDiagonal(
        12, 8, 4, kernel_init=lambda key, shape, dtype: jnp.full(shape, shape[0], dtype), rngs=nnx.Rngs(0)
    )
    assert np.unique(custom.kernel[...]).tolist() == [3.0]
    x = jax.random.bernoulli(jax.random.key(0), 0.5, (T, B, 12)).astype(jnp.float32)
    model = connect([BlockDiagonal(12, 8, 4, kernel_init=init, rngs=nnx.Rngs(0)), LIF()])
    convolution = nnx.Conv(12, 8, (1,), feature_group_count=4, rngs=nnx.Rngs(0))
    grouped = connect([lambda x: x[:, None], convolution, lambda x: x[:, 0], LIF()])
    ours, theirs = complexity(model, x), complexity(grouped, x)
    assert (ours.dense, ours.effective_acs, ours.footprint) == (theirs.dense, theirs.effective_acs, theirs.footprint)


def test_groups_and_blocks_are_delays_per_input_and_group_of_outputs(x64):
    """Against a loop over connections, each with the delay of its group."""
    d, x = values(2, 5, 3), normal(T, B, 5)
    blocks = BlockDiagonal(10, 6, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    outputs = unroll_cell(connect([delay(d, 3), blocks]), (jnp.zeros((3, B, 5)), ()), jnp.asarray(x))[1]
    expected = np.zeros((T, B, 6))
    for g, i, n in np.ndindex(2, 5, 3):
        one = loops.delayed(x[:, :, i : i + 1], d[g : g + 1, i : i + 1], 3)[..., 0]
        expected[:, :, 3 * g + n] += float(blocks.kernel[...][g, i, n]) * one
    np.testing.assert_allclose(outputs, expected, atol=1e-13)


@pytest.mark.parametrize("sizes", [(10, 8, 4), (12, 7, 4), (12, 8, 0)], ids=str)
def test_blocks_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match="expected numbers that the number of groups divides"):
        BlockDiagonal(*sizes, rngs=nnx.Rngs(0))
