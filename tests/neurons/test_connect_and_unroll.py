import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI, LIF, DelayBuffer, Edge, Trainable, connect, unroll
from slax_neurons.engine import default_chunk, even_length, scan_chunks
from stacks import deviation, inputs, linear, pair

T, B = 11, 3
HIDDEN = linear(7, 4, 0, jnp.float32)


def three_layers():
    """Layers, a nested stack, a function, and a module without a carry."""
    inner = connect([linear(6, 5, 1), LIF(decay=Trainable(np.linspace(0.5, 0.9, 5)), param_dtype=jnp.float64)])
    return connect(
        [
            linear(7, 6, 0),
            LIF(param_dtype=jnp.float64),
            linear(6, 6, 3),
            inner,
            jnp.tanh,
            linear(5, 4, 2),
            LI(param_dtype=jnp.float64),
        ]
    )


def step_by_step(model, x):
    carry, outputs = model.initialize_carry(x.shape[1:]), []
    for inputs_t in x:
        carry, output = model(carry, inputs_t)
        outputs.append(output)
    return carry, jnp.stack(outputs)


def test_stack_is_its_modules_one_after_the_other(x64):
    model, x = three_layers(), inputs(T, B, 7)
    first, neuron, mixing, inner, _, last, read_out = model.modules
    h, u, w, o = jnp.zeros((B, 6)), jnp.zeros((B, 5)), None, jnp.zeros((B, 4))
    outputs = []
    for t in range(T):
        h, spikes = neuron(h, first(x[t]))
        u, w = inner.modules[1](u, inner.modules[0](mixing(spikes)))
        o, output = read_out(o, last(jnp.tanh(w)))
        outputs.append(output)
    np.testing.assert_array_equal(step_by_step(model, x)[1], jnp.stack(outputs))


@pytest.mark.parametrize("chunk", [None, 1, 2, 4, 5, T, 100])
def test_unroll_with_any_chunk_equals_step_by_step(chunk, x64):
    model, x = three_layers(), inputs(T, B, 7)
    carry, outputs = step_by_step(model, x)
    ours = unroll(model, model.initialize_carry((B, 7)), x, chunk=chunk)
    assert outputs.any()
    assert jax.tree.structure(ours[0]) == jax.tree.structure(carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), ours, (carry, outputs))


@pytest.mark.parametrize("chunk", [1, 4, T])
def test_gradient_does_not_depend_on_the_chunk(chunk, x64):
    model, x = three_layers(), inputs(T, B, 7)

    def loss(model, chunk):
        return jnp.sum(jnp.sin(unroll(model, model.initialize_carry((B, 7)), x, chunk=chunk)[1]))

    ours, theirs = nnx.grad(loss)(model, chunk), nnx.grad(loss)(model, 3)
    assert max(jax.tree.leaves(jax.tree.map(deviation, ours, theirs))) < 1e-11


def test_stock_rnn_gives_the_same_numbers(x64):
    model, x = three_layers(), inputs(T, B, 7)
    theirs = nnx.RNN(model, time_major=True, return_carry=True)(x)
    ours = unroll(model, model.initialize_carry((B, 7)), x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), ours, theirs)


def test_batch_major_stock_rnn_of_a_convolution_finds_the_time_axis(x64):
    conv = nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    model = connect([conv, LIF(threshold=0.2, param_dtype=jnp.float64)])
    x = jax.random.uniform(jax.random.key(0), (T, B, 4, 5, 2))
    ours = unroll(model, model.initialize_carry(x.shape[1:]), x, chunk=3)[1]
    theirs = nnx.RNN(model)(jnp.moveaxis(x, 0, 1))
    np.testing.assert_allclose(ours, jnp.moveaxis(theirs, 1, 0), rtol=1e-12)
    assert 0 < ours.mean() < 1


def test_samples_do_not_see_each_other(x64):
    """vmap over the batch, and each sample alone, give what the batch gives."""
    model, x = three_layers(), inputs(T, B, 7)
    batch = unroll(model, model.initialize_carry((B, 7)), x)[1]
    alone = jax.vmap(lambda x: unroll(model, model.initialize_carry((1, 7)), x[:, None])[1][:, 0], 1, 1)(x)
    np.testing.assert_allclose(batch, alone, rtol=1e-12, atol=1e-14)


def test_jit_and_checkpoint_change_nothing(x64):
    model, x = three_layers(), inputs(T, B, 7)

    def loss(model):
        return jnp.sum(unroll(model, model.initialize_carry((B, 7)), x, chunk=4)[1] ** 2)

    eager, jitted, saved = nnx.grad(loss)(model), nnx.jit(nnx.grad(loss))(model), nnx.grad(nnx.remat(loss))(model)
    for other in (jitted, saved):
        assert max(jax.tree.leaves(jax.tree.map(deviation, other, eager))) < 1e-11


def test_forward_and_reverse_mode_agree_on_a_whole_stack(x64):
    model, x = three_layers(), inputs(T, B, 7)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        return jnp.sum(
            jnp.sin(unroll(nnx.merge(graphdef, params, rest), model.initialize_carry((B, 7)), x, chunk=4)[1])
        )

    ones = jax.tree.map(jnp.ones_like, params)
    _, forward = jax.jvp(loss, (params,), (ones,))
    reverse = sum(leaf.sum() for leaf in jax.tree.leaves(jax.grad(loss)(params)))
    assert forward == pytest.approx(float(reverse), rel=1e-11)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("head", [None, lambda x: {"y": x, "first": x[:, 0]}], ids=["an array", "a tree"])
def test_inside_shard_map_over_the_batch(head, chunk, check_vma, x64):
    """Outputs and gradients are those of the whole batch, a late edge and a tree of outputs included."""
    layers = [linear(7, 6, 0), LIF(decay=Trainable(0.8), param_dtype=jnp.float64), *([head] if head else [])]
    model, x = connect(layers, [Edge(1, 0, synapse=linear(6, 6, 1))]), inputs(T, 4, 7)
    graphdef, params = nnx.split(model)
    carry = model.initialize_carry((4, 7))
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, steps = jax.P("devices"), jax.P(None, "devices")
    specs = ((), DelayBuffer(rows, steps), *([()] if head else []))

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(jax.P(), specs, steps), out_specs=steps, check_vma=check_vma)
    def split(params, carry, x):
        return unroll(nnx.merge(graphdef, params), carry, x, chunk=chunk)[1]

    def whole(params, carry, x):
        return unroll(nnx.merge(graphdef, params), carry, x, chunk=chunk)[1]

    def loss(function):
        return lambda params: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(function(params, carry, x)))

    jax.tree.map(np.testing.assert_array_equal, jax.jit(split)(params, carry, x), jax.jit(whole)(params, carry, x))
    ours, theirs = jax.jit(jax.grad(loss(split)))(params), jax.jit(jax.grad(loss(whole)))(params)
    assert max(jax.tree.leaves(jax.tree.map(deviation, ours, theirs))) < 1e-11
    assert all(leaf.any() for leaf in jax.tree.leaves(theirs))


def test_one_matrix_product_per_layer_and_chunk():
    """Not one per step: the product of the stack's chunk has steps x batch rows."""
    model, _ = pair([7, 6], [{"kind": "lif"}], dtype=jnp.float32)
    text = str(
        jax.make_jaxpr(lambda x: unroll(model, model.initialize_carry((B, 7)), x, chunk=4)[1])(jnp.zeros((8, B, 7)))
    )
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 1
    assert f"f32[{4 * B},6]" in products[0]


def test_scan_chunks_puts_unequal_pieces_together():
    def function(total, x):
        return total + x.sum(), x * 10 + total

    total, outputs = scan_chunks(function, jnp.zeros(()), jnp.arange(7.0), 3)
    assert total == 21
    np.testing.assert_array_equal(outputs, jnp.arange(7.0) * 10 + jnp.array([0.0, 0, 0, 3, 3, 3, 15]))


def test_default_chunk_fits_the_cache_and_the_sequence():
    def steps(n, length=1000, batch=32):
        model = connect([nnx.Linear(n, n, rngs=nnx.Rngs(0)), LIF()])
        return default_chunk(model.initialize_carry((batch, n)), jnp.zeros((length, batch, n)))

    # Arrays of 1.5 MB have 768, 96, 48, 24 and 12 steps; chunks are near these, or near 32, and equally long.
    assert [steps(16), steps(128), steps(256), steps(512), steps(1024)] == [1000, 100, 40, 25, 25]
    assert [steps(16, length=20), steps(512, length=40)] == [20, 40]
    assert [steps(128, batch=16), steps(128, batch=1)] == [200, 1000]
    half = LIF(param_dtype=jnp.bfloat16).initialize_carry((32, 128))
    assert default_chunk(half, jnp.zeros((1000, 32, 128), jnp.bfloat16)) == 40  # for 48


def test_pieces_are_equally_long_if_a_length_nearby_allows_it():
    assert [even_length(steps, 32) for steps in (20, 47, 48, 96, 100, 97)] == [20, 47, 24, 32, 25, 33]


def test_a_model_that_is_built_twice_is_traced_once():
    traces = []

    @nnx.jit
    def run(model, x):
        traces.append(1)
        return unroll(model, model.initialize_carry((B, 7)), x)[1]

    for seed in range(2):
        rngs = nnx.Rngs(seed)
        run(connect([nnx.Linear(7, 4, rngs=rngs), jnp.tanh, LIF()]), inputs(T, B, 7, dtype=jnp.float32))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("modules", "error", "message"),
    [
        ([], ValueError, "connect got no modules"),
        ([LIF], TypeError, r"the class LIF as module 0, .* Make one: LIF\(...\)"),
        ([LIF(), 3], TypeError, "connect got int as module 1, expected a cell"),
        ([nnx.RNN(LIF())], TypeError, "an nnx.RNN as module 0"),
        (LIF(), TypeError, r"connect got one LIF, expected a list"),
        ([lambda x: HIDDEN(x)], TypeError, "a function as module 0 that uses Linear"),
        ([linear(7, 4, 0, jnp.float32).__call__], TypeError, "a function as module 0 that uses Linear"),
        (
            [(lambda hidden: lambda x: hidden(x))(linear(7, 4, 0, jnp.float32))],
            TypeError,
            "a function as module 0 that uses Linear",
        ),
        (
            [functools.partial(nnx.Linear.__call__, linear(7, 4, 0, jnp.float32))],
            TypeError,
            "a function as module 0 that uses Linear",
        ),
    ],
)
def test_what_connect_cannot_use_is_an_error(modules, error, message):
    with pytest.raises(error, match=message):
        connect(modules)


def small():
    return connect([linear(7, 4, 0, jnp.float32), LIF()])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small().initialize_carry((B, 6)), r"Module 0 of the stack, Linear, expects 7 features .* \[3, 6\]"),
        (lambda: unroll(small(), small().initialize_carry((B, 7)), jnp.zeros((T, B, 6))), "expects 7 features"),
        (lambda: small()(small().initialize_carry((B, 7)), jnp.zeros((B, 6))), "expects 7 features"),
        (lambda: unroll(small(), ((), jnp.zeros((B, 4))), jnp.zeros((T, 7))), r"\[11, 7\], expected \[T, B, features"),
        (lambda: unroll(small(), ((),), jnp.zeros((T, B, 7))), "Got a carry of 1 for 2 modules"),
        (lambda: unroll(small(), jnp.zeros((B, 4)), jnp.zeros((T, B, 7))), "Got a carry of .* for 2 modules"),
        (lambda: unroll(small(), small().initialize_carry((2, 7)), jnp.zeros((T, B, 7))), r"carry of float32\[2, 4\]"),
        (lambda: unroll(LIF(), jnp.zeros((B, 7)), jnp.zeros((T, B, 7)), chunk=0), "length of 0 steps"),
        (lambda: unroll(LIF(), jnp.zeros((B, 7)), jnp.zeros((0, B, 7))), "a sequence of 0 steps"),
        (
            lambda: unroll(
                connect([lambda x: x.sum(0, keepdims=True), LIF()]), ((), jnp.zeros((1, 7))), jnp.zeros((T, B, 7))
            ),
            "may not mix samples or steps",
        ),
    ],
)
def test_bad_input_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
