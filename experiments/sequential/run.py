"""Train a network on sequences of pixels under one rule with several seeds, and test each once, after its last batch.

The learning rate is the one of a short training of the first seed with the best accuracy on validation images; this is the
procedure of `experiments.common.learning`, with fewer batches in the trials than in the training.
"""

from functools import partial
from pathlib import Path
from typing import Any

from experiments.common.learning import Update, best_of, finite_runs, train, trials_of, validation_loss
from experiments.common.measures import is_right_in_sum, loss_at_the_end, pack, right, summed_accuracy
from experiments.sequential.networks import NETWORKS
from experiments.sequential.pixels import make_sampler
from slax_rules import RULES


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The trials and the results of each way of updating, for all seeds."""
    of_rule = RULES[config["rule"]].updates
    asked = [update for update in config["updates"] if update in of_rule] or of_rule
    return {"updates": {update: of_update(config, update, spikes) for update in asked}}


def of_update(config: dict[str, Any], update: Update, path: Path | None) -> dict[str, Any]:
    where = f"sequential, {config['task']}: under {config['rule']} {update}"
    how: dict[str, Any] = {"network": NETWORKS[config["network"]], "rule_of": rule_of}
    how |= {"metric": summed_accuracy, "tests": False}
    rates, tried = sorted(config["learning_rates"]), None
    if len(rates) > 1:
        short = config | {"steps": config["trial_steps"], "evaluate_at": []}
        samples = make_sampler(short, path)
        tried = train(short, update, samples, where, rates=rates, seeds=config["rate_seeds"], **how)
        rates = [rates[best_of(tried.trials[where], partial(validation_loss, samples))]]
    sampler = make_sampler(config, path)
    found = train(config, update, sampler, where, rates=rates, seeds=config["seeds"], **how)
    runs = finite_runs(found)
    seeds = []
    for run in runs:
        is_test_right = right(run.network()[0], sampler(run.seed).test, is_right_in_sum)
        end = {"batches": config["steps"], "accuracy": float(is_test_right.mean()), "right": pack(is_test_right)}
        curve = [{"batches": step, "validation_accuracy": run.validation[step]} for step in run.steps if step]
        more = {"lengths": [end], "curve": curve, "common_test": True, "test_size": len(is_test_right)}
        seeds.append({"seed": run.seed, "accuracy": end["accuracy"], "loss": loss_at_the_end(run.losses)} | more)
    return {"trials": trials_of(tried or found, rates[0]), "seeds": seeds}


def rule_of(config: dict[str, Any]) -> Any:
    """The function that makes the rule; the pieces of TBPTT need as much memory as the traces of e-prop."""
    pieces = {"steps": config["piece"]} if config["rule"] == "tbptt" else {}
    return partial(RULES[config["rule"]].make, **pieces)
