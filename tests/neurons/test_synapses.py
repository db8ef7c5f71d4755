"""Synapses whose weights are functions of parameters: what they compute, and what stacks and analyses make of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import (
    LIF,
    BlockDiagonal,
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
from slax_neurons.synapses.synapse import SYNAPSE_OPTIONS, fresh_copy

T, B = 11, 3
F64 = {"param_dtype": jnp.float64}
RNG = np.random.default_rng


def linear(n_in=7, n_out=4, seed=0, **options):
    return nnx.Linear(n_in, n_out, rngs=nnx.Rngs(seed), bias_init=nnx.initializers.uniform(0.5), **F64, **options)


def conv(seed=0, **options):
    geometry = {"strides": (2, 1), "kernel_dilation": (1, 2), "feature_group_count": 2, "padding": "VALID"} | options
    return nnx.Conv(4, 6, (3, 2), rngs=nnx.Rngs(seed), bias_init=nnx.initializers.uniform(0.5), **F64, **geometry)


def moved(norm, seed=0):
    """The norm with other statistics than those that it starts with."""
    draws = RNG(seed).uniform(0.3, 1.5, (4, norm.out_features))
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
        u, s, v = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)
        return (u[:, :2] @ np.diag(s[:2]) @ v[:2]).reshape(kernel.shape), bias
    if name == "4 bits":
        scale = np.abs(kernel).max() / 7
        return scale * np.rint(kernel / scale), bias
    scale, offset, mean, var = RNG(0).uniform(0.3, 1.5, (4, kernel.shape[-1]))
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


def close(ours, theirs, bound=1e-12):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound * max(1.0, float(np.abs(b).max())))


@each
@pytest.mark.parametrize("make", [linear, conv])
def test_weights_are_those_of_the_equations_and_calls_and_copies_use_them(name, make, x64):
    plain, synapse = make(), MAKES[name](make())
    kernel, bias = by_hand(name, plain.kernel[...], plain.bias[...])
    close(synapse.effective(), (kernel, bias))
    plain.kernel[...], plain.bias[...] = jnp.asarray(kernel), jnp.asarray(bias)
    x = jnp.asarray(RNG(1).normal(size=(B, 7) if make is linear else (B, 6, 5, 4)))
    expected = plain(x)
    for mode in (synapse.train, synapse.eval):
        mode()
        close(synapse(x), expected)
    assert (synapse.in_features, synapse.out_features) == (plain.in_features, plain.out_features)
    model = connect([synapse, LIF(**F64)])
    copy = with_effective_weights(model)
    assert type(copy.modules[0]) is make().__class__
    assert with_effective_weights(copy) is copy
    close(copy.modules[0](x), expected)


@each
def test_gradients_are_those_of_the_equations(name, x64):
    """sum(C W) + sum(c b) for given C and c, and the chain rule by hand."""
    synapse, plain = MAKES[name](linear()), linear()
    w, b = np.asarray(plain.kernel[...]), np.asarray(plain.bias[...])
    C, c = RNG(2).normal(size=w.shape), RNG(3).normal(size=b.shape)
    graphdef, params, rest = nnx.split(synapse, nnx.Param, ...)

    @jax.jit
    def total(params):
        kernel, bias = nnx.merge(graphdef, params, rest).effective()
        return jnp.sum(kernel * C) + jnp.sum(bias * c)

    found = {path[-1]: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(jax.grad(total)(params))}
    expected = chain_rule(name, w, b, C, c, synapse)
    assert found.keys() == expected.keys()
    for key, theirs in expected.items():
        close(found[key], theirs, 1e-9)


def chain_rule(name, w, b, C, c, synapse):
    """The gradients by the parameters from those by kernel and bias."""
    if name == "masked":
        return {"bias": c, "kernel": C * np.asarray(synapse.mask[...])}
    if "norm" in name:
        scale, _, mean, var = RNG(0).uniform(0.3, 1.5, (4, w.shape[-1]))
        inner, mask = w, 1
        if "mask" in name:
            inner, mask = by_hand("4 bits", *by_hand("masked", w, b))[0], by_hand("masked", np.ones_like(w), b)[0]
        root = np.sqrt(var + 1e-5)
        by_scale = ((C * inner).sum(0) + c * (b - mean)) / root
        return {"offset": c, "scale": by_scale, "bias": c * scale / root, "kernel": C * scale / root * mask}
    if name == "low rank":
        left, right = np.asarray(synapse.left[...]), np.asarray(synapse.right[...])
        return {"left": C @ right.T, "right": left.T @ C, "bias": c}
    if name == "standardized":
        n, centered = w.shape[0], w - w.mean(0)
        root = np.sqrt(n * w.var(0, ddof=1) + 1e-4)
        by_centered = 1.5 / root * (C - (C * centered).sum(0) * n / (n - 1) * centered / root**2)
        return {"gain": (C * centered / root).sum(0), "bias": c, "kernel": by_centered - by_centered.mean(0)}
    return {"bias": c, "kernel": C}  # straight through


def test_masks_bits_and_scales(x64):
    for density in (0.1, 0.5, 1.0):
        one, same, other = (Masked.random(conv(), density, rngs=nnx.Rngs(seed)).mask[...] for seed in (0, 0, 1))
        assert one.sum() == round(density * one.size)
        np.testing.assert_array_equal(one, same)
        assert density == 1 or (one != other).any()
    kernel = np.asarray(linear(50, 20).kernel[...])
    for bits in (2, 4, 8):
        q, s = Quantized(linear(50, 20), bits).integers()
        assert (q.dtype, s.shape, int(np.abs(q).max())) == (jnp.int8, (), 2 ** (bits - 1) - 1)
        np.testing.assert_allclose(s * np.asarray(q, float), kernel, rtol=0, atol=float(s) / 2 * (1 + 1e-12))
    assert Quantized(linear(50, 20), 8, per_output=True).integers()[1].shape == (20,)
    silent = linear(kernel_init=nnx.initializers.zeros)
    assert not Quantized(silent, 4).effective()[0].any()
    half = nnx.Linear(7, 4, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)
    assert LowRank(half, 2).effective()[0].dtype == jnp.bfloat16  # which has no decomposition of its own


def recurrent_norms():
    """A cycle over two layers, with norms in the chain, in the middle of the cycle, and on both late edges."""
    first, second, own, back = (
        RunningNorm(linear(n_in, n_out, seed), momentum=0.8)
        for seed, (n_in, n_out) in enumerate([(7, 6), (6, 5), (6, 6), (5, 6)])
    )
    modules = [first, LIF(threshold=0.5, **F64), second, LIF(threshold=0.5, **F64)]
    return connect(modules, [Edge(1, 0, synapse=own), Edge(3, 0, 2, synapse=back)]), [first, second, own, back]


def test_statistics_are_those_of_the_current_and_do_not_depend_on_chunks(x64):
    """Of the whole sequence, moved at its end, also inside a cycle; at rest in evaluation and in analyses."""
    mean, var = np.zeros(6), np.ones(6)
    model, norms = recurrent_norms()
    by_chunk, others = recurrent_norms()
    for seed in range(2):
        x = jnp.asarray(2 + RNG(seed).normal(size=(T, B, 7)))
        unroll(model, model.initialize_carry((B, 7)), x, chunk=T)
        unroll(by_chunk, by_chunk.initialize_carry((B, 7)), x, chunk=4, remat=True)
        assert all(norm.rows[...] == T * B for norm in norms)
        end_sequence(model)
        end_sequence(by_chunk)
        current = np.asarray(norms[0].synapse(x.reshape(T * B, 7)))
        mean, var = 0.8 * mean + 0.2 * current.mean(0), 0.8 * var + 0.2 * current.var(0)
    close((norms[0].mean[...], norms[0].var[...]), (mean, var))
    for one, other in zip(norms, others, strict=True):
        close((one.mean[...], one.var[...]), (other.mean[...], other.var[...]))
        assert not (one.rows[...] or one.squares[...].any())
    end_sequence(model)  # without a sequence nothing moves
    health(model, x, chunk=4), complexity(model, x, chunk=4)  # work on copies
    model.eval()
    unroll(model, model.initialize_carry((B, 7)), x)
    end_sequence(model)
    close((norms[0].mean[...], norms[0].var[...]), (mean, var))
    image = RunningNorm(conv())
    x = RNG(3).normal(size=(B, 6, 5, 4))
    image(jnp.asarray(x))
    end_sequence(image)
    current = np.asarray(conv()(jnp.asarray(x))).reshape(-1, 6)
    close((image.mean[...], image.var[...]), (0.1 * current.mean(0), 0.9 + 0.1 * current.var(0)))
    norm = RunningNorm(nnx.Linear(7, 4, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16))
    assert norm(jnp.ones((B, 7), jnp.bfloat16)).dtype == jnp.bfloat16
    assert norm.mean.dtype == norm.squares.dtype == jnp.float32
    assert RunningNorm(nnx.Linear(7, 4, rngs=nnx.Rngs(0))).squares.dtype == jnp.float32


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


def test_a_users_own_synapses_and_blocks(x64):
    x = jnp.asarray(RNG(0).normal(size=(B, 6, 5, 4)))
    sharp, plain = Sharp(conv()), conv()
    plain.kernel[...], _ = sharp.effective()
    close(sharp(x), plain(x))
    assert (sharp.in_features, sharp.out_features) == (4, 6)
    dense, rows = Excitatory(7, 4), RNG(1).normal(size=(B, 7))
    close(dense(jnp.asarray(rows)), rows @ np.asarray(dense.effective()[0]))
    assert type(with_effective_weights(Masked(Excitatory(7, 4), jnp.ones((7, 4))))) is nnx.Linear
    blocks = BlockDiagonal(12, 8, 4, bias_init=nnx.initializers.normal(1.0), rngs=nnx.Rngs(0), **F64)
    kernel, bias = map(np.asarray, blocks.effective())
    for g, h in np.ndindex(4, 4):
        block = blocks.kernel[...][g] if g == h else np.zeros((3, 2))
        np.testing.assert_array_equal(kernel[3 * g : 3 * g + 3, 2 * h : 2 * h + 2], block)
    rows = RNG(2).normal(size=(T, B, 12))
    close(blocks(jnp.asarray(rows)), rows @ kernel + bias)
    wide = BlockDiagonal(400, 200, 4, rngs=nnx.Rngs(0))  # each block starts like a Linear
    np.testing.assert_allclose(np.std(np.asarray(wide.kernel[...]), axis=(1, 2)), 0.1, rtol=0.05)


def test_copies_take_all_options_over_and_share_what_is_shared():
    """Every option of Flax's constructors, so that a new one that is not kept by its layer is seen here."""
    assert {"use_bias", "dtype", "param_dtype", "precision"} <= set(SYNAPSE_OPTIONS[nnx.Linear])
    assert {"strides", "padding", "kernel_dilation", "feature_group_count"} <= set(SYNAPSE_OPTIONS[nnx.Conv])
    image = nnx.Conv(4, 6, (3, 2), padding="CIRCULAR", strides=(2, 1), feature_group_count=2, rngs=nnx.Rngs(0))
    for layer in (nnx.Linear(7, 4, use_bias=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)), image):
        copy = fresh_copy(layer, rngs=nnx.Rngs(1))
        for name in SYNAPSE_OPTIONS[type(layer)]:
            assert getattr(copy, name) == getattr(layer, name), name
    inside = Standardized(nnx.Linear(7, 4, rngs=nnx.Rngs(0)), 1.5)
    receiver = RunningNorm(Quantized(inside, 4, per_output=True), momentum=0.5)
    copy = connect([receiver, LIF()], {0: [1]}, rngs=nnx.Rngs(3)).synapses[0]
    assert (copy.momentum, copy.synapse.bits, copy.synapse.per_output, copy.synapse.synapse.gain_init) == (
        0.5,
        4,
        True,
        1.5,
    )
    assert copy.effective()[0].shape == (4, 4)
    synapse, norm = Standardized(nnx.Linear(4, 4, rngs=nnx.Rngs(0))), nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    model = connect([synapse, LIF(), connect([synapse, LIF()]), norm], [Edge(1, 0, synapse=synapse)])
    copy = with_effective_weights(model)
    assert copy.modules[0] is copy.modules[2].modules[0] is copy.synapses[0]
    assert copy.modules[3].mean is norm.mean
    assert model.modules[0] is synapse
    assert summary(model, (B, 4)).modules[0].kind == "Standardized(Linear)"


def test_weights_are_made_once_for_a_sequence():
    """In a cycle too, which is stepped: no step computes them again."""
    make = lambda seed: Quantized(Standardized(nnx.Linear(4, 4, rngs=nnx.Rngs(seed))), 4)  # noqa: E731
    model = connect([make(0), LIF()], [Edge(1, 0, synapse=make(1))])
    graphdef, state = nnx.split(model)

    def run(state, x):
        model = nnx.merge(graphdef, state)
        return unroll(model, model.initialize_carry((B, 4)), x, chunk=3)[1]

    jaxpr = jax.make_jaxpr(run)(state, jnp.ones((T, B, 4)))
    scans = [str(equation) for equation in jaxpr.eqns if equation.primitive.name == "scan"]
    assert scans and not any(word in scan for scan in scans for word in ("round", "sqrt", "reduce_max"))
