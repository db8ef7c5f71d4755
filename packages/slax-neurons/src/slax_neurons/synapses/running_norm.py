"""Normalization of a current by running statistics."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.parameter import positive
from slax_neurons.synapses.synapse import Reparameterized, RunningSum, effective_weights


class RunningNorm(Reparameterized):
    """A synapse whose current is normalized by running statistics, with a trained scale and offset.

        y = scale (x * w + b - mean) / sqrt(var + eps) + offset        # for each output feature

    `mean` and `var` are statistics of earlier sequences, which are constants within a sequence, for the forward pass and for
    the gradient. So this is a synapse with the kernel w scale / sqrt(var + eps). Results do not depend on the window or on the
    other samples of a batch, and every rule for layers takes it. An `nnx.BatchNorm` in training normalizes by the statistics of
    the batch itself, over all steps, and no such rule can take it between a synapse and a neuron.

    In training, calls add up the current x * w + b over steps, samples and positions, and the statistics move when the sequence
    ends: once for each call of `gradients`, `train_offline` or `train_online`, once for each step of `fit`, and whenever you
    call `end_sequence`.

        mean <- momentum mean + (1 - momentum) "mean of the sequence"        # likewise var, with the biased variance

    `model.eval()` stops this, and `model.train()` starts it again, as for BatchNorm. Steps that a mask excludes from the loss
    count in the statistics. A training step that is not finite leaves the statistics as they are.

    Args:
        synapse: a Linear, a Conv, or any other synapse. A bias in it has no effect in the long run: the offset takes its place.
        momentum: weight of the past in the statistics, in [0, 1). They start from mean 0 and variance 1.
        eps: keeps the root away from zero, > 0.
        use_running_average: True in evaluation, when calls leave the sums alone; the name is Flax's.

    Raises:
        TypeError: anything other than a synapse.
        ValueError: a momentum or an eps out of range.

    References:
        Ioffe, Szegedy: Batch normalization: accelerating deep network training by reducing internal covariate shift, 2015,
        arXiv 1502.03167, whose inference this is, in training too.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, RunningNorm, connect, end_sequence, unroll
        >>> norm = RunningNorm(nnx.Linear(8, 4, rngs=nnx.Rngs(0)), momentum=0.9)
        >>> model, inputs = connect([norm, LIF()]), jnp.ones((20, 2, 8))
        >>> carry, spikes = unroll(model, model.initialize_carry((2, 8)), inputs)
        >>> end_sequence(model)
        >>> current = norm.synapse(inputs[0, 0])
        >>> bool(jnp.allclose(norm.mean[...], 0.1 * current)), bool(jnp.allclose(norm.var[...], 0.9))
        (True, True)
    """

    options = ("momentum", "eps")
    mutates_state = False  # its sums may be added up in any pieces

    def __init__(self, synapse: Any, *, momentum: float = 0.9, eps: float = 1e-5, use_running_average: bool = False):
        super().__init__(synapse)
        if not 0 <= momentum < 1:
            raise ValueError(f"RunningNorm got momentum={momentum}, expected a number in [0, 1).")
        kernel = effective_weights(synapse)[0]
        features, dtype = kernel.shape[-1:], kernel.dtype
        sums = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
        self.momentum, self.eps = momentum, positive("RunningNorm", "eps", eps)
        self.use_running_average = use_running_average
        self.scale = nnx.Param(jnp.ones(features, dtype))
        self.offset = nnx.Param(jnp.zeros(features, dtype))
        self.mean = nnx.BatchStat(jnp.zeros(features, sums))
        self.var = nnx.BatchStat(jnp.ones(features, sums))
        self.rows = RunningSum(jnp.zeros((), sums))
        self.deviations = RunningSum(jnp.zeros(features, sums))  # from `mean`, which loses fewer digits than from zero
        self.squares = RunningSum(jnp.zeros(features, sums))

    @property
    def accumulates(self) -> bool:
        """Whether calls add to the sums: in training."""
        return not self.use_running_average

    def __call__(self, inputs: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        if not self.accumulates:
            return super().__call__(inputs)
        current = self.synapse(inputs)
        axes = tuple(range(current.ndim - 1))
        deviation = jax.lax.stop_gradient(current).astype(self.mean.dtype) - _along(current, self.mean[...])
        self.rows[...] += jnp.asarray(current.size // current.shape[-1], self.rows.dtype)
        self.deviations[...] += jnp.sum(deviation, axis=axes)
        self.squares[...] += jnp.sum(jnp.square(deviation), axis=axes)
        factor, shift = self._affine()
        return current * _along(current, factor) + _along(current, shift)

    def effective(self) -> tuple[Float[Array, "*K I O"], Float[Array, " O"]]:
        kernel, bias = effective_weights(self.synapse)
        factor, shift = self._affine()
        return kernel * _along(kernel, factor), shift if bias is None else bias * factor + shift

    def end_sequence(self) -> None:
        """Move the statistics by the sums of the sequence, if there are any, and set the sums to zero."""
        rows = self.rows[...]
        some = rows > 0
        number = jnp.where(some, rows, jnp.ones_like(rows))
        step = self.deviations[...] / number[None]
        var = jnp.maximum(self.squares[...] / number[None] - jnp.square(step), jnp.zeros_like(step))
        share = jnp.where(some, jnp.asarray(1 - self.momentum, rows.dtype), jnp.zeros_like(rows))[None]
        self.mean[...] += share * step
        self.var[...] += share * (var - self.var[...])
        for total in (self.rows, self.deviations, self.squares):
            total[...] = jnp.zeros_like(total[...])

    def _affine(self) -> tuple[Array, Array]:
        """The factor and the shift that turn the current into the normalized one."""
        scale = self.scale[...]
        mean, var = (statistic[...].astype(scale.dtype) for statistic in (self.mean, self.var))
        factor = scale / jnp.sqrt(var + self.eps)
        return factor, self.offset[...] - mean * factor


def _along(array: Array, features: Array) -> Array:
    """One number for each feature, in a shape that multiplies an array with the features last."""
    return features.reshape((1,) * (array.ndim - 1) + (-1,))
