"""The exact gradient of a stack as a sum of paths, which shows what a rule that cuts some of them omits.

A path leads from a weight of layer l at step k to the loss at step t >= k. Through time it goes within the membrane of a layer,
around the reset or through it. Each rule keeps some of them:

    SLTT            k = t only, no path through time
    OSTL            time in layer l only: signals from layers above come down within the step
    BPTT            all
    OSTL*, BPTT*    the same, where no gradient passes a reset

and the differences are disjoint sets of paths that add up to all of them:

    within_step          SLTT
    own_membrane         OSTL* - SLTT                        omitted by SLTT
    own_reset            OSTL - OSTL*                        omitted by SLTT and OTTT
    above                BPTT* - OSTL*                       omitted by SLTT, OTTT and OSTL; what OTPE estimates
    above_with_reset     (BPTT - OSTL) - (BPTT* - OSTL*)     also omitted by these: time in a layer above, and a reset in any
"""

from typing import Any

import jax
from flax import nnx

from slax_neurons import Connect
from slax_neurons.neurons.neuron import SpikingNeuron


def without_reset_gradient(model: Connect) -> Connect:
    """A copy of the stack whose resets pass no gradient. Its forward pass and the paths of its parameters are the same."""
    copy = nnx.clone(model)
    for _, module in nnx.iter_modules(copy):
        if isinstance(module, SpikingNeuron):
            module.stop_reset_gradient = True
    return copy


def terms_of(gradients: dict[str, Any], without_reset: dict[str, Any]) -> dict[str, Any]:
    """The terms of the exact gradient, each a tree like the gradients.

    Args:
        gradients: gradients of the model, "sltt", "ostl" and "bptt".
        without_reset: gradients of `without_reset_gradient(model)`, "ostl" and "bptt".
    """
    above = _difference(without_reset["bptt"], without_reset["ostl"])
    return {
        "within_step": gradients["sltt"],
        "own_membrane": _difference(without_reset["ostl"], gradients["sltt"]),
        "own_reset": _difference(gradients["ostl"], without_reset["ostl"]),
        "above": above,
        "above_with_reset": _difference(_difference(gradients["bptt"], gradients["ostl"]), above),
    }


def _difference(minuend: Any, subtrahend: Any) -> Any:
    return jax.tree.map(lambda a, b: a - b, minuend, subtrahend)
