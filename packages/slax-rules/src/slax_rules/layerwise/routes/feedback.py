"""Routes along which signals pass from layer to layer, through the weights or through matrices in their place."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from flax import nnx
from jaxtyping import Array

from slax_rules.layerwise.layer import Layer
from slax_rules.layerwise.plan import plan_stack
from slax_rules.layerwise.routes.matrices import feedback_matrix
from slax_rules.layerwise.routes.route import Route
from slax_rules.layerwise.synapse import has_weights


@dataclasses.dataclass(frozen=True)
class Symmetric(Route):
    """Symmetric feedback: signals pass down through the weights themselves, as the cotangent of the current times W^T.

    Example:
        >>> from slax_rules import OSTL, Symmetric
        >>> OSTL() == OSTL(route=Symmetric())
        True
    """


class Random(Route, nnx.Module):
    """Random feedback: signals pass down through fixed random matrices B, as the cotangent of the current times B^T.

    The matrices are drawn from one key, as Flax draws kernels (LeCun normal), so they are the same in every call. A matrix is
    dense where a mask or blocks (`Masked`, `BlockDiagonal`) keep entries of the kernel at zero, so signals also pass where
    there is no connection.

    Args:
        rngs: random streams; the key is drawn from the stream `params`.

    Raises:
        TypeError: a model with an edge that has no kernel, when the route is used.

    References:
        Lillicrap, Cownden, Tweed, Akerman: Random synaptic feedback weights support error backpropagation for deep learning,
        2016, doi 10.1038/ncomms13276.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Random, Symmetric, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> def kernels(route):
        ...     gradient = gradients(model, cross_entropy, inputs, labels, rule=OSTL(route=route))[1]
        ...     return [gradient["modules"][i]["kernel"][...] for i in (0, 2)]
        >>> [bool(jnp.allclose(*layer)) for layer in zip(kernels(Symmetric()), kernels(Random(rngs=rngs)))]
        [False, True]
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.key = nnx.RngKey(rngs.params(), tag="feedback")

    def check(self, layer: Layer) -> None:
        _check_kernels(self, layer)

    def kernels(self, layer: Layer) -> Sequence[Array | None]:
        return _random_kernels(layer, self.key[...])


class Adaptive(Route, nnx.Module):
    """Adaptive feedback: signals pass down through learned matrices B, each with the gradient of the kernel that it replaces.

    Under an optimizer with weight decay, B and the kernel of a Linear or Conv become equal (Kolen and Pollack). The matrices
    are parameters of the rule, so the optimizer is made with both: `nnx.Optimizer((model, rule), optax.adamw(1e-3),
    wrt=nnx.Param)`.

    A synapse whose weights are made of parameters moves these parameters, and not the kernel that B replaces. Then B and the
    kernel W do not become equal in general: behind `Quantized`, B becomes equal to the weights before rounding; behind `Masked`
    and `BlockDiagonal`, B becomes equal to W where there are connections, and its other entries learn as well, although W is 0
    there; behind a `RunningNorm`, whose scale is part of W, B does not become equal to W.

    Args:
        model: a stack, whose kernels give the shapes.
        rngs: random streams; the initial matrices are drawn as in `Random` from the stream `params`.

    Raises:
        TypeError: a model with an edge that has no kernel, or, when the route is used, a model with kernels of other shapes.

    References:
        Kolen, Pollack: Backpropagation without weight transport, 1994, doi 10.1109/ICNN.1994.374486. Akrout et al.: Deep
        learning without weight transport, 2019, arXiv 1904.05391.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Adaptive, cross_entropy, train_offline
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> rule = OSTL(route=Adaptive(model, rngs=rngs))
        >>> optimizer = nnx.Optimizer((model, rule), optax.adamw(1e-3), wrt=nnx.Param)
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss = train_offline(model, optimizer, cross_entropy, inputs, labels, rule=rule)
        >>> rule.route.matrices[1][0].shape
        (16, 3)
    """

    def __init__(self, model: Any, *, rngs: nnx.Rngs):
        layers = plan_stack(type(self).__name__, model).layers(model)
        for layer in layers:
            _check_kernels(self, layer)
        key = rngs.params()
        self.matrices = nnx.List([nnx.List(map(nnx.Param, _random_kernels(layer, key))) for layer in layers])

    def check(self, layer: Layer) -> None:
        _check_kernels(self, layer)
        mine = [matrix.shape for matrix in self.matrices[layer.number]] if layer.number < len(self.matrices) else []
        theirs = [_kernel(synapse).shape for synapse in layer.current_synapses]
        if mine != theirs:
            raise TypeError(
                f"Adaptive got a layer {layer.number} with kernels of shapes {theirs}, but its own matrices there have shapes "
                f"{mine}. Make the route with its own model: Adaptive(model, rngs=...)."
            )

    def kernels(self, layer: Layer) -> Sequence[Array | None]:
        return [matrix[...] for matrix in self.matrices[layer.number]]

    def add_gradients(self, layer: Layer, gradients: Sequence[Any]) -> None:
        for matrix, gradient in zip(self.matrices[layer.number], gradients, strict=True):
            matrix[...] += _kernel(gradient)


def _kernel(synapse: Any) -> Array:
    return synapse.kernel[...]


def _random_kernels(layer: Layer, key: Array) -> list[Array]:
    """A random matrix for each kernel of a layer, in its shape and dtype."""
    kernels = map(_kernel, layer.current_synapses)
    return [
        feedback_matrix(key, layer.number, index, kernel.shape, kernel.dtype) for index, kernel in enumerate(kernels)
    ]


def _check_kernels(route: Route, layer: Layer) -> None:
    for synapse in layer.current_synapses:
        if not has_weights(synapse):
            raise TypeError(
                f"{type(route).__name__} replaces each kernel with a matrix, got an edge with a "
                f"{type(synapse).__name__}, which has none. Give the edge a Linear or Conv, or use route=Symmetric()."
            )
