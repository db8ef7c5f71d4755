"""Gradients of the code of rules' authors against what data/authors/README.md says about it, as plain loops."""

import numpy as np
import pytest

import authors

FLOAT64 = 1e-12
DIFFERENT = 0.02
NAMES = [name for name in authors.NAMES if not name.startswith("ottt")]
CONSTANT_THRESHOLD = [name for name in NAMES if not name.startswith(("etlp_adaptive", "hypr_alif", "hypr_brf"))]
HYPR = [name for name in NAMES if name.startswith("hypr")]
RULES = {"s_tllr": authors.s_tllr, "tess": authors.tess, "etlp": authors.etlp, "hypr": authors.hypr}
STANDARDIZED = [
    (name, index, prefix)
    for name in NAMES
    for data in [authors.load(name)]
    for index in range(2)
    for prefix in ("", "recurrent_")
    if f"{prefix}weight_{index}" in data
]


def loop(name):
    if "convolution" in name:
        return authors.convolution
    return next(function for prefix, function in RULES.items() if name.startswith(prefix))


def deviation(found, expected):
    largest = np.abs(expected).max()
    return np.abs(found - expected).max() / (largest if largest else 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_finds_gradients_and_all_on_the_way_to_them(name):
    data = authors.load(name)
    found, gradients = loop(name)(data), authors.recorded_gradients(data)
    made_of_these = {
        key for key in gradients if key.startswith(("weight", "gain", "recurrent_weight", "recurrent_gain"))
    }
    assert set(gradients) - made_of_these <= set(found)
    for key in found:
        expected = gradients[key] if key in gradients else data[key].astype(float)
        assert deviation(found[key], expected) < FLOAT64, key


@pytest.mark.parametrize("name", CONSTANT_THRESHOLD)
def test_no_membrane_is_so_near_to_the_threshold_that_rounding_decides(name):
    data = authors.load(name)
    level = data["threshold"] if "threshold" in data else data["option_thr"]
    for key in data:
        if key.startswith("membrane"):
            assert np.abs(data[key] - level).min() > 1e-4


@pytest.mark.parametrize(("name", "index", "prefix"), STANDARDIZED)
def test_kernels_of_s_tllr_and_tess_are_standardized(name, index, prefix):
    data = authors.load(name)
    kernel = f"{prefix}kernel_{index}" if not prefix else f"recurrent_{index}"
    weight, gain = (data[f"{prefix}{key}_{index}"] for key in ("weight", "gain"))
    check_standardized(weight, gain, data[kernel], *(data[f"gradient_{key}"] for key in _keys(kernel, prefix, index)))


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_weight_standardization_of_ottt(name):
    data = authors.load("ottt_weight_standardization")
    weight, gain, kernel = (data[f"{key}_{name}"] for key in ("weight", "gain", "kernel"))
    signal, inputs = data[f"signal_{name}"], data[f"inputs_{name}"]
    if name == "linear":
        by_kernel, bias_axes = inputs.T @ signal, 0
    else:
        by_kernel, bias_axes = (
            np.einsum("bohw,bhwck->ock", signal, authors.patches(inputs)).reshape(kernel.shape),
            (0, 2, 3),
        )
    check_standardized(weight, gain, kernel, by_kernel, data[f"gradient_weight_{name}"], data[f"gradient_gain_{name}"])
    assert deviation(signal.sum(bias_axes), data[f"gradient_bias_{name}"]) < FLOAT64


def check_standardized(weight, gain, kernel, by_kernel, by_weight, by_gain):
    """Dense weights are [I, O] in the files."""
    dense = weight.ndim == 2
    weight, kernel, by_kernel, by_weight = (w.T if dense else w for w in (weight, kernel, by_kernel, by_weight))
    assert deviation(authors.standardized(weight, gain), kernel) < FLOAT64
    found = authors.standardized(weight, gain, by_kernel)
    assert deviation(found[0], by_weight) < FLOAT64
    assert deviation(found[1], by_gain) < FLOAT64


def _keys(kernel, prefix, index):
    return kernel, f"{prefix}weight_{index}", f"{prefix}gain_{index}"


@pytest.mark.parametrize("name", ["tess_square", "tess_sine", "tess_convolution"])
def test_bases_of_tess(name):
    data = authors.load(name)
    for key in data:
        if key.startswith("basis"):
            np.testing.assert_allclose(authors.bases(str(data["waveform"]), *data[key].shape), data[key], atol=FLOAT64)


@pytest.mark.parametrize("name", HYPR)
def test_what_the_code_of_hypr_does_otherwise(name):
    """Without recurrence and with spikes that depend on the new state alone, it computes what its equations say."""
    data = authors.load(name)
    published, defined = authors.hypr(data), authors.hypr(data, published=False)
    worst = max(deviation(published[f"kernel_{index}"], defined[f"kernel_{index}"]) for index in range(2))
    if name in ("hypr_lif", "hypr_adlif", "hypr_alif"):
        assert worst < FLOAT64
    else:
        assert worst > DIFFERENT
