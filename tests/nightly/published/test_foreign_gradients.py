"""Gradients that the rules of other libraries give for a small net against the same rules here; see data/README.md.

Where a library's definition is another one, the difference is asserted too: as a formula that holds, and as a distance from
what is defined here.
"""

from typing import NamedTuple

import numpy as np
import pytest

import oracle
from nightly.published.foreign import NAMES, Foreign, by_rule, foreign, their_gradients
from stacks import deviation, worst

FLOAT64 = 1e-12
FLOAT32 = 1e-5
DIFFERENT = 0.1


def ottt_without_bias_trace(run: Foreign) -> list[oracle.Gradients]:
    """OTTT as it is defined here, from all that implements it."""
    return [of_oracle(oracle.ottt, run, bias_trace=False), by_rule("ottt", run, window=2, bias_trace=False)]


def e_prop(run: Foreign) -> list[oracle.Gradients]:
    """e-prop as it is defined here, with the decay of the read-out for kappa, from all that implements it."""
    return [of_oracle(oracle.e_prop, run), by_rule("e_prop", run, window=2)]


def of_oracle(rule, run, **options):
    return rule(run.layers, run.inputs, run.signal, **options).gradients


def kernels(layers):
    return [{name: g for name, g in layer.items() if name.endswith("kernel")} for layer in layers]


def biases(layers):
    return [{name: g for name, g in layer.items() if name == "bias"} for layer in layers]


def least(ours, theirs):
    """The smallest deviation over all layers and parameters."""
    return min(worst([{name: a[name]}], [{name: b[name]}]) for a, b in zip(ours, theirs, strict=True) for name in b)


class Local(NamedTuple):
    """One layer in all steps, [T, B, ...].

    Args:
        inputs: of each kernel, [T, B, I].
        current: the gradient of the current within each step, where signals pass the layers above, psi W^T.
        psi: that of the spikes.
        through_reset: du / dv of the membranes u after and v before the reset.
        jacobian: dv_t / dv_{t-1} of a neuron by itself.
    """

    inputs: dict[str, np.ndarray]
    current: np.ndarray
    psi: np.ndarray
    through_reset: np.ndarray
    jacobian: np.ndarray


def local(run: Foreign) -> list[Local]:
    history = oracle.forward(run.layers, run.inputs)
    signal = np.stack([run.signal(t, steps[-1].output)[1] for t, steps in enumerate(history)])
    signal = signal / np.prod(run.inputs.shape[:2])
    found = []
    for i, layer in reversed(list(enumerate(run.layers))):
        prefixes = layer.connections(i)
        inputs = {f"{name}kernel": np.stack([steps[i].inputs[name] for steps in history]) for name in prefixes}
        psi = oracle.series(history, "psi", i)
        through_reset = oracle.series(history, "d", i)[..., 0]
        jacobian = layer.neuron.decay * delayed(through_reset)
        found.insert(0, Local(inputs, signal * psi, psi, through_reset, jacobian))
        signal = found[0].current @ layer.kernel.T
    return found


def delayed(values):
    """By one step, with zeros before the first, where they multiply zeros."""
    return np.concatenate([np.zeros_like(values[:1]), values[:-1]])


def summed(values, decay):
    """a_t = decay a_{t-1} + x_t."""
    sums = np.zeros_like(values)
    for t, x in enumerate(values):
        sums[t] = decay * sums[t - 1] * (t > 0) + x
    return sums


def eligibilities(jacobian, inputs):
    """e_t = D_t e_{t-1} + x_t, [T, B, I, O]: how the membrane before the reset depends on the kernel."""
    traces = np.zeros((*inputs.shape, jacobian.shape[-1]))
    for t, (D, x) in enumerate(zip(jacobian, inputs, strict=True)):
        traces[t] = D[:, None] * traces[t - 1] * (t > 0) + x[:, :, None]
    return traces


def with_input_traces(layers, decays):
    """The kernels' gradients: sum over t of a_t (x) current_t, where a is the sum of inputs with a decay per layer."""
    return [
        {name: np.einsum("tbi,tbo->io", summed(x, decay), layer.current) for name, x in layer.inputs.items()}
        for layer, decay in zip(layers, decays, strict=True)
    ]


# --------------------------------------------------------------------------------------------------------------- the nets


@pytest.mark.parametrize("name", NAMES)
def test_forward_pass_is_that_of_the_library(name):
    run = foreign(name)
    history = oracle.forward(run.layers, run.inputs)
    tolerance = FLOAT32 if run.data["outputs"].dtype == np.float32 else FLOAT64
    assert deviation(oracle.series(history, "output"), run.data["outputs"]) < tolerance
    for layer in np.flatnonzero(run.data["spiking"]):
        assert 0.05 < oracle.series(history, "output", layer).mean() < 0.7
        distance = np.abs(oracle.series(history, "membrane", layer) - run.data["threshold"])
        assert distance.min() > 1e-4, "a spike that rounding may decide"


# ----------------------------------------------------------------------------------------------------------- spikingjelly


def test_sltt_is_that_of_spikingjelly(x64):
    run = foreign("spikingjelly_sltt")
    assert worst(of_oracle(oracle.sltt, run), run.theirs) < FLOAT64
    assert worst(by_rule("sltt", run), run.theirs) < FLOAT64
    assert least(of_oracle(oracle.bptt, run), run.theirs) > DIFFERENT


def test_ottt_is_that_of_spikingjelly_above_the_first_layer(x64):
    """Its first module gets a plain tensor, so that its kernel has no trace: SLTT. No bias has one."""
    run = foreign("spikingjelly_ottt")
    for ours in ottt_without_bias_trace(run):
        assert worst(ours[1:], run.theirs[1:]) < FLOAT64
        assert worst(biases(ours), biases(run.theirs)) < FLOAT64
        assert least(kernels(ours)[:1], kernels(run.theirs)[:1]) > DIFFERENT
    assert worst(of_oracle(oracle.sltt, run)[:1], run.theirs[:1]) < FLOAT64
    assert least(biases(of_oracle(oracle.ottt, run)), biases(run.theirs)) > DIFFERENT


def test_trace_of_spikingjelly_decays_like_the_membrane_that_sends(x64):
    """Here it decays like the membrane that receives. With one decay for all layers, as in the paper, it is the same."""
    run = foreign("spikingjelly_ottt_decays")
    receiving = [float(layer.neuron.decay) for layer in run.layers]
    assert worst(with_input_traces(local(run), [0.0, *receiving[:-1]]), kernels(run.theirs)) < FLOAT64
    for ours in ottt_without_bias_trace(run):
        assert worst(with_input_traces(local(run), receiving), kernels(ours)) < FLOAT64
        assert least(kernels(ours), kernels(run.theirs)) > DIFFERENT
        assert worst(biases(ours), biases(run.theirs)) < FLOAT64


# ------------------------------------------------------------------------------------------------------------------ sparx


def test_ottt_is_that_of_sparx_between_first_layer_and_read_out(x64):
    """The first layer has no trace, the read-out, without a memory, has that of the membranes below; no bias has one."""
    run = foreign("sparx_ottt")
    decay = float(run.layers[0].neuron.decay)
    for ours in ottt_without_bias_trace(run):
        assert worst(ours[1:2], run.theirs[1:2]) < FLOAT64
        assert worst(biases(ours), biases(run.theirs)) < FLOAT64
        assert least(kernels(ours)[::2], kernels(run.theirs)[::2]) > DIFFERENT
        assert worst(ours[2:], of_oracle(oracle.bptt, run)[2:]) < FLOAT64, "the read-out is exact here"
    assert worst(with_input_traces(local(run), [0.0, decay, decay]), kernels(run.theirs)) < FLOAT64


@pytest.mark.parametrize("name", ["sparx_e_prop", "sparx_e_prop_reset"])
def test_e_prop_is_that_of_sparx(name, x64):
    """The second with a reset through which gradients pass."""
    run = foreign(name)
    for ours in e_prop(run):
        assert worst(ours, run.theirs) < FLOAT64
    random = of_oracle(oracle.e_prop, run, route=oracle.Matrices([{}, {"kernel": run.data["feedback"]}]))
    theirs = their_gradients(run.data, "random_gradient")
    assert worst(random[:1], theirs[:1]) < FLOAT64
    assert least(random[:1], run.theirs[:1]) > DIFFERENT


def test_e_prop_of_sparx_lacks_paths_through_recurrent_spikes_only(x64):
    """The read-out is exact, its bias included."""
    run = foreign("sparx_e_prop_reset")
    exact = of_oracle(oracle.bptt, run)
    assert worst(by_rule("bptt", run), exact) < FLOAT64
    assert worst(exact[1:], run.theirs[1:]) < FLOAT64
    assert least(exact[:1], run.theirs[:1]) > DIFFERENT


# ------------------------------------------------------------------------------------------------------------- braintrace


def of_chunk(run, chunk):
    index = list(run.data["chunks"]).index(chunk)
    return [{name: array[index] for name, array in layer.items()} for layer in run.theirs]


def test_ostl_is_d_rtrl_of_braintrace_step_by_step(x64):
    run = foreign("braintrace_d_rtrl")
    assert worst(of_oracle(oracle.ostl, run), of_chunk(run, 1)) < FLOAT64
    assert worst(by_rule("ostl", run, window=2), of_chunk(run, 1)) < FLOAT64


def test_pp_prop_of_braintrace_step_by_step_is_two_traces(x64):
    """ex_t = alpha ex_{t-1} + x_t,  ef_t = alpha D_t ef_{t-1} + 1 - alpha,  gradient current_t ex_t ef_t / (1 - alpha^t).

    For the bias ex = 1.
    """
    run = foreign("braintrace_pp_prop")
    alpha = float(run.data["pp_decay"])
    constant = np.full((*run.inputs.shape[:2], 1), 1 - alpha)
    share = 1 - alpha ** np.arange(1, len(run.inputs) + 1)[:, None, None]
    found = []
    for layer in local(run):
        ef = eligibilities(alpha * layer.jacobian, constant)[:, :, 0]
        layer = layer._replace(current=layer.current * ef / share)
        found += [with_input_traces([layer], [alpha])[0] | {"bias": layer.current.sum(axis=(0, 1))}]
    assert worst(found, of_chunk(run, 1)) < FLOAT64
    assert worst(of_oracle(oracle.pp_prop, run, decay=alpha), of_chunk(run, 1)) < FLOAT64
    assert worst(by_rule("pp_prop", run, window=2, decay=alpha), of_chunk(run, 1)) < FLOAT64


def test_ostl_is_d_rtrl_of_braintrace_where_recurrent_spikes_are_inputs():
    run = foreign("braintrace_recurrent_d_rtrl")
    assert worst(of_oracle(oracle.ostl, run), run.theirs) < FLOAT64


def test_e_prop_of_braintrace_filters_before_the_spike_and_the_read_out_too(x64):
    """gradient = signal psi_t F(e)_t with the membrane's eligibility e, where sparx, as the paper, has signal F(psi e)_t.

    F is the sum with the decay kappa. It is taken of the weights of the read-out as well, whose e is a decayed sum already.
    """
    run = foreign("braintrace_recurrent_e_prop")
    kappa = float(run.layers[1].neuron.decay)
    for layer, theirs in zip(local(run), kernels(run.theirs), strict=True):
        for name, x in layer.inputs.items():
            filtered = summed(eligibilities(layer.jacobian, x), kappa)
            assert deviation(np.einsum("tbio,tbo->io", filtered, layer.current), theirs[name]) < FLOAT64
    for ours in e_prop(run):
        assert least(ours, run.theirs) > DIFFERENT


def test_snap_2_of_braintrace_is_ostl_with_h_where_all_neurons_are_joined():
    run = foreign("braintrace_recurrent_snap_2")
    assert worst(of_oracle(oracle.ostl, run, with_h=True), run.theirs) < FLOAT64


# ---------------------------------------------------------------------------------------------------------------- jaxpike


def test_e_prop_of_jaxpike_is_ottt_with_larger_lower_layers(x64):
    """The factor 1 - decay of its currents is missing on the signal's way down, and in the gradients of biases."""
    run = foreign("jaxpike_e_prop")
    gain = run.data["gain"]
    for ours in ottt_without_bias_trace(run):
        for i, layer in enumerate(ours):
            above = np.prod(gain[i + 1 :])
            expected = {"kernel": layer["kernel"] * gain[i] / above, "bias": layer["bias"] / above}
            assert worst([expected], run.theirs[i : i + 1]) < FLOAT32
    assert max(gain) < 1 - DIFFERENT
