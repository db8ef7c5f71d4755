"""What stops experiments and their figures, each with its message."""

import importlib

import numpy as np
import pytest

from experiments import run
from experiments.gradient_similarity.run import _as_json
from experiments.pipeline.job import jobs_of, settings_of
from experiments.pipeline.results import own_sources
from slax_rules import RULES, SLTT, RuleEntry


def compute(experiment, job, **changes):
    """A job of the toy scale, with other settings."""
    config = jobs_of(experiment, "tiny", settings_of(experiment, "tiny"))[job].config | changes
    importlib.import_module(f"experiments.{experiment}.run").compute(config)


OTHERS = {"layers": [64, 8, 5], "dataset": "digits", "code": "latency"}
FINITE = {"bptt": np.array(True), "ostl": np.array(False)}
DIGITS = ["accuracy", "digits/bptt", "--results", "/nowhere"]
STOPS = [
    (lambda: compute("gradient_similarity", "randman_small", **OTHERS), "its data have 64 units and 10 classes"),
    (lambda: _as_json({"task": "a"}, 0, {"finite": FINITE}), "Gradients of a are NaN or infinite: ostl"),
    (lambda: run.main([*DIGITS, "--set", "tasks.randman.steps=3"]), "randman.steps=3 changes nothing in digits/bptt"),
    (lambda: run.main(["accuracy", "--set", "steps=2"]), "Give --results FOLDER with --set"),
]


@pytest.mark.parametrize(("call", "message"), STOPS, ids=[message for _, message in STOPS])
def test_what_does_not_fit_stops(call, message):
    with pytest.raises(SystemExit, match=message):
        call()


def test_a_rule_in_no_file_stops(monkeypatch):
    monkeypatch.setitem(RULES, "own", RuleEntry("own", type("Own", (SLTT,), {"__module__": "nowhere"})))
    with pytest.raises(SystemExit, match="rule 'own', which is in no file, expected one"):
        own_sources({"rule": "own"})
