"""Train a deep network under one rule with several seeds, and evaluate each on the test split after its last batch.

The settings are the ones with the best validation accuracy (`experiments.common.learning`).
"""

from functools import partial
from pathlib import Path
from typing import Any

from experiments.common.learning import RATE, WINDOW, Update, choose
from experiments.common.measures import at_the_end, is_right_in_sum, spikes_of_layers, summed_accuracy
from experiments.common.samples import SeedSamples, make_sampler
from experiments.deep.networks import NETWORKS
from slax_rules import RULES
from slax_rules.train.runs import Run


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The trials of the settings, and the numbers of all seeds; no step is selected by accuracy."""
    sampler, update = make_sampler(config, spikes), update_of(config)
    where, second = f"deep, {config['task']}: under {config['rule']}", WINDOW if update == "online" else RATE
    how = {"network": NETWORKS[config["network"]], "rule_of": rule_of, "metric": summed_accuracy}
    trials, runs = choose(config, update, sampler, where, second, **how)
    return {"trials": trials, "seeds": [numbers_of(run, sampler(run.seed)) for run in runs]}


def numbers_of(run: Run, samples: SeedSamples) -> dict[str, Any]:
    """The numbers of a network at the end of its training, and which test samples it was right about, as `lengths` has them."""
    return at_the_end(run, samples, is_right_in_sum) | {"spikes": spikes_of_layers(run.network()[0], samples.test[0])}


def rule_of(config: dict[str, Any]) -> Any:
    """The function that makes the rule; TBPTT is cut where updates are."""
    pieces = {"steps": config["online_window"]} if config["rule"] == "tbptt" else {}
    return partial(RULES[config["rule"]].make, **pieces)


def update_of(config: dict[str, Any]) -> Update:
    """BPTT makes an update for each sequence, every other rule for each window."""
    return "offline" if config["rule"] == "bptt" else "online"
