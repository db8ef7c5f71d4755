"""Routes by which each hidden layer has a loss of its own, and takes no signal from above."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from slax_rules.layerwise.layer import Layer
from slax_rules.layerwise.routes.matrices import read_out_matrix
from slax_rules.layerwise.routes.route import Route, Teaching


class _LocalLosses(Route):
    """A route by which each hidden layer has the task's loss on a read-out of its own, y = s Q."""

    skips_layers = True

    def matrix(self, layer: Layer, units: int, size: int, dtype: Any) -> Float[Array, "N C"]:
        """The read-out Q [N, C] of a layer of N units."""
        raise NotImplementedError

    def read_out(self, layer: Layer, outputs: Array, head: Any) -> Any:
        steps, batch = outputs.shape[:2]
        units = outputs.reshape(steps, batch, -1)
        leaves, structure = jax.tree.flatten(head)
        sizes = [math.prod(leaf.shape[2:]) for leaf in leaves]
        whole = units @ self.matrix(layer, units.shape[-1], sum(sizes), units.dtype)
        ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
        parts = jnp.split(whole, ends[:-1], axis=-1)
        return jax.tree.unflatten(
            structure, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
        )

    def signal(self, layer: Layer, outputs: Float[Array, "K B *N"], teaching: Teaching) -> Float[Array, "K B *N"]:
        assert teaching.own is not None
        return teaching.own


class Local(_LocalLosses, nnx.Module):
    """Local losses: each hidden layer has the task's loss on its own fixed random read-out, and takes no signal from above.

        y^l_t = s^l_t Q^l        signal of layer l  dloss(y^l_t, target)/dy^l_t Q^l^T

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

    def __init__(self, *, rngs: nnx.Rngs):
        self.key = nnx.RngKey(rngs.params(), tag="read_out")

    def matrix(self, layer: Layer, units: int, size: int, dtype: Any) -> Array:
        """The read-out Q [N, C] of a layer of N units."""
        return read_out_matrix(self.key[...], layer.number, (units, size), dtype)


@dataclasses.dataclass(frozen=True)
class FixedBases(_LocalLosses):
    """Local losses on fixed bases: the read-out of each hidden layer is made of one wave over its units for each output.

        y^l_t = s^l_t Q^l        Q^l_nc = sign(sin(f_c n)) / N_l, or sin(f_c n) / N_l        f_c from 50 to 512, evenly spaced

    for unit n = 0, 1, ... and output c, with the losses and signals of `Local`. Nothing is drawn at random: the
    read-outs are constants of the program. The square wave of unit 0 is zero, so this unit gets no signal.

    Args:
        waveform: "square" or "sine".

    Raises:
        ValueError: an unknown waveform.

    References:
        Apolinario, Roy, Frenkel: TESS: a scalable temporally and spatially local learning rule for spiking neural networks,
        2025, arXiv 2502.01837, with the traces of `STLLR`; the waves are those of the authors' code.

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
