"""Checks of the arguments of `fit` that need no model."""

import warnings
from collections.abc import Mapping
from typing import Any

from slax_rules.bptt import BPTT, TBPTT
from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.checks import check_loss, check_online_loss
from slax_rules.training.callbacks import EarlyStopping
from slax_rules.training.checkpoints import Checkpoints


def check_update(loss_fn: Any, rule: Any, epochs: Any, update: Any) -> None:
    """Raise TypeError or ValueError for a loss, a rule or options of the update that `fit` cannot take."""
    as_rule(rule)
    check_loss("fit", loss_fn)
    if not hasattr(epochs, "__index__") or epochs < 1:
        raise ValueError(f"fit got epochs={epochs!r}, expected an integer of at least 1.")
    if update not in ("offline", "online"):
        raise ValueError(f'fit got update={update!r}, expected "offline" or "online".')
    if update == "online":
        check_online_loss("fit", loss_fn)


def check_evaluation(
    held_out: Any, metrics: Mapping[str, Any], evaluate_every: Any, early_stopping: Any, checkpoints: Any
) -> None:
    """Raise TypeError or ValueError for options of evaluation that do not fit together."""
    for name, given, kind, example in (
        ("early_stopping", early_stopping, EarlyStopping, "EarlyStopping('accuracy', patience=5)"),
        ("checkpoints", checkpoints, Checkpoints, f"Checkpoints({str(checkpoints)!r})"),
    ):
        if given is not None and not isinstance(given, kind):
            raise TypeError(f"fit got {given!r} as {name}, expected one such as {example}.")
    if held_out is None and (metrics or evaluate_every is not None or early_stopping is not None):
        raise ValueError(
            "fit got metrics, evaluate_every or early_stopping, expected held_out with them: the batches to evaluate on, as in "
            "held_out=[(inputs, targets)]."
        )
    names = ("loss", *metrics)
    if early_stopping is not None and early_stopping.metric not in names:
        raise ValueError(
            f"Early stopping is by the metric {early_stopping.metric!r}, expected one of: {', '.join(names)}. Others are given "
            "by name: metrics={'accuracy': accuracy}."
        )


def warn_without_credit(name: str, rule: Any, window: int | None) -> None:
    """Warn of online updates whose gradient flows through no step, unless a window of one step was asked for.

    `name` is the function called.
    """
    if window is None and isinstance(rule, BPTT | TBPTT):
        warnings.warn(
            f"{name} got {type(rule).__name__} and no window, expected window=K. Each update has the gradient of one step, "
            "so it reaches no step back, and nothing is learned across time. Give a window, as in window=10, whose gradient "
            "reaches up to 9 steps back, or a rule that carries the past forward, as in rule=OTPE(). If one step is meant, say "
            "window=1.",
            UserWarning,
            stacklevel=3,
        )
