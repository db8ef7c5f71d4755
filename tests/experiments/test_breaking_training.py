"""Training that leaves the finite numbers stops each experiment, with its name, the rule and the step."""

from functools import partial

import jax
import numpy as np
import pytest
from experiment_files import config_of

from covering import EVERY
from experiments.accuracy import run as accuracy
from experiments.activity import run as activity
from experiments.common import training
from experiments.common.job import settings_of
from experiments.credit_grid import references as credit_grid
from experiments.curvature import online, solutions, windows
from experiments.deep import run as deep
from experiments.gradient_similarity import run as gradient_similarity
from experiments.landscapes import train as landscapes
from experiments.neurobench import run as neurobench
from experiments.rules_table import run as rules_table

RATES = {"learning_rate": np.inf, "learning_rates": [np.inf], "rate_seeds": 1}
FEW = {"seeds": 1, "n_steps": 4, "layers": [64, 6, 10], "steps": 3, "batch_size": 4, "test_size": 5}


def tiny(experiment, job, **changes):
    """The configuration of a job at the tiny scale, cut down."""
    return config_of(experiment, job, settings_of(experiment, "tiny"), "tiny") | FEW | RATES | changes


CASES = {
    "credit_grid of randman, time: under bptt": (
        credit_grid.compute,
        lambda: tiny("credit_grid", "randman/time/references", validation_size=5, eval_batches=1),
        3,
    ),
    "deep, digits: under ottt": (
        deep.compute,
        lambda: tiny("deep", "digits/ottt") | {"n_steps": 10, "layers": [64, 10]},
        3,
    ),
    "accuracy of randman: under ottt offline": (
        accuracy.compute,
        lambda: tiny("accuracy", "randman/ottt", validation_size=5),
        3,
    ),
    "activity: under bptt": (activity.compute, lambda: tiny("activity", "bptt", measure_at=[0, 1, 3]), 3),
    "curvature: under tbptt offline, K = 2": (
        online.compute,
        lambda: tiny("curvature", "online/tbptt"),
        3,
    ),
    "curvature: under otpe": (
        solutions.compute,
        lambda: tiny("curvature", "solutions/bptt", samples=4, products=4) | {"rule": "otpe"},
        3,
    ),
    "curvature: under bptt": (windows.compute, lambda: tiny("curvature", "windows"), 3),
    "gradient_similarity of randman_small: under bptt": (
        gradient_similarity.compute,
        lambda: tiny("gradient_similarity", "randman_small", measure_at=[0, 1, 3], eval_batches=2),
        3,
    ),
    "landscapes of demo: under rtrl online": (
        landscapes.compute,
        lambda: tiny("landscapes", "demo/rtrl", checkpoint_every=2, checkpoints=2),
        4,
    ),
    "neurobench of digits: under bptt": (
        neurobench.compute,
        lambda: tiny("neurobench", "digits", batches=3),
        3,
    ),
    "rules_table of digits: under rtrl offline": (
        rules_table.compute,
        lambda: tiny("rules_table", "digits/rtrl", eval_batches=1),
        3,
    ),
}


# Experiments with a message of their own, and one of those that share the trainer's.
MESSAGES = ("activity", "gradient_similarity", "landscapes", "neurobench", "rules_table")


@pytest.mark.parametrize("where", [where for where in CASES if EVERY or where.startswith(MESSAGES)])
def test_experiment_stops_with_its_name_the_rule_and_the_step(where):
    """After a step of infinite length, which spikes alone would not show: the loss of the next one may be finite."""
    compute, config, steps = CASES[where]
    with pytest.raises(SystemExit) as stopped, jax.numpy_dtype_promotion("standard"):
        compute(config())
    assert f"{where}, seed 0, the loss of training step " in str(stopped.value)
    assert f" of {steps} is nan: it or its gradient is not finite" in str(stopped.value)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_first_step_that_is_not_finite_is_told(broken):
    check = partial(training.check_losses, "an experiment: under bptt", 3)
    check(np.ones(4))
    check(np.zeros((2, 2)))
    message = rf"an experiment: under bptt, seed 3, the loss of training step 3 of 4 is {broken}"
    with pytest.raises(SystemExit, match=message):
        check(np.array([[1.0, 2.0], [broken, np.nan]]))
