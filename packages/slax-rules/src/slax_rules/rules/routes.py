"""Routes along which signals pass from layer to layer, through the weights or through matrices in their place."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.building_blocks import check_rngs
from slax_rules.engine.stack import Stack, check_stack, with_plain_synapses
from slax_rules.engine.synapse import has_weights
from slax_rules.rules.base import FeedbackSignals, Layer, Route


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

    def __init__(self, *, rngs: nnx.Rngs | None = None):
        self.key = _key(self, rngs, "feedback")

    def check(self, layer: Layer) -> None:
        _check_kernels(self, layer)

    def kernels(self, layer: Layer) -> Sequence[Array | None]:
        return _random_kernels(layer, self.key[...])


class Adaptive(Route, nnx.Module):
    """Adaptive feedback: signals pass down through learned matrices B, each with the gradient of the kernel that it replaces.

    Under an optimizer with weight decay, B and the kernel of a Linear or Conv become equal (Kolen and Pollack). The matrices
    are parameters of the rule, so the optimizer is made with both: `nnx.Optimizer((model, rule), optax.adamw(1e-3),
    wrt=nnx.Param)`.

    A synapse whose weights are functions of parameters trains these, and not the kernel that B replaces. Then B and the kernel
    W do not become equal in general: behind `Quantized`, B becomes equal to the weights before rounding; behind `Masked`
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
        check_rngs(type(self).__name__, rngs)
        check_stack(type(self).__name__, model)
        layers = Stack.read(with_plain_synapses(model)).layers
        for layer in layers:
            _check_kernels(self, layer)
        key = rngs.params()
        self.matrices = nnx.List([nnx.List(map(nnx.Param, _random_kernels(layer, key))) for layer in layers])

    def check(self, layer: Layer) -> None:
        _check_kernels(self, layer)
        mine = [matrix.shape for matrix in self.matrices[layer.number]] if layer.number < len(self.matrices) else []
        theirs = [_kernel(synapse).shape for synapse in layer.synapses]
        if mine != theirs:
            raise TypeError(
                f"Adaptive got kernels of shapes {theirs} in layer {layer.number}, expected {mine}, the shapes in the model "
                "that it was made with. Make the route with this model: Adaptive(model, rngs=...)."
            )

    def kernels(self, layer: Layer) -> Sequence[Array | None]:
        return [matrix[...] for matrix in self.matrices[layer.number]]

    def add_gradients(self, layer: Layer, gradients: Sequence[Any]) -> None:
        for matrix, gradient in zip(self.matrices[layer.number], gradients, strict=True):
            if isinstance(gradient.kernel, nnx.Param):  # else W is not trained, and nor is its matrix
                matrix[...] += _kernel(gradient)


def _kernel(synapse: Any) -> Array:
    return synapse.kernel[...]


def _key(route: Route, rngs: nnx.Rngs | None, tag: str) -> nnx.RngKey:
    """The key of a route's matrices; TypeError without random streams."""
    name = type(route).__name__
    if rngs is None:
        raise TypeError(f"{name} got no rngs, expected random streams. Give them: {name}(rngs=nnx.Rngs(0)).")
    check_rngs(name, rngs)
    return nnx.RngKey(rngs.params(), tag=tag)


def _random_kernels(layer: Layer, key: Array) -> list[Array]:
    """A random matrix for each kernel of a layer, in its shape and dtype."""
    kernels = map(_kernel, layer.synapses)
    return [
        feedback_matrix(key, layer.number, index, kernel.shape, kernel.dtype) for index, kernel in enumerate(kernels)
    ]


def _check_kernels(route: Route, layer: Layer) -> None:
    for synapse in layer.synapses:
        if not has_weights(synapse):
            raise TypeError(
                f"{type(route).__name__} got an edge with {type(synapse).__name__}, expected a synapse with a kernel, which "
                "the route replaces by a matrix. Give the edge a Linear or Conv, or use route=Symmetric()."
            )


class _Broadcast(Route, nnx.Module):
    """A route that sends vectors to each hidden layer through a fixed random matrix of its own."""

    skips_layers = True

    def __init__(self, *, rngs: nnx.Rngs | None = None):
        self.key = _key(self, rngs, "feedback")

    def matrix(self, layer: Layer, units: int, size: int, dtype: Any) -> Float[Array, "N C"]:
        """The matrix B of a layer of N units for vectors of C numbers, drawn from the same key in every call.

        Above the first hidden layer of two layers, it is the matrix that `Random` draws from the same key.
        """
        return feedback_matrix(self.key[...], layer.number + 1, 0, (units, size), dtype)

    def _send(self, layer: Layer, outputs: Float[Array, "K B *N"], vectors: Float[Array, "K B C"]) -> Array:
        matrix = self.matrix(layer, math.prod(outputs.shape[2:]), vectors.shape[-1], outputs.dtype)
        return (vectors.astype(outputs.dtype) @ matrix.T).reshape(outputs.shape)


class Direct(_Broadcast):
    """Direct feedback: each hidden layer gets the error of the read-out through its own fixed random matrix.

        signal of layer l: e_t (B^l)^T      # e_t is the cotangent that the rule of the last layer passes below

    For most rules e_t = psi_t delta_t, the gradient of the loss w.r.t. the current of the last layer within the step, which is
    the error of a read-out of `LI` units. As the route of `SLTT` this is direct feedback alignment in each time step, and as
    the route of `EProp` it is e-prop with random feedback as published. In a stack of two layers it equals `Random`.

    Args:
        rngs: random streams; the key of the matrices is drawn from the stream `params`, and the matrices as in `Random`.

    References:
        Nøkland: Direct feedback alignment provides learning in deep neural networks, 2016, arXiv 1609.01596. Bellec et al.: A
        solution to the learning dilemma for recurrent networks of spiking neurons, 2020, doi 10.1038/s41467-020-17236-y.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Direct, Random, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> def kernel(route):
        ...     gradient = gradients(model, cross_entropy, inputs, labels, rule=OSTL(route=route))[1]
        ...     return gradient["modules"][0]["kernel"][...]
        >>> bool(jnp.allclose(kernel(Direct(rngs=nnx.Rngs(1))), kernel(Random(rngs=nnx.Rngs(1)))))
        True
    """

    def signal(
        self, layer: Layer, outputs: Float[Array, "K B *N"], feedback: FeedbackSignals
    ) -> Float[Array, "K B *N"]:
        return self._send(layer, outputs, feedback.error)


class Target(_Broadcast):
    """Projected targets: each hidden layer gets the target of the step through its own fixed random matrix.

        signal of layer l: y^*_t (B^l)^T      # y^*_t is the one-hot label, or the target itself

    divided by the number of steps and samples that count. Only the last layer needs the output of the model, so a hidden
    layer learns while its input is processed. Masked steps send nothing.

    Args:
        rngs: random streams; the key of the matrices is drawn from the stream `params`, and the matrices as in `Random`.

    Raises:
        TypeError: targets that are neither labels nor numbers in the shape of the outputs.

    References:
        Frenkel, Lefebvre, Bol: Learning without feedback: fixed random learning signals allow for feedforward training of deep
        neural networks (DRTP), 2021, doi 10.3389/fnins.2021.629892. Ortner, Pes, Gentinetta, Frenkel, Pantazi: Online
        spatio-temporal learning with target projection (OSTTP), 2023, arXiv 2304.05124, with the traces of `OSTL`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Target, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OSTL(route=Target(rngs=rngs)))
    """

    def signal(
        self, layer: Layer, outputs: Float[Array, "K B *N"], feedback: FeedbackSignals
    ) -> Float[Array, "K B *N"]:
        return self._send(layer, outputs, feedback.targets())


class _LocalLosses(Route):
    """A route by which each hidden layer has the task's loss on a read-out of its own, y = s Q."""

    skips_layers = True
    has_local_losses = True

    def matrix(self, layer: Layer, units: int, size: int, dtype: Any) -> Float[Array, "N C"]:
        """The read-out Q [N, C] of a layer of N units."""
        raise NotImplementedError

    def signal(
        self, layer: Layer, outputs: Float[Array, "K B *N"], feedback: FeedbackSignals
    ) -> Float[Array, "K B *N"]:
        leaves, structure = jax.tree.flatten(feedback.outputs)
        sizes = [math.prod(leaf.shape[2:]) for leaf in leaves]
        units = math.prod(outputs.shape[2:])
        matrix = self.matrix(layer, units, sum(sizes), outputs.dtype)

        def loss(outputs: Array) -> Array:
            whole = outputs.reshape(*outputs.shape[:2], units) @ matrix
            parts = jnp.split(whole, np.cumsum(sizes)[:-1], axis=-1)
            shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
            return feedback.loss(jax.tree.unflatten(structure, shaped))

        return jax.grad(loss)(outputs)


class Local(_LocalLosses, nnx.Module):
    """Local losses: each hidden layer has the task's loss on its own fixed random read-out, and takes no signal from above.

        y^l_t = s^l_t Q^l        signal of layer l: dl^l_t/dy^l_t (Q^l)^T

    with Q^l ~ N(0, 1 / N_l), of the size of the model's output. The last layer has the task's loss on the model's output.

    Args:
        rngs: random streams; the key of the read-outs is drawn from the stream `params`.

    References:
        Kaiser, Mostafa, Neftci: Synaptic plasticity dynamics for deep continuous local learning (DECOLLE), 2020,
        doi 10.3389/fnins.2020.00424.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Local, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OSTL(route=Local(rngs=rngs)))
        >>> gradient["modules"][0]["kernel"][...].shape
        (8, 16)
    """

    def __init__(self, *, rngs: nnx.Rngs | None = None):
        self.key = _key(self, rngs, "read_out")

    def matrix(self, layer: Layer, units: int, size: int, dtype: Any) -> Array:
        """The read-out Q [N, C] of a layer of N units."""
        key = jax.random.fold_in(self.key[...], layer.number)
        return jax.random.normal(key, (units, size), dtype) / math.sqrt(units)


@dataclasses.dataclass(frozen=True)
class FixedBases(_LocalLosses):
    """Local losses on fixed bases: the read-out of each hidden layer is made of one wave over its units for each output.

        y^l_t = s^l_t Q^l        Q^l_nc = sign(sin(f_c n)) / N_l or sin(f_c n) / N_l    # f_c from 50 to 512, evenly spaced

    for unit n = 0, 1, ... and output c, with the losses and signals of `Local`. Nothing is drawn at random: the
    read-outs are constants of the program. The square wave of unit 0 is zero, so this unit gets no signal.

    Args:
        waveform: "square" or "sine".

    Raises:
        ValueError: an unknown waveform.

    References:
        Apolinario, Roy, Frenkel: TESS: a scalable temporally and spatially local learning rule for spiking neural networks,
        2025, arXiv 2502.01837, with the traces of `STLLR`; the waves follow the authors' code.

    Note:
        The authors first average the outputs of a convolution over patches of the image.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import STLLR, FixedBases, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=STLLR(route=FixedBases()))
    """

    waveform: Literal["square", "sine"] = "square"

    def __post_init__(self) -> None:
        if self.waveform not in ("square", "sine"):
            raise ValueError(f'FixedBases got waveform={self.waveform!r}, expected "square" or "sine".')

    def matrix(self, layer: Layer, units: int, size: int, dtype: Any) -> Float[Array, "N C"]:
        """The read-out Q [N, C] of a layer of N units."""
        waves = np.sin(np.linspace(50, 512, size) * np.arange(units)[:, None])
        return jnp.asarray((np.sign(waves) if self.waveform == "square" else waves) / units, dtype)


_initialize = jax.nn.initializers.lecun_normal()


def feedback_matrix(key: Array, number: int, index: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """A matrix in the place of a kernel, drawn as Flax draws kernels: LeCun normal.

    Args:
        key: the key of the route.
        number: number of the layer whose kernel it replaces.
        index: index of the kernel's synapse in this layer.
        shape, dtype: shape and dtype of the kernel.
    """
    return _initialize(jax.random.fold_in(jax.random.fold_in(key, number), index), shape, dtype)
