"""Eligibility of a dense synapse: what a trace of it is, how it grows, fades and meets a signal.

A trace holds, for each state of the neuron, sample and weight, the derivative of the state at the unit that the weight
reaches. A weight of a dense synapse reaches one unit, so the kernel's trace [S, B, I, O] is complete. A bias is the weight
of a constant input.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.engine import apply_rows

Traces = dict[str, Array]  # by the name of the weight, of shape [S, B, *weight]


def zero_traces(synapse: nnx.Linear, states: Float[Array, "S B *O"]) -> Traces:
    """The traces at rest.

    Raises:
        ValueError: features on several axes, on which a weight reaches more than one unit.
    """
    if states.ndim != 3:
        raise ValueError(
            f"A rule traces a Linear on inputs [B, features], got a current of shape {list(states.shape[1:])} per step. "
            "Flatten the features before the Linear, or use BPTT (the plain cell)."
        )
    kernel = jnp.zeros((*states.shape[:2], *synapse.kernel.shape), states.dtype)
    return {"kernel": kernel} | ({"bias": jnp.zeros_like(states)} if _has_bias(synapse) else {})


def grow(synapse: nnx.Linear, inputs: Float[Array, "K B I"], sensitivity: Float[Array, "S K B O"]) -> Traces:
    """sum_t sensitivity_t x_t per sample, where `sensitivity` is the derivative of the last state by the current I_t."""
    kernel = jnp.einsum("kbi,skbo->sbio", inputs.astype(sensitivity.dtype), sensitivity)
    return {"kernel": kernel} | ({"bias": jnp.sum(sensitivity, axis=1)} if _has_bias(synapse) else {})


def fade(transition: Float[Array, "S S B O"], traces: Traces) -> Traces:
    """transition E per sample and unit: traces [s, b, ..., o] <- sum_r transition[s, r, b, o] traces[r, b, ..., o]."""
    return {name: jnp.sum(_over(transition, trace[None]) * trace[None], axis=1) for name, trace in traces.items()}


def meet(adjoint: Float[Array, "S B O"], traces: Traces) -> dict[str, Array]:
    """sum over states and samples of adjoint . E, one sample after the other: XLA's reduction is slow on a CPU."""

    def add(total: dict[str, Array], sample: tuple[Array, Traces]) -> tuple[dict[str, Array], None]:
        a, traces = sample
        return jax.tree.map(lambda sum_, trace: sum_ + _over(a, trace) * trace, total, traces), None

    merged = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (adjoint, traces))
    zero = jax.tree.map(lambda trace: jnp.zeros_like(trace[0, 0]), traces)
    return jax.lax.scan(add, zero, merged)[0]


def weight_gradient(synapse: nnx.Linear, inputs: Array, current: Float[Array, "K B O"]) -> dict[str, Array]:
    """sum over steps and samples of current x: the gradient of sum(current . synapse(inputs)) by the weights."""
    graphdef, params = nnx.split(synapse)
    _, pull = jax.vjp(lambda params: apply_rows(nnx.merge(graphdef, params), inputs), params)
    (gradient,) = pull(current)
    return {name: gradient[name][...] for name in gradient}


def input_gradient(synapse: nnx.Linear, inputs: Array, current: Float[Array, "K B O"]) -> Array:
    """current W^T: the gradient of sum(current . synapse(inputs)) by the inputs."""
    _, pull = jax.vjp(lambda inputs: apply_rows(synapse, inputs), inputs)
    return pull(current)[0]


def _has_bias(synapse: nnx.Linear) -> bool:
    return synapse.bias is not None


def _over(factor: Array, trace: Array) -> Array:
    """`factor` [..., O] as it multiplies a trace [..., I, O] or [..., O]."""
    return factor if factor.ndim == trace.ndim else factor[..., None, :]
