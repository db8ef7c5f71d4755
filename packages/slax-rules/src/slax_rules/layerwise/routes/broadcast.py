"""Routes that send the same vectors to each hidden layer through a fixed random matrix of its own."""

import math
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from slax_rules.layerwise.layer import Layer
from slax_rules.layerwise.routes.matrices import feedback_matrix
from slax_rules.layerwise.routes.route import Route, Teaching


class _Broadcast(Route, nnx.Module):
    """A route that sends vectors to each hidden layer through a fixed random matrix of its own."""

    skips_layers = True

    def __init__(self, *, rngs: nnx.Rngs):
        self.key = nnx.RngKey(rngs.params(), tag="feedback")

    def matrix(self, layer: Layer, units: int, size: int, dtype: Any) -> Float[Array, "N C"]:
        """The matrix B of a layer of N units for vectors of C numbers, drawn from the same key in every call.

        Above the first hidden layer of two layers, it is the matrix that `Random` draws from the same key.
        """
        return feedback_matrix(self.key[...], layer.number + 1, 0, (units, size), dtype)

    def _send(self, layer: Layer, outputs: Float[Array, "K B *N"], vectors: Float[Array, "K B C"]) -> Array:
        matrix = self.matrix(layer, math.prod(outputs.shape[2:]), vectors.shape[-1], outputs.dtype)
        return (vectors.astype(outputs.dtype) @ matrix.T).reshape(outputs.shape)


class Direct(_Broadcast):
    """Direct feedback: each hidden layer gets the error of the read-out through a fixed random matrix of its own.

        signal of layer l  e_t B^l^T        e_t  the cotangent that the rule of the last layer passes below

    For most rules e_t = psi_t delta_t, the gradient of the loss w.r.t. the current of the last layer within the step, which is
    the error of a read-out of `LI` units; `OTPE(output_decay=...)` for the last layer of a list of rules passes g_t delta_t. As
    the route of `SLTT` this is direct feedback alignment in each time step, and as the route of `EProp` it is e-prop with
    random feedback as published. In a stack of two layers it equals `Random`.

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

    def signal(self, layer: Layer, outputs: Float[Array, "K B *N"], teaching: Teaching) -> Float[Array, "K B *N"]:
        return self._send(layer, outputs, teaching.error)


class Target(_Broadcast):
    """Projected targets: each hidden layer gets the target of the step through a fixed random matrix of its own.

        signal of layer l  y*_t B^l^T        y*_t  the one-hot label, or the target itself

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

    def signal(self, layer: Layer, outputs: Float[Array, "K B *N"], teaching: Teaching) -> Float[Array, "K B *N"]:
        return self._send(layer, outputs, teaching.targets())
