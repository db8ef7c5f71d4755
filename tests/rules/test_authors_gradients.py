"""Gradients of the code of rules' authors against the equations that data/authors/README.md gives, as plain loops."""

import numpy as np
import pytest

import authors

FLOAT64 = 1e-9
RULES = {"s_tllr": authors.s_tllr, "tess": authors.tess, "etlp": authors.etlp, "hypr": authors.hypr}
STANDARDIZED = {"kernel": ("weight", "gain"), "recurrent": ("recurrent_weight", "recurrent_gain")}


def loop(name):
    rule = name.rsplit("_convolution", 1)[0] if "convolution" not in name else "convolution"
    if rule == "convolution":
        return authors.convolution
    return next(function for prefix, function in RULES.items() if name.startswith(prefix))


def deviation(found, expected):
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-300)


@pytest.mark.parametrize("name", [name for name in authors.NAMES if not name.startswith("ottt")])
def test_a_loop_finds_the_gradients(name):
    data = authors.load(name)
    found = loop(name)(data)
    gradients = authors.recorded_gradients(data)
    assert {key for key in gradients if key.startswith(("kernel", "recurrent_0", "recurrent_1"))} <= set(found)
    for key in set(found) & set(gradients):
        assert deviation(found[key], gradients[key]) < FLOAT64, key
    for key in set(found) & set(data) - set(gradients):
        assert deviation(found[key], data[key].astype(float)) < FLOAT64, key
