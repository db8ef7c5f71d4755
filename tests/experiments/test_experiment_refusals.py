"""What stops experiments and their figures, each with its message."""

import numpy as np
import pytest
from experiment_files import config_of

from experiments import run
from experiments.gradient_similarity.run import _as_json, compute
from experiments.pipeline.job import settings_of
from experiments.pipeline.results import own_sources
from slax_rules import RULES, SLTT, RuleEntry

OF_RANDMAN = config_of("gradient_similarity", "randman_small", settings_of("gradient_similarity", "tiny"), "tiny")
OTHERS = OF_RANDMAN | {"layers": [64, 8, 5], "dataset": "digits", "code": "latency"}
FINITE = {"bptt": np.array(True), "ostl": np.array(False)}
DIGITS = ["accuracy", "digits/bptt", "--results", "/nowhere"]
STOPS = [
    (lambda: compute(OTHERS), "its data have 64 units and 10 classes"),
    (lambda: _as_json({"task": "a"}, 0, {"finite": FINITE}), "Gradients of a are NaN or infinite: ostl"),
    (lambda: run.main([*DIGITS, "--set", "tasks.randman.steps=3"]), "randman.steps=3 changes nothing in digits/bptt"),
    (lambda: run.main(["accuracy", "--set", "steps=2"]), "Give --results FOLDER with --set"),
]


@pytest.mark.parametrize(("call", "message"), STOPS)
def test_what_does_not_fit_stops(call, message):
    with pytest.raises(SystemExit, match=message):
        call()


def test_a_rule_in_no_file_stops(monkeypatch):
    monkeypatch.setitem(RULES, "own", RuleEntry("own", type("Own", (SLTT,), {"__module__": "nowhere"})))
    with pytest.raises(SystemExit, match="rule 'own', which is in no file, expected one"):
        own_sources({"rule": "own"})
