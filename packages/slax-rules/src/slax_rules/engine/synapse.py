"""Synapses: the operations of learning rules on a Linear or a Conv.

The synapses of a `Layer` are Linears and Convs, with the effective weights of the model's synapses: `with_plain_synapses` makes
them. They are affine in their input, and each weight of a kernel enters a current as a product with one entry of the input. So
a Conv is a Linear on patches, and the trace of a weight has *rows*: for a Linear one per sample, for a Conv one per sample and
position, and per group if its channels are grouped. If x [J] are the entries of a row, its currents [O] are x W for
the weights W [J, O] of its group. Time is the first axis throughout.

A linear map of the current that treats each feature alike, such as average pooling, acts on positions alone: the mapped current
is the mapped patches times W (`Mapped`). There is then a row for each mapped position.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.building_blocks import SYNAPSE_OPTIONS, apply_rows, is_plain

MOVE_IT = "Move it after the neuron, as in [Conv(...), LIF(), max_pool], or use rule=BPTT()."


class Mapped(nnx.Module):
    """A synapse, and the modules that map its current on the way to the neuron, each linear and the same for every feature."""

    def __init__(self, synapse: Any, maps: Sequence[Any]):
        self.synapse = synapse
        self.maps = nnx.List(maps)

    def __call__(self, inputs: Array) -> Array:
        return self.map(self.synapse(inputs))

    def map(self, currents: Array) -> Array:
        """The current behind the maps, for any number of features."""
        for module in self.maps:
            currents = module(currents)
        return currents

    @property
    def kernel(self) -> Any:
        """The kernel of the synapse."""
        return self.synapse.kernel

    @property
    def bias(self) -> Any:
        """The bias of the synapse."""
        return self.synapse.bias


def unmapped(synapse: Any) -> Any:
    """The synapse itself, without maps of its current."""
    return synapse.synapse if isinstance(synapse, Mapped) else synapse


def has_weights(module: nnx.Module) -> bool:
    """True for a synapse of a layer that has weights; an edge may have any module without parameters in its place."""
    return is_plain(unmapped(module))


def has_bias(module: Any) -> bool:
    return has_weights(module) and module.bias is not None


def input_rows(synapse: Any, inputs: Float[Array, "K B *I"]) -> Float[Array, "K R J"]:
    """The inputs by which the weights of each row are multiplied."""
    inner = unmapped(synapse)
    entries = inputs if type(inner) is nnx.Linear else apply_rows(_cutter(inner), inputs)
    if isinstance(synapse, Mapped):
        entries = apply_rows(synapse.map, entries)
    return entries.reshape(entries.shape[0], -1, entries.shape[-1] // groups_of(synapse))


def current_rows(synapse: Any, per_unit: Array, *, lead: int = 0) -> Float[Array, "... R O"]:
    """Rearrange arrays like the current [..., B, N] by row; `lead` axes come before the batch."""
    return per_unit.reshape(*per_unit.shape[:lead], -1, per_unit.shape[-1] // groups_of(synapse))


def row_weights(synapse: Any, weights: Float[Array, "G J O"]) -> Array:
    """Rearrange weights by group into the shape of the synapse's kernel."""
    shape = synapse.kernel.shape
    if type(unmapped(synapse)) is nnx.Linear:
        return weights.reshape(shape)
    *places, features, outputs = shape
    groups = groups_of(synapse)
    split = weights.reshape(groups, features, math.prod(places), outputs // groups)
    return jnp.transpose(split, (2, 1, 0, 3)).reshape(shape)


def groups_of(synapse: Any) -> int:
    inner = unmapped(synapse)
    return 1 if type(inner) is nnx.Linear else inner.feature_group_count


def kernel_gradient(synapse: Any, inputs: Float[Array, "K B *I"], cotangents: Float[Array, "K B *N"]) -> Array:
    """The gradient w.r.t. the kernel, given the cotangents c of the currents: the sum of c x over steps and samples."""
    graphdef, kernel, rest = nnx.split(synapse, nnx.PathContains("kernel"), ...)
    _, pull = jax.vjp(lambda kernel: apply_rows(nnx.merge(graphdef, kernel, rest), inputs), kernel)
    return jax.tree.leaves(pull(cotangents.astype(_output(synapse, inputs).dtype))[0])[0]


def bias_gradient(synapse: Any, inputs: Float[Array, "K B *I"], cotangents: Float[Array, "... N"]) -> Array:
    """The gradient w.r.t. the bias, given cotangents of the currents, also of other steps, or summed over steps."""
    if isinstance(synapse, Mapped):  # the mapped current has the bias times the mapped ones
        before = _output(synapse.synapse, inputs)
        ones = apply_rows(synapse.map, jnp.ones((1, 1, *before.shape[2:]), cotangents.dtype))[0, 0]
        cotangents = ones * jnp.sum(cotangents, axis=tuple(range(cotangents.ndim - ones.ndim)))
    return jnp.sum(cotangents, axis=tuple(range(cotangents.ndim - 1))).astype(synapse.bias.dtype)


def synapse_gradients(
    synapses: Any, inputs: tuple[Array, ...], cotangents: Float[Array, "K B *N"]
) -> tuple[dict[str, Array], ...]:
    """The gradients w.r.t. the weights of each synapse, by name, given the cotangents of the currents."""
    return tuple(
        ({"kernel": kernel_gradient(synapse, x, cotangents)} if has_weights(synapse) else {})
        | ({"bias": bias_gradient(synapse, x, cotangents)} if has_bias(synapse) else {})
        for synapse, x in zip(synapses, inputs, strict=True)
    )


def input_gradient(
    synapse: Any, inputs: Array, cotangents: Float[Array, "K B *N"], kernel: Array | None = None
) -> Array:
    """The gradient w.r.t. the inputs, c W^T for the cotangents c of the currents, with another kernel W if one is given."""
    if kernel is not None:
        synapse = nnx.clone(synapse)
        synapse.kernel[...] = kernel
    graphdef, state = nnx.split(synapse)
    _, pull = jax.vjp(lambda inputs: apply_rows(nnx.merge(graphdef, state), inputs), inputs)
    return pull(cotangents)[0]


def without_bias(synapse: Any) -> Any:
    """A copy of a synapse without a bias."""
    copy = nnx.clone(synapse)
    inner = unmapped(copy)
    inner.bias, inner.use_bias = None, False
    return copy


def sum_by_input(synapse: Any, per_weight: Array) -> Float[Array, " I"]:
    """The sum of an array like the kernel over all weights of each input feature."""
    if type(unmapped(synapse)) is nnx.Linear:
        return jnp.sum(per_weight, axis=1)
    *places, features, outputs = per_weight.shape
    groups = groups_of(synapse)
    split = per_weight.reshape(math.prod(places), features, groups, outputs // groups)
    return jnp.sum(split, axis=(0, 3)).T.reshape(-1)


def check_maps(name: str, number: int, synapse: Any, inputs: Any) -> None:
    """Raise TypeError if the current of a synapse passes a map that is not linear, or mixes features or samples.

    Args:
        name: the name of the rule in the error message.
        number: the number of the layer.
        inputs: the inputs [B, *I] of the synapse, or their shape.
    """
    if not isinstance(synapse, Mapped):
        return
    current = _output(synapse.synapse, jax.ShapeDtypeStruct((1, *inputs.shape), inputs.dtype))
    one_step = jax.ShapeDtypeStruct(current.shape[1:], current.dtype)

    def moves(z: Array) -> Array:
        of_feature = jax.vmap(lambda one: synapse.map(one[..., None])[..., 0], in_axes=-1, out_axes=-1)
        alone = jax.vmap(lambda sample: of_feature(sample[None])[0])(z)
        return jnp.any(synapse.map(0 * z)) | ~jnp.allclose(synapse.map(z), alone, atol=1e-2)

    try:
        jax.eval_shape(jax.linear_transpose(synapse.map, one_step), jax.eval_shape(synapse.map, one_step))
        z = np.sin(np.arange(2 * math.prod(current.shape[2:]))).reshape(2, *current.shape[2:]).astype(current.dtype)
        with jax.ensure_compile_time_eval():
            is_moved = jax.jit(moves)(z)  # one program, where each operation would be another
        if not isinstance(is_moved, jax.core.Tracer) and is_moved:  # JAX also transposes x + 1 and x - x.mean(0)
            raise ValueError("The map of zero is not zero, or the map of all features and samples is not that of each.")
    except (NotImplementedError, AssertionError, TypeError, ValueError) as error:
        got = " and ".join(type(module).__name__ for module in synapse.maps)
        raise TypeError(
            f"{name} got {got} in layer {number}, expected a linear map of each feature. {MOVE_IT}"
        ) from error


def _output(synapse: Any, inputs: Any) -> jax.ShapeDtypeStruct:
    """The shape and dtype of the current for inputs [K, B, ...]."""
    graphdef, state = nnx.split(synapse)
    return jax.eval_shape(lambda state, x: apply_rows(nnx.merge(graphdef, state), x), state, inputs)


def _cutter(synapse: nnx.Conv) -> nnx.Conv:
    """A Conv of the same geometry that cuts out patches: each output is one entry of a patch."""
    features, size = synapse.in_features, math.prod(synapse.kernel_size)
    options = {name: getattr(synapse, name) for name in SYNAPSE_OPTIONS[nnx.Conv]}
    options |= {"feature_group_count": features, "use_bias": False}
    # Without values of its own, and with a kernel of NumPy: each operation on arrays here would be a program to compile.
    cutter = nnx.eval_shape(lambda: nnx.Conv(features, features * size, **options, rngs=nnx.Rngs(0)))
    entries = np.tile(np.eye(size).reshape(*synapse.kernel_size, 1, size), features)
    cutter.kernel = nnx.Param(entries.astype(synapse.param_dtype))
    return cutter
