"""Extra edges of a stack against loops that keep all outputs that ever were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI, LIF, DelayBuffer, Dropout, Edge, connect, unroll
from slax_neurons.engine import default_chunk
from slax_rules import BPTT, TBPTT, cross_entropy, gradients
from stacks import deviation, inputs, linear

T, B = 11, 3
# Indices: 0 Linear, 1 LIF, 2 Linear, 3 LIF, 4 Linear, 5 LI.
WIRINGS = {
    "none": None,
    "self": {0: [1]},
    "feedback": {0: [3]},
    "skip": {4: [1]},
    "several senders": {0: [1, 3], 4: [1, 3]},
    "several receivers": {0: [3], 2: [3], 4: [3]},
    "two cycles": {0: [1], 2: [3]},
    "crossing cycles": {0: [3], 2: [5]},
    "everything late": [Edge(1, 4, delay=3), Edge(3, 2, delay=2), Edge(1, 2, delay=1), Edge(1, 0, delay=8)],
    "two delays of one edge": [Edge(1, 0), Edge(1, 0, delay=4)],
}


def neuron(kind=LIF, **options):
    return kind(param_dtype=jnp.float64, **options)


def stack(edges):
    modules = [
        linear(7, 6, 0),
        neuron(threshold=1.5),
        linear(6, 5, 1),
        neuron(threshold=1.5),
        linear(5, 4, 2),
        neuron(LI),
    ]
    return connect(modules, edges, rngs=nnx.Rngs(3))


def reference(model, x):
    """y_i(t) = module_i(y_{i-1}(t)) + sum of synapse(y_j(t - delay)), zero before the first step."""
    carries = [module.initialize_carry((B, n)) for module, n in zip(model.modules, (7, 6, 6, 5, 5, 4), strict=True)
               if not isinstance(module, nnx.Linear)]  # fmt: skip
    history = [[] for _ in model.modules]
    for x_t in x:
        below = x_t
        for index, module in enumerate(model.modules):
            if index % 2:
                carries[index // 2], below = module(carries[index // 2], below)
            else:
                below = below @ module.kernel[...] + module.bias[...][None]
                for edge, synapse in zip(model.edges, model.synapses, strict=True):
                    if edge.receiver == index:
                        past = history[edge.sender]
                        sender = model.modules[edge.sender - 1].out_features
                        at = len(history[index]) - edge.steps
                        y = past[at] if at >= 0 else jnp.zeros((B, sender))
                        below = below + y @ synapse.kernel[...] + synapse.bias[...][None]
            history[index].append(below)
    return jnp.stack(history[-1])


@pytest.mark.parametrize("edges", WIRINGS.values(), ids=WIRINGS)
def test_every_way_to_run_a_wiring_is_its_equation(edges, x64):
    """Whole, in chunks, step by step, and in the stock RNN: outputs, last carry, and the gradient of all parameters."""
    model, x = stack(edges), inputs(T, B, 7)
    graphdef, params = nnx.split(model)

    def run(chunk):
        return jax.jit(lambda: unroll(model, model.initialize_carry((B, 7)), x, chunk=chunk))()

    carry, outputs = run(None)
    np.testing.assert_allclose(outputs, reference(model, x), rtol=1e-12, atol=1e-13)
    others = [run(1), run(4), nnx.RNN(model, time_major=True, return_carry=True)(x)]
    for other in others:
        assert jax.tree.structure(other) == jax.tree.structure((carry, outputs))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), other, (carry, outputs))

    def loss(params, run):
        return jnp.sum(jnp.sin(run(nnx.merge(graphdef, params))))

    def ours(model):
        return unroll(model, model.initialize_carry((B, 7)), x, chunk=4)[1]

    def theirs(model):
        return reference(model, x)

    gradients = [jax.jit(jax.grad(loss), static_argnums=1)(params, run) for run in (ours, theirs)]
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients[1])) or "Edge(1, 0, delay=8)" in repr(edges)
    assert max(jax.tree.leaves(jax.tree.map(deviation, *gradients))) < 1e-11


@pytest.mark.parametrize("window", [None, 4])
def test_gradients_take_stacks_with_edges(window, x64):
    """BPTT and TBPTT of a recurrent stack, nested or not, by the package's own loop."""
    model, x, labels = stack(WIRINGS["crossing cycles"]), inputs(T, B, 7), jnp.array([0, 3, 1])
    nested = connect([model])
    graphdef, params = nnx.split(model)

    def loss(params):
        model, carry, total = nnx.merge(graphdef, params), None, 0.0
        for start in range(0, T, window or T):
            piece = x[start : start + (window or T)]
            carry = model.initialize_carry((B, 7)) if carry is None else jax.lax.stop_gradient(carry)
            carry, outputs = unroll(model, carry, piece)
            total = total + jnp.sum(cross_entropy(outputs, labels)) / (T * B)
        return total

    theirs = jax.grad(loss)(params)
    for cell, pick in ((model, lambda g: g), (nested, lambda g: g["modules"][0])):
        rule = BPTT() if window is None else TBPTT(steps=window)
        ours = gradients(cell, cross_entropy, x, labels, rule=rule)[1]
        assert max(jax.tree.leaves(jax.tree.map(deviation, dict(pick(ours)), dict(theirs)))) < 1e-11


def test_remat_changes_nothing_but_the_memory(x64):
    """Gradients equal, less kept between the passes; also where one chunk would be the whole sequence."""
    model, x = stack(WIRINGS["crossing cycles"]), inputs(T, B, 7)
    graphdef, params = nnx.split(model)

    def loss(params, **options):
        model = nnx.merge(graphdef, params)
        return jnp.sum(jnp.sin(unroll(model, model.initialize_carry((B, 7)), x, **options)[1]))

    theirs = jax.grad(loss)(params)
    for options in ({}, {"chunk": 4}, {"chunk": T}):
        ours = jax.grad(lambda params, options=options: loss(params, remat=True, **options))(params)
        assert max(jax.tree.leaves(jax.tree.map(deviation, ours, theirs))) < 1e-11


def test_remat_keeps_less():
    model = connect([linear(16, 16, 0, jnp.float32), LIF(), linear(16, 16, 1, jnp.float32), LIF()])
    graphdef, params = nnx.split(model)

    def temporaries(remat):
        def loss(params, x):
            model = nnx.merge(graphdef, params)
            return jnp.sum(unroll(model, model.initialize_carry((8, 16)), x, chunk=16, remat=remat)[1][..., :1])

        compiled = jax.jit(jax.grad(loss)).lower(params, jnp.ones((512, 8, 16))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(True) < 0.75 * temporaries(False)


def test_a_long_delay_does_not_shorten_the_chunk():
    def chunk(edges):
        model = connect([L, LIF()], edges, rngs=nnx.Rngs(0))
        return default_chunk(model.initialize_carry((B, 3)), jnp.zeros((10**6, B, 3)))

    assert chunk([Edge(1, 0, delay=50)]) == chunk(None)


def test_wirings_differ(x64):
    """None of the edges above is without effect."""
    outputs = {name: stack(edges) for name, edges in WIRINGS.items()}
    x = inputs(T, B, 7)
    outputs = {name: np.asarray(unroll(m, m.initialize_carry((B, 7)), x)[1]) for name, m in outputs.items()}
    names = list(outputs)
    same = [(a, b) for i, a in enumerate(names) for b in names[:i] if np.abs(outputs[a] - outputs[b]).max() < 1e-3]
    assert not same


def one(weight):
    layer = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.full((1, 1), weight)
    return layer


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        (None, [0, 1, 0, 0, 0]),
        ([Edge(1, 0, synapse=one(1.5))], [0, 1, 1, 1, 1]),  # once it has fired it drives itself
        ([Edge(1, 0, delay=2, synapse=one(1.5))], [0, 1, 0, 1, 0]),
        ([Edge(1, 0, synapse=one(-1.0))], [0, 1, 0, 0, 0]),
    ],
    ids=["none", "self", "self, two steps late", "self-inhibition"],
)
def test_one_neuron_by_hand(edges, expected):
    """decay 1/2, threshold 1, weight 1, inputs .8 .8 .2 .2 .2: v = .8, 1.2 (fires, .2 left), ..."""
    model = connect([one(1.0), LIF(decay=0.5)], edges)
    x = jnp.array([0.8, 0.8, 0.2, 0.2, 0.2])[:, None, None]
    np.testing.assert_array_equal(unroll(model, model.initialize_carry((1, 1)), x)[1].ravel(), expected)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([Edge(3, 0, synapse=one(2.0))], [1, 1, 1, 1]),  # read one step late, from the first spike on
        ([Edge(0, 2, synapse=one(0.5))], [1, 0, 0, 0]),  # the current .8 twice over: .8 x .5 more within the step
    ],
    ids=["feedback", "skip"],
)
def test_two_layers_by_hand(edges, expected):
    """Inputs 1.2 0 0 0. Layer 1 fires at once; what it sends is enough for layer 2 (weight 1)."""
    model = connect([one(1.0), LIF(decay=0.5), one(1.0), LIF(decay=0.5)], edges)
    x = jnp.array([1.2, 0, 0, 0])[:, None, None]
    np.testing.assert_array_equal(unroll(model, model.initialize_carry((1, 1)), x)[1].ravel(), expected)


def test_only_a_cycle_is_stepped():
    """Products of a chunk: three layers on all rows, and inside the scan of the cycle the feedback's alone."""
    sizes = [7, 6, 5, 4]
    modules = [m for i in range(3) for m in (linear(sizes[i], sizes[i + 1], i, jnp.float32), LIF())]
    model = connect(modules, {2: [3]}, rngs=nnx.Rngs(0))
    text = str(
        jax.make_jaxpr(lambda x: unroll(model, model.initialize_carry((B, 7)), x, chunk=4)[1])(jnp.zeros((8, B, 7)))
    )
    shapes = sorted(line.split("f32[")[1].split("]")[0] for line in text.splitlines() if "dot_general" in line)
    assert shapes == sorted([f"{4 * B},6", f"{4 * B},5", f"{4 * B},4", f"{B},5"])


def test_a_nested_stack_with_a_cycle_is_that_cycle(x64):
    flat = connect([linear(7, 6, 0), neuron(), linear(6, 4, 1), neuron()], [Edge(1, 0, synapse=linear(6, 6, 5))])
    inner = connect(list(flat.modules)[:2], [Edge(1, 0, synapse=flat.synapses[0])])
    nested = connect([inner, *list(flat.modules)[2:]])
    x = inputs(T, B, 7)
    runs = [unroll(model, model.initialize_carry((B, 7)), x, chunk=3)[1] for model in (flat, nested)]
    np.testing.assert_allclose(*runs, rtol=1e-12)
    assert runs[0].any()


def test_each_edge_has_its_own_synapse_of_the_receivers_kind_and_the_senders_size(x64):
    model = stack({0: [1, 3, 5], 2: [3]})
    assert [synapse.kernel.shape for synapse in model.synapses] == [(6, 6), (5, 6), (4, 6), (5, 5)]
    assert {synapse.kernel.dtype for synapse in model.synapses} == {jnp.dtype("float64")}
    twins = connect([linear(4, 4, 0), LIF()], [Edge(1, 0), Edge(1, 0, delay=2)], rngs=nnx.Rngs(0)).synapses
    assert not np.allclose(twins[0].kernel[...], twins[1].kernel[...])


def test_convolutions_have_edges_too(x64):
    def conv(n_in, n_out, seed):
        return nnx.Conv(n_in, n_out, (3, 3), rngs=nnx.Rngs(seed), param_dtype=jnp.float64)

    layers = [conv(2, 3, 0), neuron(threshold=0.3), conv(3, 4, 1), neuron(threshold=0.3)]
    model = connect(layers, {0: [1, 3]}, rngs=nnx.Rngs(2))
    assert [synapse.kernel.shape for synapse in model.synapses] == [(3, 3, 3, 3), (3, 3, 4, 3)]
    x = jax.random.uniform(jax.random.key(0), (6, B, 4, 5, 2))
    carry, outputs = unroll(model, model.initialize_carry(x.shape[1:]), x)
    theirs = nnx.RNN(model, time_major=True, return_carry=True)(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), (carry, outputs), theirs)
    assert 0.05 < outputs.mean() < 0.95


def test_a_residual_edge_needs_no_weights(x64):
    layers = [linear(4, 4, 0), neuron(), linear(4, 4, 1), neuron()]
    model = connect(layers, [Edge(1, 2, synapse=lambda s: s)])
    x = inputs(T, B, 4)
    spikes = unroll(connect(layers[:2]), connect(layers[:2]).initialize_carry((B, 4)), x)[1]
    current = spikes @ layers[2].kernel[...] + layers[2].bias[...][None, None] + spikes
    expected = unroll(layers[3], layers[3].initialize_carry((B, 4)), current)[1]
    np.testing.assert_array_equal(unroll(model, model.initialize_carry((B, 4)), x)[1], expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_late_outputs_keep_their_dtype(dtype):
    options = {"param_dtype": jnp.dtype(dtype)}
    model = connect([nnx.Linear(3, 3, rngs=nnx.Rngs(0), **options), LIF(**options)], {0: [1]}, rngs=nnx.Rngs(1))
    carry = model.initialize_carry((B, 3))
    assert isinstance(carry[1], DelayBuffer)
    new, outputs = unroll(model, carry, jnp.ones((T, B, 3), dtype), chunk=4)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), carry
    )
    assert outputs.dtype == dtype


def rngs():
    return nnx.Rngs(0)


L = linear(3, 3, 0, jnp.float32)
IMPOSSIBLE = [
    ({1: [0]}, r"from 0 to 1, into a LIF: a cell takes input only", TypeError),
    ({5: [1]}, "no module 5 to be its receiver: the stack has modules 0 to 3", ValueError),
    ({0: [-1]}, "no module -1 to be its sender", ValueError),
    ({0: []}, r"\[\] as the senders of module 0, expected a list", TypeError),
    ({0: 1}, "1 as the senders of module 0", TypeError),
    ([(0, 1)], r"got \(0, 1\) as an edge, expected \{receiver: \[senders\]\}", TypeError),
    ([Edge(3, 0, delay=0)], "with delay=0, expected at least 1", ValueError),
    ([Edge(0, 2, delay=-1)], "with delay=-1, expected at least 0", ValueError),
    ([Edge(1, 0), Edge(1, 0, delay=1)], "the edge from 1 to 0 twice", ValueError),
    ([Edge(1, 0, synapse=LIF())], "a LIF as the synapse of the edge from 1 to 0, expected no carry", TypeError),
    ([Edge(1, 0, synapse=3)], "int as the synapse of the edge from 1 to 0", TypeError),
]


@pytest.mark.parametrize(("edges", "message", "error"), IMPOSSIBLE, ids=[str(case[0])[:40] for case in IMPOSSIBLE])
def test_an_impossible_edge_is_an_error(edges, message, error):
    with pytest.raises(error, match=message):
        connect([L, LIF(), linear(3, 3, 1, jnp.float32), LIF()], edges, rngs=rngs())


@pytest.mark.parametrize(
    ("modules", "edges", "options", "message"),
    [
        ([L, LIF()], {0: [1]}, {}, r"needs rngs to make the synapse .* Edge\(1, 0, synapse=...\)"),
        ([L, LIF(), jnp.tanh], {0: [2]}, {"rngs": rngs()}, "needs the number of output features of module 2"),
        ([LIF(), L], {1: [0]}, {"rngs": rngs()}, "needs the number of output features of module 0"),
        ([jnp.tanh, LIF()], {0: [1]}, {"rngs": rngs()}, "only as a copy of a Linear or Conv, not of a Function"),
    ],
)
def test_a_synapse_that_cannot_be_made_is_an_error(modules, edges, options, message):
    with pytest.raises(TypeError, match=message):
        connect(modules, edges, **options)


def test_a_synapse_that_does_not_fit_is_an_error():
    model = connect([L, LIF(), linear(3, 2, 1, jnp.float32), LIF()], [Edge(3, 0, synapse=lambda s: s)])
    with pytest.raises(ValueError, match=r"into module 0 does not fit its output: got shapes \[3, 3\], \[3, 2\]"):
        unroll(model, model.initialize_carry((B, 3)), jnp.zeros((T, B, 3)))


def test_features_are_found_through_what_keeps_them():
    inner = connect([nnx.LayerNorm(3, rngs=rngs()), LIF()])
    for tail in ([], [Dropout(0.1, rngs=rngs())], [inner]):
        model = connect([L, LIF(), *tail], {0: [1 + len(tail)]}, rngs=rngs())
        assert model.synapses[0].kernel.shape == (3, 3)
