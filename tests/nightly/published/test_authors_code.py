"""Rules of the package against what the code of their authors computed for small networks: data/README.md."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nightly.published.foreign import DTYPE, GivenDirect, GivenTarget
from slax_neurons import IF, LI, LIF, Edge, LeakyRate, Standardized, Surrogate, connect, fast_sigmoid
from slax_rules import OSTL, RULES, STLLR, FixedBases, PerLayer, cross_entropy, gradients
from stacks import dense, deviation

DATA = Path(__file__).parent / "data" / "authors"
TOLERANCE = 1e-11
DIFFERENT = 0.02


def recorded(name):
    with np.load(DATA / f"{name}.npz") as file:
        return {key: array if array.shape else array.item() for key, array in file.items()}


def channels_last(array):
    """A kernel [O, I, H, W] of PyTorch as [H, W, I, O], and all others as they are."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def synapse(data, index, prefix=""):
    """A Linear or a convolution with the recorded weights, standardized where theirs are."""
    gain, bias = data.get(f"{prefix}gain_{index}"), data.get(f"{prefix}bias_{index}")
    kernel = channels_last(data[f"{prefix}kernel_{index}" if gain is None else f"{prefix}weight_{index}"])
    if kernel.ndim == 2:
        made = dense(kernel, bias)
    else:
        made = nnx.Conv(*kernel.shape[2:], kernel.shape[:2], rngs=nnx.Rngs(0), **DTYPE)
        made.kernel[...], made.bias[...] = jnp.asarray(kernel), jnp.asarray(bias)
    if gain is not None:
        made = Standardized(made)
        made.gain[...] = jnp.asarray(gain)
    return made


def run(model, data, rule, *, loss=cross_entropy, window=5, mask=None):
    """The gradients, as a sum over the steps that count and a mean over the batch."""
    x, labels = jnp.asarray(data["inputs"], jnp.float64), jnp.asarray(data["labels"])
    steps = len(x) if mask is None else int(mask.any(axis=1).sum())
    found = gradients(model, loss, x, labels, rule=rule, window=window, mask=mask)[1]
    return jax.tree.map(lambda g: steps * g, found)


def check(ours, theirs):
    assert np.abs(theirs).max() > 1e-4
    assert deviation(ours, theirs) < TOLERANCE


def check_synapse(found, data, index, prefix=""):
    """All parameters of a synapse."""
    names = {"kernel": "kernel", "bias": "bias"}
    if "gain" in found:
        check(found["gain"][...], data[f"gradient_{prefix}gain_{index}"])
        found, names["kernel"] = found["synapse"], "weight"
    for name in found:
        check(found[name][...], channels_last(data[f"gradient_{prefix}{names[name]}_{index}"]))


def steps_that_count(data, steps):
    mask = np.zeros(data["inputs"].shape[:2], bool)
    mask[steps] = True
    return jnp.asarray(mask)


# ------------------------------------------------------------------------------------------------------- S-TLLR and TESS


@Surrogate
def triangle(x):
    return 0.3 * jnp.maximum(1 - jnp.abs(x), 0)


PSI = {"fast_sigmoid": fast_sigmoid(100.0), "triangle": triangle, "spikes": triangle}


def s_tllr_neuron(data, index):
    reset = {"soft": "subtract", "hard": "zero"}[data.get("reset", "soft")]
    options = {"threshold": data["threshold"], "reset": reset, "stop_reset_gradient": True}
    return LIF(decay=float(data["decay"][index]), spike_fn=PSI[data["psi"]], **options, **DTYPE)


def s_tllr_rule(data, **options):
    return STLLR(*(data[key] for key in ("lambda_pre", "lambda_post", "alpha_pre", "alpha_post")), **options)


class CausalReadOut(STLLR):
    """S-TLLR in a last layer that does not fire too, where ours has OTTT."""

    def for_layer(self, layer):
        return self


KINDS = ["", "_synchrony", "_causal", "_feedback", "_target", "_recurrent", "_recurrent_triangle"]


@pytest.mark.parametrize("kind", KINDS)
def test_s_tllr_finds_what_its_authors_found(kind, x64):
    """All parameters. Their learning in the last steps is a mask.

    The trace of their read-out has a decay of its own, and ours that of its membrane. With theirs, it is the causal term of
    S-TLLR in a layer that does not fire.
    """
    data = recorded(f"s_tllr{kind}")
    last = sum(key.startswith("membrane") for key in data)
    modules = [make(data, index) for index in range(last) for make in (synapse, s_tllr_neuron)]
    modules += [synapse(data, last), LI(decay=float(data["decay"][last]), **DTYPE)]
    edges = [Edge(1, 0, 1, synapse(data, 0, "recurrent_"))] if "recurrent_0" in data else []
    model, options = connect(modules, edges), {}
    if "feedback_0" in data:  # theirs are of a sum over the batch
        given = {"DFA": GivenDirect, "DRTP": GivenTarget}[data["feedback_mode"]]
        options["route"] = given(*(len(data["labels"]) * data[f"feedback_{index}"].T for index in range(last)))
    rule, mask = s_tllr_rule(data, **options), steps_that_count(data, slice(-data["learning_steps"], None))
    read_out = CausalReadOut(lambda_pre=data["read_out_trace_decay"], alpha_post=0.0)
    found = run(model, data, PerLayer([*[rule] * last, read_out]), mask=mask)
    for index in range(last + 1):
        check_synapse(found["modules"][2 * index], data, index)
    for back in found["synapses"].values() if edges else ():
        check_synapse(back, data, 0, "recurrent_")
    if not kind:
        kernel = run(model, data, rule, mask=mask)["modules"][2 * last]["kernel"][...]
        assert deviation(kernel, data[f"gradient_kernel_{last}"]) > DIFFERENT


@pytest.mark.parametrize("kind", ["", "_spikes"])
def test_convolution_under_s_tllr_finds_what_its_authors_found(kind, x64):
    """With Psi the spikes themselves, by `secondary`. Their bias has the slope of the surrogate then, and ours has Psi."""
    data = recorded(f"s_tllr_convolution{kind}")
    flat = lambda x: jnp.moveaxis(x, -1, 1).reshape(len(x), -1)  # noqa: E731  in PyTorch's order
    model = connect([synapse(data, 0), s_tllr_neuron(data, 0), flat, synapse(data, 1)])
    own = Surrogate(lambda x: (x > 0).astype(x.dtype)) if kind else None
    images = data | {"inputs": np.moveaxis(data["inputs"], 2, -1)}
    mask = steps_that_count(data, slice(-data["learning_steps"], None))
    found = run(model, images, s_tllr_rule(data, secondary=own), mask=mask)["modules"]
    if kind:
        bias = (data["outputs_0"] * data["signal_0"]).sum(axis=(0, 1, 3, 4))
        assert deviation(bias, data["gradient_bias_0"]) > DIFFERENT
        data["gradient_bias_0"] = bias
    check_synapse(found[0], data, 0)
    check_synapse(found[3], data, 1)


@pytest.mark.parametrize("waveform", ["square", "sine"])
def test_tess_finds_what_its_authors_found(waveform, x64):
    data = recorded(f"tess_{waveform}")
    basis = jnp.asarray(data["basis_1"])
    modules = [make(data, index) for index in (0, 1) for make in (synapse, s_tllr_neuron)]
    model = connect([*modules, lambda s: s @ basis.T])  # the last layer's local loss is that of the outputs
    found = run(model, data, s_tllr_rule(data, route=FixedBases(waveform)))["modules"]
    for index in (0, 1):
        check_synapse(found[2 * index], data, index)


# ------------------------------------------------------------------------------------------------------------------ ETLP


class BellecLIF(LIF):
    """v_t = decay v_{t-1} + I_t - threshold s_{t-1}, in u = v - (threshold / decay) s: the reset does not decay."""

    linear = True

    def fire(self, membrane):
        spikes = self.spike(membrane)[1]
        return membrane - self.threshold(membrane) / self.decay(membrane) * jax.lax.stop_gradient(spikes), spikes


@pytest.mark.parametrize("name", ["etlp", "etlp_no_leak"])
def test_etlp_finds_the_authors_gradients_at_events(name, x64):
    """One event each, and all of them together, which are a mean. Theirs has the label with a minus, and sums the batch."""
    data = recorded(name)
    options, decay = {"stop_reset_gradient": True, "spike_fn": triangle, **DTYPE}, float(data["decay"][0])
    hidden = IF(**options) if decay == 1 else BellecLIF(decay=decay, **options)
    model = connect([synapse(data, 0), hidden, synapse(data, 1), LI(decay=data["output_decay"], **DTYPE)])
    rule = RULES["etlp"].make(rngs=nnx.Rngs(0), route=GivenTarget(-len(data["labels"]) * data["feedback"]))
    theirs = data["gradient_kernel_0"]
    for events, expected in [*zip(data["events"], theirs, strict=True), (data["events"], theirs.sum(0))]:
        found = run(model, data, rule, mask=steps_that_count(data, events))
        check(found["modules"][0]["kernel"][...], expected)


# ------------------------------------------------------------------------------------------------------------------ HYPR


@Surrogate
def slayer(x):
    return 0.5 * jnp.exp(-5 * jnp.abs(x))


def alpha(data, index):
    low, high = data["option_tau_u_range"]
    return np.exp(-1 / (low + (high - low) * data[f"tau_u_{index}"]))


def test_hypr_is_ostl_without_gradients_through_stored_spikes(x64):
    """LIF with a detached reset. Their neurons weigh their currents by 1 - decay, which is put into the weights here."""
    data = recorded("hypr_lif")
    options = {"threshold": 1.0, "reset": "zero", "stop_reset_gradient": True, "spike_fn": slayer, **DTYPE}
    decays = [alpha(data, 0), alpha(data, 1), np.exp(-1 / data["tau_u_2"])]
    for index, decay in enumerate(decays):
        for name in (f"kernel_{index}", f"bias_{index}"):
            data |= {name: data[name] * (1 - decay), f"gradient_{name}": data[f"gradient_{name}"] / (1 - decay)}
    neurons = [LIF(decay=decays[0], **options), LIF(decay=decays[1], **options), LI(decay=decays[2], **DTYPE)]
    model = connect([module for index in range(3) for module in (synapse(data, index), neurons[index])])
    found = run(model, data, OSTL())["modules"]
    for index in range(3):
        check_synapse(found[2 * index], data, index)


# ------------------------------------------------------------------------------------------------------------------ RFLO


@jax.custom_jvp
def bounded(x):
    return jnp.tanh(x)


bounded.defjvp(lambda x, dx: (jnp.tanh(x[0]), dx[0] / jnp.cosh(10 * jnp.tanh(x[0] / 10)) ** 2))


class WithSlope(LeakyRate):
    def integrate(self, carry, inputs):
        return self.decay(carry) * carry + (1 - self.decay(carry)) * bounded(inputs)


def test_rflo_finds_what_its_author_found(x64):
    """The author's slope of tanh differs from the derivative, and the trace of an input weight reads the input before."""
    data = recorded("rflo")
    weights = {name: dense(data[name].T) for name in ("w_in", "w_rec", "w_out")}
    units = WithSlope(decay=1 - 1 / data["tau"], **DTYPE)
    edges = [Edge(1, 0, 1, weights["w_rec"])]
    model = connect([weights["w_in"], units, weights["w_out"], LI(decay=1e-30, **DTYPE)], edges)
    x, targets = (jnp.asarray(data[name])[1:, None] for name in ("inputs", "targets"))
    rule = RULES["rflo"].make(route=GivenDirect(data["b"]))
    _, found = gradients(model, lambda y, t: ((y - t) ** 2).sum(-1) / 2, x, targets, rule=rule, window=5)
    share = len(x) / len(data["inputs"])  # of its steps, the first does not count
    kernels = {"w_in": found["modules"][0], "w_out": found["modules"][2], "w_rec": found["synapses"][0]}
    ours = {name: -share * kernel["kernel"][...].T for name, kernel in kernels.items()}
    check(ours["w_rec"], data["change_w_rec"])
    check(ours["w_out"], data["change_w_out"])
    assert deviation(ours["w_in"], data["change_w_in"]) > DIFFERENT
