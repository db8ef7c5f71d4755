"""What the functions of training refuse before they compute anything: optimizers, losses, windows."""

import operator
from typing import Any

import optax
from flax import nnx

from slax_rules.losses import SequenceLoss


def check_loss(name: str, loss_fn: Any) -> None:
    """Raise TypeError unless a loss can be called."""
    if not callable(loss_fn) and not isinstance(loss_fn, SequenceLoss):
        raise TypeError(f"{name} got {type(loss_fn).__name__} as loss_fn, expected a function such as cross_entropy.")


def check_online_loss(name: str, loss_fn: Any) -> None:
    """Raise TypeError for a loss that is unknown until the sequence ends; `name` is the function that got it."""
    if isinstance(loss_fn, SequenceLoss):
        raise TypeError(
            f"{name} got a SequenceLoss, expected the loss of one step: an update after each window needs a loss that is "
            "known then, and a loss of the whole sequence is known only after the last one. Use train_offline, or a loss of "
            "each step; an LI with a decay close to 1 as the last module holds a running sum."
        )


def check_optimizer(name: str, optimizer: Any) -> None:
    """Raise TypeError for anything other than a Flax optimizer; `name` is the function that got it."""
    if not isinstance(optimizer, nnx.Optimizer) or isinstance(optimizer, nnx.ModelAndOptimizer):
        made = "nnx.Optimizer(model, transformation, wrt=nnx.Param)"
        hint = f" Wrap the Optax transformation: {made}." if isinstance(optimizer, optax.GradientTransformation) else ""
        raise TypeError(f"{name} got {type(optimizer).__name__} as the optimizer, expected {made}.{hint}")


def checked_window(window: Any) -> int | None:
    """Return the number of steps of a window, or None; raise TypeError for no integer, ValueError for one below 1."""
    if window is None:
        return None
    if not hasattr(window, "__index__"):
        raise TypeError(f"Got window={window!r}, expected an integer of at least 1, or None for the rule's default.")
    window = operator.index(window)
    if window < 1:
        raise ValueError(f"Got a window of {window} steps, expected at least 1, or None for the rule's default.")
    return window
