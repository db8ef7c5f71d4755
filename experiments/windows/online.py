"""The accuracy after online training, as a function of the number of steps K between two updates.

A sequence of T steps gives T / K updates, so a small K gives more updates; the learning rate is chosen for each K on validation
samples. For TBPTT(K), K also defines the rule, so it is also trained with one update per sequence, where K affects only the
gradient.
"""

from functools import partial
from typing import Any

from experiments.common.learning import Update, choose
from experiments.common.samples import make_sampler
from slax_rules import RULES


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The test accuracies of all seeds and the trials of the learning rates, for each window and each update mode that depends
    on it."""
    sampler = make_sampler(config, None)
    cells = [(update, window) for update in updates(config["rule"]) for window in config["windows"]]
    return {"cells": [results_of_window(config, update, window, sampler) for update, window in cells]}


def results_of_window(config: dict[str, Any], update: Update, window: int, sampler: Any) -> dict[str, Any]:
    """The test accuracy of each seed, equal in weights and batches for all rules, windows and update modes."""
    pieces = {"steps": window} if config["rule"] == "tbptt" else {}
    make = partial(RULES[config["rule"]].make, **pieces)
    where = f"windows: under {config['rule']} {update}, K = {window}"
    own = config | {"online_window": window}
    trials, runs = choose(own, update, sampler, where, rule_of=lambda config: make)
    return {"mode": update, "window": window, "trials": trials, "accuracy": [run.test[config["steps"]] for run in runs]}


def updates(rule: str) -> list[Update]:
    """The update modes that depend on the window: with one update per sequence it matters only for TBPTT."""
    return ["offline", "online"] if rule == "tbptt" else ["online"]
