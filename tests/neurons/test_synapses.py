"""Synapses whose weights are functions of parameters: what they compute, and what stacks and analyses make of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import slax_neurons as sn
from slax_neurons import LIF, Edge, Quantized, RunningNorm, Standardized, connect, end_sequence, with_effective_weights
from slax_neurons.synapses.synapse import SYNAPSE_OPTIONS, fresh_copy
from stacks import close

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


class Sharp(sn.Synapse):
    """A synapse of a user's own: a kernel of mean zero over all that comes before its outputs."""

    def __init__(self, plain):
        self.plain, self.geometry = plain, plain if isinstance(plain, nnx.Conv) else None

    def effective(self):
        kernel = self.plain.kernel[...]
        return kernel - kernel.mean(axis=tuple(range(kernel.ndim - 1)), keepdims=True), self.plain.bias[...]


MAKES = {
    "a user's own": Sharp,
    "masked own": lambda synapse: MAKES["masked"](Sharp(synapse)),
    "masked": lambda synapse: sn.Masked.random(synapse, 0.4, rngs=nnx.Rngs(5)),
    "standardized": lambda synapse: Standardized(synapse, 1.5),
    "low rank": lambda synapse: sn.LowRank(synapse, rank=2),
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
    if name == "masked own":
        return by_hand("masked", *by_hand("a user's own", kernel, bias))
    if name == "a user's own":
        return kernel - kernel.mean(axis=tuple(range(kernel.ndim - 1))), bias
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


@pytest.mark.parametrize("name", [name for name in MAKES if "bits" in name])
def test_roundings_have_the_gradient_of_no_rounding(name, x64):
    """Straight through: sum(C W) has the gradient C, times what is around the rounding."""
    synapse, C = MAKES[name](linear()), RNG(2).normal(size=(7, 4))
    gradient = nnx.grad(lambda synapse: jnp.sum(C * synapse.effective()[0]))(synapse)
    if "norm" in name:
        mask = by_hand("masked", np.ones((7, 4)), np.zeros(4))[0]
        scale, _, _, var = RNG(0).uniform(0.3, 1.5, (4, 4))
        C, gradient = C * mask * scale / np.sqrt(var + 1e-5), gradient["synapse"]["synapse"]
    close(gradient["synapse"]["kernel"][...], C)


def test_bits_and_scales(x64):
    kernel = np.asarray(linear(50, 20).kernel[...])
    for bits in (2, 4, 8):
        q, s = Quantized(linear(50, 20), bits).integers()
        assert (q.dtype, s.shape, int(np.abs(q).max())) == (jnp.int8, (), 2 ** (bits - 1) - 1)
        np.testing.assert_allclose(s * np.asarray(q, float), kernel, rtol=0, atol=float(s) / 2 * (1 + 1e-12))
    assert Quantized(linear(50, 20), 8, per_output=True).integers()[1].shape == (20,)
    silent = linear(kernel_init=nnx.initializers.zeros)
    assert not Quantized(silent, 4).effective()[0].any()
    half = nnx.Linear(7, 4, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)
    assert sn.LowRank(half, 2).effective()[0].dtype == jnp.bfloat16  # which has no decomposition of its own


def test_statistics_are_those_of_the_current_and_do_not_depend_on_chunks(x64):
    """Of the whole sequence, moved at its end, with norms in a chain, in a cycle and on both late edges."""
    models = []
    for _ in range(2):
        first, second, own, back = (
            RunningNorm(linear(n_in, n_out, seed), momentum=0.8)
            for seed, (n_in, n_out) in enumerate([(7, 6), (6, 5), (6, 6), (5, 6)])
        )
        modules = [first, LIF(threshold=0.5, **F64), second, LIF(threshold=0.5, **F64)]
        models.append(connect(modules, [Edge(1, 0, synapse=own), Edge(3, 0, 2, synapse=back)]))
    model, by_chunk = models
    norm, mean, var = model.modules[0], np.zeros(6), np.ones(6)
    for seed in range(2):
        x = jnp.asarray(2 + RNG(seed).normal(size=(T, B, 7)))
        for one, options in ((model, {"chunk": T}), (by_chunk, {"chunk": 4, "remat": True})):
            sn.unroll(one, one.initialize_carry((B, 7)), x, **options)
            assert one.modules[0].rows[...] == T * B
            end_sequence(one)
        current = np.asarray(norm.synapse(x.reshape(T * B, 7)))
        mean, var = 0.8 * mean + 0.2 * current.mean(0), 0.8 * var + 0.2 * current.var(0)
    close((norm.mean[...], norm.var[...]), (mean, var))
    close(*(nnx.state(one, nnx.BatchStat) for one in models))
    assert not any(leaf.any() for leaf in jax.tree.leaves(nnx.state(model, sn.RunningSum)))
    end_sequence(model)  # without a sequence nothing moves
    sn.health(model, x, chunk=4), sn.complexity(model, x, chunk=4)  # work on copies
    model.eval()
    sn.unroll(model, model.initialize_carry((B, 7)), x)
    end_sequence(model)
    close((norm.mean[...], norm.var[...]), (mean, var))


def test_statistics_of_images_and_of_half_precision():
    """Over samples and places; in float32 at least."""
    x = RNG(3).normal(size=(B, 6, 5, 4)).astype(np.float32)
    image = RunningNorm(nnx.Conv(4, 6, (3, 2), rngs=nnx.Rngs(0)))
    image(jnp.asarray(x))
    end_sequence(image)
    current = np.asarray(image.synapse(jnp.asarray(x))).reshape(-1, 6)
    close((image.mean[...], image.var[...]), (0.1 * current.mean(0), 0.9 + 0.1 * current.var(0)), 1e-5)
    norm = RunningNorm(nnx.Linear(7, 4, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16))
    assert norm(jnp.ones((B, 7), jnp.bfloat16)).dtype == jnp.bfloat16
    assert norm.mean.dtype == norm.squares.dtype == image.squares.dtype == jnp.float32


def test_blocks_connect_their_own_inputs_and_outputs(x64):
    blocks = sn.BlockDiagonal(12, 8, 4, bias_init=nnx.initializers.normal(1.0), rngs=nnx.Rngs(0), **F64)
    kernel, bias = map(np.asarray, blocks.effective())
    for g, h in np.ndindex(4, 4):
        block = blocks.kernel[...][g] if g == h else np.zeros((3, 2))
        np.testing.assert_array_equal(kernel[3 * g : 3 * g + 3, 2 * h : 2 * h + 2], block)
    rows = RNG(2).normal(size=(T, B, 12))
    close(blocks(jnp.asarray(rows)), rows @ kernel + bias)
    wide = sn.BlockDiagonal(400, 200, 4, rngs=nnx.Rngs(0))  # each block starts like a Linear
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
    inside = Quantized(Standardized(nnx.Linear(7, 4, rngs=nnx.Rngs(0)), 1.5), 4, per_output=True)
    norm = connect([RunningNorm(inside, momentum=0.5), LIF()], {0: [1]}, rngs=nnx.Rngs(3)).synapses[0]
    copy = norm.synapse
    assert (norm.momentum, copy.bits, copy.per_output, copy.synapse.gain_init) == (0.5, 4, True, 1.5)
    assert norm.effective()[0].shape == (4, 4)
    synapse, norm = Standardized(nnx.Linear(4, 4, rngs=nnx.Rngs(0))), nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    model = connect([synapse, LIF(), connect([synapse, LIF()]), norm], [Edge(1, 0, synapse=synapse)])
    copy = with_effective_weights(model)
    assert copy.modules[0] is copy.modules[2].modules[0] is copy.synapses[0]
    assert copy.modules[3].mean is norm.mean
    assert model.modules[0] is synapse
    assert sn.summary(model, (B, 4)).modules[0].kind == "Standardized(Linear)"
