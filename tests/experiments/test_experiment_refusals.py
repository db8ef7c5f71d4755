"""What stops experiments and their figures, each with its message."""

import importlib

import numpy as np
import pytest
from flax import nnx

from benchmarks import speed
from experiments import plot, run
from experiments.common import sources
from experiments.common.job import jobs_of, settings_of
from experiments.common.networks import demo_model, paths_of
from experiments.common.tasks import task_maker, with_validation
from experiments.gradient_similarity.run import _as_json
from experiments.landscapes.surfaces import read_checkpoints
from experiments.questions import sources as tasks_of_questions
from experiments.streaming.sources import make_source
from experiments.throughput import others
from slax_data import Task
from slax_rules import SLTT, RuleEntry


def compute(experiment, job, **changes):
    """A job of the toy scale, with other settings."""
    config = jobs_of(experiment, "tiny", settings_of(experiment, "tiny"))[job].config | changes
    importlib.import_module(f"experiments.{experiment}.run").compute(config)


def prepare(experiment, *results):
    importlib.import_module(f"experiments.{experiment}.plot").prepare(list(results))


def task_of_inputs(value):
    inputs = np.zeros((3, 10, 2), np.float32)
    inputs[1, 3, 0] = value
    splits = dict.fromkeys(("train", "test"), (inputs, np.arange(10) % 2))
    return Task(n_units=2, n_classes=2, n_steps=3, sample=lambda key, **_: None, full_split=splits.__getitem__)


NOWHERE = type("Own", (SLTT,), {"__module__": "nowhere"})
OTHERS = {"layers": [64, 8, 5], "dataset": "digits", "code": "latency"}
FINITE = {"bptt": np.array(True), "ostl": np.array(False)}
BPTT = {"config": {"task": "demo", "rule": "bptt"}, "seeds": []}
SURFACES = {"config": {"task": "rules"}, "reference": "bptt"}
CELLS = {"config": {"task": "a", "code": "time"}, "cells": {"sltt/local": {}}, "carried": {}}
DIGITS = ["accuracy", "digits/bptt", "--results", "/nowhere"]
STOPS = [
    (lambda: compute("activity", "bptt", measure_at=[3, 1]), r"measure_at is \[3, 1\], expected steps in increasing"),
    (lambda: compute("gradient_similarity", "randman_small", rules=["fptt"]), "There is no rule fptt, expected some"),
    (lambda: compute("gradient_similarity", "randman_small", **OTHERS), "its data have 64 units and 10 classes"),
    (lambda: _as_json({"task": "a"}, 0, {"finite": FINITE}), "Gradients of a are NaN or infinite: ostl"),
    (lambda: compute("neurobench", "digits", layers=[2, 20, 1]), "but its data have 64 inputs and 10 outputs"),
    (lambda: compute("step_response", "lif", neuron="nonsense"), "There is no neuron 'nonsense', expected one of: ade"),
    (lambda: compute("step_response", "lif", states={"w": "recovery"}), "lif has no state w, expected some of: u"),
    (lambda: compute("step_response", "lif", current_off=10), "on from step 20 to 10 of 200, expected steps in incr"),
    (lambda: task_maker({"task": "a", "spikes": "some"}, None), "a reads spikes, expected the file some.npz"),
    (lambda: make_source({"source": "speakers", "task": "a", "spikes": "some"}, None), "expected the file some.npz"),
    (lambda: tasks_of_questions.adding(12, 3, 30), "3 classes, 32, 64, ... steps and 3, 6, ... units, got 3, 30, 12"),
    (lambda: tasks_of_questions.recall(12, 3, 10), "Recall of 3 symbols .* units that 4 divides, got 10 and 12"),
    (lambda: tasks_of_questions.permuted_mnist(28, 10, 20), "784 pixels, got 20 steps of 28 units"),
    (lambda: with_validation(task_of_inputs(0.25)), "'train' of the task has an input of 0.25, expected spikes"),
    (lambda: prepare("landscapes", BPTT, BPTT, SURFACES), "two results of the task demo and the rule bptt, expected"),
    (lambda: prepare("landscapes", BPTT, SURFACES), "Got trainings of demo and surfaces of rules, expected the same"),
    (lambda: others.check(1.3, 0.2, "before"), "other programs use 1.30 cores before, expected at most 0.2. Stop them"),
    (lambda: speed.mark_of("0a1b", 1.3, False), "other programs that use 1.30 cores, expected at most 0.2. Stop them"),
    (lambda: speed.mark_of("0a1b+", 0.1, False), "files that no commit has, expected none. Commit them; or mark the"),
    (lambda: read_checkpoints({"rules": {"rtrl": {}}}, [plot.Path("bptt.npz")]), "Got checkpoints bptt, expected one"),
    (lambda: paths_of(demo_model([4, 3], nnx.Rngs(0)), {}, 0), "they were made with another configuration"),
    (lambda: prepare("credit_grid", CELLS), "The figures of a, time need its references: name the job a/time/ref"),
    (lambda: prepare("rules_table", *[{"rules": {}}] * 9), "Got the costs of 9 tasks, the figure has marks for"),
    (lambda: run.main(["accuracy", "digits/x"]), "There is no job 'digits/x' of accuracy at the quick scale, expected"),
    (lambda: run.main(["accuracy", "spoken_digits/bptt", "--data", "/nowhere"]), "no /nowhere/spoken_digits.npz"),
    (lambda: run.main([*DIGITS, "--set", "tasks.randman.steps=3"]), "randman.steps=3 changes nothing in digits/bptt"),
    (lambda: run.main(["accuracy", "--set", "steps=2"]), "Give --results FOLDER with --set"),
    (
        lambda: sources.digest_of_entry("rule", "own", RuleEntry("own", NOWHERE)),
        "rule 'own', whose Own is in no file, expected one",
    ),
    (lambda: plot.main(["accuracy", "x"]), "There is no figure 'x' of accuracy, expected one of: accuracy"),
    (lambda: plot.main(["step_response", "--jobs", "lif"]), "Give --output FOLDER with --jobs"),
    (
        lambda: plot.main(["step_response", "--results", "/nowhere"]),
        "There is no .*if.json. .*run step_response --scale",
    ),
]


@pytest.mark.parametrize(("call", "message"), STOPS, ids=[message for _, message in STOPS])
def test_what_does_not_fit_stops(call, message):
    with pytest.raises(SystemExit, match=message):
        call()
