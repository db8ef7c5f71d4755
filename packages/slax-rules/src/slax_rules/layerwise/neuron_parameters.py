"""The gradient w.r.t. a neuron's own parameters: one recursion per unit, for every rule."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from slax_neurons.building_blocks import scan_units
from slax_rules.layerwise.jacobians import LocalJacobians, WeightedOutput, add_up, dot
from slax_rules.layerwise.layer import Layer, sum_to_parameter

Traces = tuple[tuple[Array, ...], ...]  # for each parameter, one array [B, N] per state


def neuron_parameter_gradients(
    layer: Layer,
    steps: Any,
    traces: Traces,
    at: Callable[[Any], tuple[LocalJacobians, Array, WeightedOutput | None]],
) -> tuple[tuple[Array, ...], Traces]:
    """The gradient w.r.t. each of the neuron's parameters, and their traces after the window.

        eps_t = o_t E_{t-1} + pO_t        E_t = D_t E_{t-1} + pS_t        gradient  sum_t delta_t eps_t

    Args:
        steps: the data of the steps that `at` needs, leaves [K, ...].
        traces: E before the first step.
        at: maps the data of a step to its Jacobians D, o, pS and pO, to its signal delta [B, N], and to the derivatives of its
            penalties, which are added to the products with delta; None if there are none.
    """
    if not traces:
        return (), ()

    def step(_: tuple[()], carry: tuple[Any, Any], at_step: Any) -> tuple[Any, None]:
        sums, traces = carry
        (D, _, o, _, pS, pO), delta, penalty = at_step
        eligibilities = (add_up([dot(o, E), direct]) for E, direct in zip(traces, pO, strict=True))
        sums = tuple(total + delta * eps for total, eps in zip(sums, eligibilities, strict=True))
        if penalty is not None:
            weighted = (add_up([dot(penalty.o, E), direct]) for E, direct in zip(traces, penalty.pO, strict=True))
            sums = tuple(map(jnp.add, sums, weighted))
        traces = tuple(
            tuple(add_up([dot(row, E), direct]) for row, direct in zip(D, directs, strict=True))
            for E, directs in zip(traces, pS, strict=True)
        )
        return (sums, traces), None

    zero = tuple(jnp.zeros_like(states[0]) for states in traces)
    (sums, traces), _ = scan_units(step, (), (zero, traces), steps, local=at)
    return tuple(map(sum_to_parameter, sums, layer.parameters)), traces
