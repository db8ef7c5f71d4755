"""Synapses whose weights are functions of parameters: what they compute, and what stacks and analyses make of them."""

import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx

from slax_neurons import (
    LIF,
    Edge,
    LowRank,
    Masked,
    Quantized,
    RunningNorm,
    Standardized,
    Synapse,
    complexity,
    connect,
    end_sequence,
    health,
    summary,
    unroll,
    with_effective_weights,
)
from slax_neurons.nir import Flatten, to_nir
from stacks import deviation

T, B = 11, 3
F64 = {"param_dtype": jnp.float64}


def linear(n_in=7, n_out=4, seed=0, **options):
    initializer = nnx.initializers.uniform(0.5)
    return nnx.Linear(n_in, n_out, rngs=nnx.Rngs(seed), bias_init=initializer, **F64, **options)


def conv(seed=0, **options):
    geometry = {"strides": (2, 1), "kernel_dilation": (1, 2), "feature_group_count": 2, "padding": "VALID"} | options
    initializer = nnx.initializers.uniform(0.5)
    return nnx.Conv(4, 6, (3, 2), rngs=nnx.Rngs(seed), bias_init=initializer, **F64, **geometry)


def moved(norm, seed=0):
    """The norm with other statistics than those that it starts with."""
    draws = np.random.default_rng(seed).uniform(0.3, 1.5, (4, norm.out_features))
    for variable, values in zip((norm.scale, norm.offset, norm.mean, norm.var), draws, strict=True):
        variable[...] = jnp.asarray(values)
    return norm


MAKES = {
    "masked": lambda synapse: Masked.random(synapse, 0.4, rngs=nnx.Rngs(5)),
    "standardized": lambda synapse: Standardized(synapse, 1.5),
    "low rank": lambda synapse: LowRank(synapse, rank=2),
    "4 bits": lambda synapse: Quantized(synapse, 4),
    "8 bits per output": lambda synapse: Quantized(synapse, 8, per_output=True),
    "norm": lambda synapse: moved(RunningNorm(synapse)),
    "norm of 4 bits of a mask": lambda synapse: moved(RunningNorm(Quantized(MAKES["masked"](synapse), 4))),
}
each = pytest.mark.parametrize("name", MAKES)


def by_hand(name, kernel, bias):
    """The effective weights by the equations, one output at a time."""
    kernel, bias = np.array(kernel), np.array(bias)
    if name == "norm of 4 bits of a mask":
        return by_hand("norm", *by_hand("4 bits", *by_hand("masked", kernel, bias)))
    if name == "masked":
        order = np.asarray(jax.random.permutation(nnx.Rngs(5).params(), kernel.size)).reshape(kernel.shape)
        return np.where(order < round(0.4 * kernel.size), kernel, 0), bias
    if name == "low rank":
        flat = kernel.reshape(-1, kernel.shape[-1])
        u, s, v = np.linalg.svd(flat, full_matrices=False)
        return (u[:, :2] @ np.diag(s[:2]) @ v[:2]).reshape(kernel.shape), bias
    if name == "4 bits":
        scale = np.abs(kernel).max() / 7
        return scale * np.rint(kernel / scale), bias
    scale, offset, mean, var = np.random.default_rng(0).uniform(0.3, 1.5, (4, kernel.shape[-1]))
    for o in range(kernel.shape[-1]):
        w = kernel[..., o]
        if name == "standardized":  # by the authors of OTTT: torch.var is the unbiased variance
            kernel[..., o] = 1.5 * (w - w.mean()) / np.sqrt(w.var(ddof=1) * w.size + 1e-4)
        elif name == "8 bits per output":
            kernel[..., o] = np.abs(w).max() / 127 * np.rint(w / (np.abs(w).max() / 127))
        else:
            kernel[..., o] = scale[o] * w / np.sqrt(var[o] + 1e-5)
            bias[o] = scale[o] * (bias[o] - mean[o]) / np.sqrt(var[o] + 1e-5) + offset[o]
    return kernel, bias


@each
@pytest.mark.parametrize("make", [linear, conv])
def test_weights_are_those_of_the_equations_and_a_call_uses_them(name, make, x64):
    plain = make()
    kernel, bias = by_hand(name, plain.kernel[...], plain.bias[...])
    synapse = MAKES[name](make())
    for ours, theirs in zip(synapse.effective(), (kernel, bias), strict=True):
        assert deviation(ours, theirs) < 1e-12
    plain.kernel[...], plain.bias[...] = jnp.asarray(kernel), jnp.asarray(bias)
    shape = (B, 7) if make is linear else (B, 6, 5, 4)
    x = jnp.asarray(np.random.default_rng(1).normal(size=shape))
    for training in (True, False):
        synapse.train() if training else synapse.eval()
        assert deviation(synapse(x), plain(x)) < 1e-12
    assert (synapse.in_features, synapse.out_features) == (plain.in_features, plain.out_features)


@each
@pytest.mark.parametrize("make", [linear, conv])
def test_a_copy_with_effective_weights_computes_the_same(name, make, x64):
    model = connect([MAKES[name](make()), LIF(**F64), lambda x: x.reshape(x.shape[0], -1)])
    copy = with_effective_weights(model)
    assert type(copy.modules[0]) is type(make())
    x = jax.random.normal(jax.random.key(0), (T, B, 7) if make is linear else (T, B, 6, 5, 4), jnp.float64)
    carry = model.initialize_carry(x.shape[1:])
    outputs = unroll(model, carry, x, chunk=4)[1]
    assert outputs.any()
    np.testing.assert_array_equal(unroll(copy, carry, x, chunk=4)[1], outputs)
    assert with_effective_weights(copy) is copy


def test_a_copy_with_effective_weights_shares_what_is_not_a_synapse_and_keeps_what_is_shared():
    synapse, norm = Standardized(nnx.Linear(4, 4, rngs=nnx.Rngs(0))), nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    model = connect([synapse, LIF(), connect([synapse, LIF()]), norm], [Edge(1, 0, synapse=synapse)])
    copy = with_effective_weights(model)
    assert copy.modules[0] is copy.modules[2].modules[0] is copy.synapses[0]
    assert copy.modules[3].mean is norm.mean
    assert model.modules[0] is synapse
    x = jax.random.normal(jax.random.key(0), (T, B, 4))
    unroll(model, model.initialize_carry((B, 4)), x)
    assert (norm.mean[...] != 0).any()


@each
def test_weights_are_made_once_for_a_sequence(name):
    """In a cycle too, which is stepped: no step computes them again, except a norm in training, which counts as it goes."""
    model = connect(
        [MAKES[name](nnx.Linear(4, 4, rngs=nnx.Rngs(0))), LIF()],
        [Edge(1, 0, synapse=MAKES[name](nnx.Linear(4, 4, rngs=nnx.Rngs(1))))],
    )
    model.eval()
    graphdef, state = nnx.split(model)

    def run(state, x):
        model = nnx.merge(graphdef, state)
        return unroll(model, model.initialize_carry((B, 4)), x, chunk=3)[1]

    jaxpr = jax.make_jaxpr(run)(state, jnp.ones((T, B, 4)))
    scans = [str(equation) for equation in jaxpr.eqns if equation.primitive.name == "scan"]
    assert scans and not any(word in scan for scan in scans for word in ("round", "sqrt", "select_n b", "reduce_max"))


@each
def test_gradients_are_those_of_the_equations(name, x64):
    """sum(C W) + sum(c b) for given C and c, and the chain rule by hand."""
    synapse, plain = MAKES[name](linear()), linear()
    w, b = np.asarray(plain.kernel[...]), np.asarray(plain.bias[...])
    rng = np.random.default_rng(2)
    C, c = rng.normal(size=w.shape), rng.normal(size=b.shape)
    graphdef, params, rest = nnx.split(synapse, nnx.Param, ...)

    def total(params):
        kernel, bias = nnx.merge(graphdef, params, rest).effective()
        return jnp.sum(kernel * C) + jnp.sum(bias * c)

    found = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.grad(total)(params))]
    names = [path for path, _ in nnx.to_flat_state(params)]
    assert [path[-1] for path in names] == [path[-1] for path in EXPECTED_NAMES[name]]
    for ours, theirs in zip(found, chain_rule(name, w, b, C, c, synapse), strict=True):
        assert deviation(ours, theirs) < 1e-9


OF_ONE = [("synapse", "bias"), ("synapse", "kernel")]
EXPECTED_NAMES = {
    "masked": OF_ONE,
    "standardized": [("gain",), *OF_ONE],
    "low rank": [("left",), ("right",), ("synapse", "bias")],
    "4 bits": OF_ONE,
    "8 bits per output": OF_ONE,
    "norm": [("offset",), ("scale",), *OF_ONE],
    "norm of 4 bits of a mask": [("offset",), ("scale",), *OF_ONE],
}


def chain_rule(name, w, b, C, c, synapse):
    """The gradients w.r.t. the parameters, in the order of their names, from those w.r.t. kernel and bias."""
    if name == "masked":
        return c, C * np.asarray(synapse.mask[...])
    if "norm" in name:
        scale, _, mean, var = np.random.default_rng(0).uniform(0.3, 1.5, (4, w.shape[-1]))
        inner, mask = (by_hand("4 bits", *by_hand("masked", w, b))[0], by_hand("masked", np.ones_like(w), b)[0])
        inner, mask = (inner, mask) if "mask" in name else (w, 1)
        root = np.sqrt(var + 1e-5)
        by_scale = ((C * inner).sum(0) + c * (b - mean)) / root
        return c, by_scale, c * scale / root, C * scale / root * mask
    if name == "low rank":
        left, right = np.asarray(synapse.left[...]), np.asarray(synapse.right[...])
        return C @ right.T, left.T @ C, c
    if name == "standardized":
        n, centered = w.shape[0], w - w.mean(0)
        root = np.sqrt(n * w.var(0, ddof=1) + 1e-4)
        by_centered = 1.5 / root * (C - (C * centered).sum(0) * n / (n - 1) * centered / root**2)
        return (C * centered / root).sum(0), c, by_centered - by_centered.mean(0)
    return c, C  # straight through


@pytest.mark.parametrize("make", [linear, conv])
@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_a_random_mask_has_its_density_exactly_and_is_drawn_from_rngs(make, density, x64):
    one, same, other = (Masked.random(make(), density, rngs=nnx.Rngs(seed)).mask[...] for seed in (0, 0, 1))
    assert one.sum() == round(density * one.size)
    np.testing.assert_array_equal(one, same)
    assert density == 1 or (one != other).any()


def test_bits_and_scales(x64):
    kernel = linear(50, 20).kernel[...]
    for bits in (2, 4, 8):
        synapse = Quantized(linear(50, 20), bits)
        q, s = synapse.integers()
        assert (q.dtype, s.shape, int(jnp.abs(q).max())) == (jnp.int8, (), 2 ** (bits - 1) - 1)
        assert deviation(q.astype(s.dtype) * s, synapse.effective()[0]) < 1e-12
        assert jnp.abs(synapse.effective()[0] - kernel).max() <= s / 2 * (1 + 1e-12)
    assert Quantized(linear(50, 20), 8, per_output=True).integers()[1].shape == (20,)
    silent = linear()
    silent.kernel[...] = jnp.zeros_like(silent.kernel[...])
    assert not Quantized(silent, 4).effective()[0].any()


def running(model, x, **options):
    return unroll(model, model.initialize_carry(x.shape[1:]), x, **options)[1]


@pytest.mark.parametrize("make", [linear, conv])
def test_statistics_are_those_of_the_current_over_the_whole_sequence(make, x64):
    norm, plain = RunningNorm(make(), momentum=0.8), make()
    model = connect([norm, LIF(**F64), lambda x: x.reshape(x.shape[0], -1)])
    mean, var = np.zeros(norm.out_features), np.ones(norm.out_features)
    for seed in range(3):
        shape = (T, B, 7) if make is linear else (T, B, 6, 5, 4)
        x = 2 + jax.random.normal(jax.random.key(seed), shape, jnp.float64)
        running(model, x, chunk=4)
        end_sequence(model)
        current = np.asarray(plain(x.reshape(T * B, *x.shape[2:]))).reshape(-1, norm.out_features)
        mean, var = 0.8 * mean + 0.2 * current.mean(0), 0.8 * var + 0.2 * current.var(0)
        assert deviation(norm.mean[...], mean) < 1e-12
        assert deviation(norm.var[...], var) < 1e-12


def recurrent_norms():
    """A cycle over two layers, with norms in the chain, in the middle of the cycle, and on both late edges."""
    norms = [
        RunningNorm(linear(n_in, n_out, seed)) for seed, (n_in, n_out) in enumerate([(7, 6), (6, 5), (6, 6), (5, 6)])
    ]
    first, second, own, back = norms
    modules = [first, LIF(threshold=0.5, **F64), second, LIF(threshold=0.5, **F64)]
    return connect(modules, [Edge(1, 0, synapse=own), Edge(3, 0, 2, synapse=back)]), norms


def test_statistics_do_not_depend_on_chunks_also_inside_a_cycle(x64):
    x = jax.random.normal(jax.random.key(0), (T, B, 7), jnp.float64)
    found = []
    for options in ({"chunk": T}, {"chunk": 4}, {"chunk": 1}, {"chunk": 4, "remat": True}):
        model, norms = recurrent_norms()
        outputs = running(model, x, **options)
        assert all(norm.rows[...] == T * B for norm in norms)
        end_sequence(model)
        found.append([outputs, *(value for norm in norms for value in (norm.mean[...], norm.var[...]))])
        assert not any(norm.rows[...] or norm.squares[...].any() for norm in norms)
    # The current of the edge from the first layer to itself, from the spikes of all steps before.
    model, norms = recurrent_norms()
    spikes = model.outputs(model.initialize_carry((B, 7)), x)[1][1]
    late = jnp.concatenate([jnp.zeros_like(spikes[:1]), spikes[:-1]])
    assert deviation(found[0][5], 0.1 * norms[2].synapse(late.reshape(T * B, 6)).mean(0)) < 1e-12
    for other in found[1:]:
        for ours, theirs in zip(other, found[0], strict=True):
            assert deviation(ours, theirs) < 1e-12


def test_statistics_rest_in_evaluation_and_without_a_sequence(x64):
    model, norms = recurrent_norms()
    x = jax.random.normal(jax.random.key(0), (T, B, 7), jnp.float64)
    end_sequence(model)
    model.eval()
    running(model, x, chunk=4)
    end_sequence(model)
    for norm in norms:
        assert not norm.rows[...] and not norm.mean[...].any() and (norm.var[...] == 1).all()
    model.train()
    health(model, x, chunk=4), complexity(model, x, chunk=4)  # work on copies
    assert not any(norm.rows[...] for norm in norms)


def test_half_precision_has_its_statistics_in_single():
    norm = RunningNorm(nnx.Linear(7, 4, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16))
    assert norm(jnp.ones((B, 7), jnp.bfloat16)).dtype == norm.effective()[0].dtype == jnp.bfloat16
    assert norm.mean.dtype == norm.squares.dtype == jnp.float32


class Excitatory(Synapse):
    """A dense synapse of a user's own."""

    def __init__(self, n_in, n_out):
        self.log_kernel = nnx.Param(linear(n_in, n_out).kernel[...])

    def effective(self):
        return jnp.exp(self.log_kernel[...]), None


class Sharp(Synapse):
    """A convolution of a user's own: a kernel of mean zero over its places."""

    def __init__(self, geometry):
        self.geometry = geometry

    def effective(self):
        kernel = self.geometry.kernel[...]
        return kernel - kernel.mean(axis=(0, 1), keepdims=True), self.geometry.bias[...]


def test_a_users_own_synapses(x64):
    x = jax.random.normal(jax.random.key(0), (B, 6, 5, 4), jnp.float64)
    sharp, plain = Sharp(conv()), conv()
    plain.kernel[...], _ = sharp.effective()
    assert deviation(sharp(x), plain(x)) < 1e-12
    assert (sharp.in_features, sharp.out_features) == (4, 6)
    dense = Excitatory(7, 4)
    assert (dense.in_features, dense.out_features) == (7, 4)
    assert (
        deviation(dense(x[0, 0, :1] @ jnp.ones((4, 7))), x[0, 0, :1] @ jnp.ones((4, 7)) @ dense.effective()[0]) < 1e-12
    )
    assert type(with_effective_weights(Masked(Excitatory(7, 4), jnp.ones((7, 4))))) is nnx.Linear


def test_edges_copy_what_wraps_the_receiver(x64):
    receiver = RunningNorm(Quantized(Standardized(linear(), 1.5), 4, per_output=True), scale_init=0.5, momentum=0.5)
    model = connect([receiver, LIF(**F64)], {0: [1]}, rngs=nnx.Rngs(3))
    copy = model.synapses[0]
    assert [row.kind for row in summary(model, (B, 7)).modules][::2] == [
        "RunningNorm(Quantized(Standardized(Linear)))"
    ] * 2
    assert (copy.momentum, copy.synapse.bits, copy.synapse.per_output) == (0.5, 4, True)
    assert (copy.scale[...] == 0.5).all() and (copy.synapse.synapse.gain[...] == 1.5).all()
    assert copy.in_features == copy.out_features == 4
    low = connect([LowRank(linear(), 3), LIF(**F64)], {0: [1]}, rngs=nnx.Rngs(3))
    assert low.synapses[0].left.shape == (4, 3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_rank_of_half_precision_is_the_rounding_of_float32(dtype):
    half = nnx.Linear(7, 4, rngs=nnx.Rngs(0), param_dtype=dtype)
    whole = nnx.Linear(7, 4, rngs=nnx.Rngs(0))
    whole.kernel[...] = half.kernel[...].astype(jnp.float32)
    ours, theirs = LowRank(half, 2), LowRank(whole, 2)
    assert ours.left[...].dtype == ours.right[...].dtype == ours.effective()[0].dtype == dtype
    np.testing.assert_array_equal(ours.left[...], theirs.left[...].astype(dtype))
    np.testing.assert_array_equal(ours.right[...], theirs.right[...].astype(dtype))


def test_analyses_count_effective_weights():
    mask = np.zeros((7, 4))
    mask[:2, 0] = 1
    model = connect([Masked(nnx.Linear(7, 4, rngs=nnx.Rngs(0)), mask), LIF()])
    counts = complexity(model, jnp.ones((T, B, 7)))
    assert counts.connection_sparsity == 26 / 28
    assert counts.effective_acs == 2 * T and counts.dense == 28 * T
    assert counts.footprint == (28 + 4) * 4 + 28  # the mask has a byte for each weight
    assert summary(model, (B, 7)).parameters == 32


def test_nir_has_effective_weights():
    norm = RunningNorm(nnx.Conv(2, 3, (3, 3), padding=1, rngs=nnx.Rngs(0)), scale_init=2.0, offset_init=0.5)
    masked = Masked(nnx.Linear(48, 5, rngs=nnx.Rngs(0)), np.eye(48, 5))
    model = connect([norm, LIF(), Flatten(), masked, LIF()])
    graph = to_nir(model, dt=1e-3, input_shape=(4, 4, 2))
    nodes = {name: node for name, node in graph.nodes.items() if isinstance(node, nir.Conv2d | nir.Affine)}
    convolution, affine = nodes.values()
    kernel, bias = norm.effective()
    np.testing.assert_array_equal(convolution.weight, np.moveaxis(np.asarray(kernel), (-1, -2), (0, 1)))
    np.testing.assert_array_equal(convolution.bias, bias)
    np.testing.assert_array_equal(affine.weight != 0, np.eye(48, 5).T != 0)


class TooLarge(Synapse):
    def __init__(self, kernel, bias=None):
        self.kernel, self.bias = nnx.Param(kernel), bias

    def effective(self):
        return self.kernel[...], self.bias


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Masked(LIF(), 1),
            TypeError,
            r"Masked got a LIF\. Expected a Linear, a Conv without a mask, or a module",
        ),
        (
            lambda: Standardized(conv(mask=jnp.ones((3, 2, 2, 6)))),
            TypeError,
            r"got a Conv with a mask: wrap one without it, Masked\(Conv\(\.\.\.\), mask\)",
        ),
        (
            lambda: Masked(linear(), np.ones((4, 7))),
            ValueError,
            r"a mask of shape \[4, 7\] for a kernel of shape \[7, 4\]",
        ),
        (
            lambda: Masked.random(linear(), 0.0, rngs=nnx.Rngs(0)),
            ValueError,
            r"density=0\.0, expected a number in \(0, 1\]",
        ),
        (lambda: Standardized(linear(1)), ValueError, r"with one weight into each output, expected at least two"),
        (lambda: LowRank(linear(), 5), ValueError, r"rank=5 for a kernel of 7 by 4, expected from 1 to 4"),
        (lambda: LowRank(Masked(linear(), np.ones((7, 4))), 2), TypeError, r"got a Masked.*Quantized\(LowRank"),
        (lambda: Quantized(linear(), 16), ValueError, r"bits=16, expected 2 to 8"),
        (lambda: RunningNorm(linear(), momentum=1.0), ValueError, r"momentum=1\.0, expected a number in \[0, 1\)"),
        (lambda: RunningNorm(linear(), eps=0.0), ValueError, r"RunningNorm got eps=0\.0, expected a number > 0"),
        (lambda: RunningNorm(linear(), eps=np.nan), ValueError, r"RunningNorm got eps=nan, expected a number > 0"),
        (lambda: Standardized(linear(), eps=0.0), ValueError, r"Standardized got eps=0\.0, expected a number > 0"),
        (
            lambda: Standardized(linear(), eps=-1e-4),
            ValueError,
            r"Standardized got eps=-0\.0001, expected a number > 0",
        ),
        (
            lambda: connect([Masked(linear(), np.ones((7, 4))), LIF(**F64)], {0: [1]}, rngs=nnx.Rngs(0)),
            TypeError,
            r"not of a Masked\(Linear\), whose weights fit its own sizes\. Give it: Edge\(1, 0, synapse",
        ),
        (
            lambda: TooLarge(jnp.ones((3, 3, 2, 4)))(jnp.ones((1, 5, 5, 2))),
            ValueError,
            r"returned a kernel of shape \[3, 3, 2, 4\], expected \[in, out\]\. A convolution names the nnx\.Conv",
        ),
        (
            lambda: TooLarge(jnp.ones((3, 2)), jnp.ones(3))(jnp.ones((1, 3))),
            ValueError,
            r"a bias of shape \[3\] with a kernel of shape \[3, 2\], expected \[2\], or None",
        ),
        (lambda: Synapse().effective(), NotImplementedError, r"Synapse has to define effective\(\)"),
    ],
)
def test_errors_say_what_to_do(make, error, message, x64):
    with pytest.raises(error, match=message):
        make()
