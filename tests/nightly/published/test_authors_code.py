"""Rules of the package against what the code of their authors computed: where they agree, and where and why they do not.

`authors.py` has the authors' code as plain loops, which find the recorded numbers. Where the package differs, the loop
with the difference in it is what the package agrees with.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nightly.published import authors
from slax_neurons import ALIF, BRF, IF, LI, LIF, Edge, Neuron, Standardized, Surrogate, connect, fast_sigmoid
from slax_rules import (
    OSTL,
    RULES,
    STLLR,
    Direct,
    FixedBases,
    PerStep,
    Target,
    cross_entropy,
    gradients,
)
from stacks import deviation

TOLERANCE = 1e-11
DIFFERENT = 0.02
DTYPE = {"param_dtype": jnp.float64}


def synapse(kernel: Any, bias: Any = None) -> nnx.Linear:
    made = nnx.Linear(*kernel.shape, use_bias=bias is not None, rngs=nnx.Rngs(0), **DTYPE)
    made.kernel[...] = jnp.asarray(kernel)
    if bias is not None:
        made.bias[...] = jnp.asarray(bias)
    return made


def standardized(weight: Any, gain: Any, bias: Any = None) -> Standardized:
    made = Standardized(synapse(weight, bias))
    made.gain[...] = jnp.asarray(gain)
    return made


def run(model: Any, data: Any, rule: Any, *, loss: Any = cross_entropy, targets: Any = None, **options: Any) -> Any:
    """The gradients of the modules and edges, as a sum over the steps that count and a mean over the batch."""
    x = jnp.asarray(data["inputs"], jnp.float64)
    targets = jnp.asarray(data["labels"]) if targets is None else targets
    mask = options.get("mask")
    steps = x.shape[0] if mask is None else int(mask.any(axis=1).sum())
    found = gradients(model, loss, x, targets, rule=rule, window=options.pop("window", 5), **options)[1]
    return jax.tree.map(lambda g: steps * g, found)


def leaf(found: Any, index: int, *names: str) -> np.ndarray:
    """A gradient of a module."""
    here = found["modules"][index]
    for name in names:
        here = here[name]
    return np.asarray(here[...])


def check(ours: Any, theirs: Any) -> None:
    assert np.abs(theirs).max() > 1e-4
    assert deviation(ours, theirs) < TOLERANCE


LOOPS = {"s_tllr": authors.s_tllr, "tess": authors.tess, "etlp": authors.etlp, "hypr": authors.hypr}


@pytest.mark.parametrize("name", [name for name in authors.NAMES if not name.startswith("ottt")])
def test_a_loop_finds_gradients_and_all_on_the_way_to_them(name):
    data = authors.load(name)
    loop = authors.convolution if "convolution" in name else next(LOOPS[key] for key in LOOPS if name.startswith(key))
    found, recorded = loop(data), authors.recorded_gradients(data)
    assert {
        key for key in recorded if not key.startswith(("weight", "gain", "recurrent_weight", "recurrent_gain"))
    } <= set(found)
    for key in found:
        expected = recorded[key] if key in recorded else data[key].astype(float)
        assert np.abs(found[key] - expected).max() < 1e-12 * (np.abs(expected).max() or 1), key


# ---------------------------------------------------------------------------------------------------------------- S-TLLR


class GivenDirect(Direct):
    """`Direct` with given matrices [N, C]."""

    def __init__(self, *matrices: Any):
        self.given = nnx.List([nnx.Variable(jnp.asarray(matrix)) for matrix in matrices])

    def matrix(self, layer, units, size, dtype):
        return self.given[layer.number][...].astype(dtype)


class GivenTarget(Target):
    """`Target` with given matrices [N, C]."""

    def __init__(self, *matrices: Any):
        self.given = nnx.List([nnx.Variable(jnp.asarray(matrix)) for matrix in matrices])

    def matrix(self, layer, units, size, dtype):
        return self.given[layer.number][...].astype(dtype)


def triangle(x: Any) -> Any:
    return 0.3 * jnp.maximum(1 - jnp.abs(x), 0)


SURROGATES = {"fast_sigmoid": fast_sigmoid(100.0), "triangle": Surrogate(triangle), "spikes": Surrogate(triangle)}
S_TLLR = ["s_tllr", "s_tllr_synchrony", "s_tllr_causal", "s_tllr_feedback", "s_tllr_target"]
S_TLLR_RECURRENT = ["s_tllr_recurrent", "s_tllr_recurrent_triangle"]


def n_spiking(data: Any) -> int:
    return sum(key.startswith("membrane") for key in data)


def s_tllr_model(data: Any, *, made_of: bool = True) -> Any:
    """Standardized weights, made of parameters, or the effective ones themselves."""
    modules: list[Any] = []
    for index in range(n_spiking(data)):
        reset = {"soft": "subtract", "hard": "zero"}[str(data["reset"])]
        options = {"reset": reset, "stop_reset_gradient": True, "spike_fn": SURROGATES[str(data["psi"])], **DTYPE}
        bias = data[f"bias_{index}"]
        weights = (
            standardized(data[f"weight_{index}"], data[f"gain_{index}"], bias)
            if made_of
            else synapse(data[f"kernel_{index}"], bias)
        )
        modules += [
            weights,
            LIF(decay=float(data["decay"][index]), threshold=float(data["threshold"]), **options),
        ]
    last = n_spiking(data)
    edges = []
    if "recurrent_0" in data:
        back = (
            standardized(data["recurrent_weight_0"], data["recurrent_gain_0"])
            if made_of
            else synapse(data["recurrent_0"])
        )
        edges = [Edge(1, 0, 1, back)]
    modules += [synapse(data[f"kernel_{last}"], data[f"bias_{last}"]), LI(decay=float(data["decay"][last]), **DTYPE)]
    return connect(modules, edges)


def s_tllr_rule(data: Any, **options: Any) -> STLLR:
    numbers = [float(data[key]) for key in ("lambda_pre", "lambda_post", "alpha_pre", "alpha_post")]
    batch = len(data["labels"])
    if "feedback_0" in data:  # theirs are of a sum over the batch
        given = GivenDirect if str(data["feedback_mode"]) == "DFA" else GivenTarget
        options["route"] = given(*(batch * data[f"feedback_{index}"].T for index in range(n_spiking(data))))
    return STLLR(*numbers, **options)


def last_steps(data: Any) -> Any:
    steps, batch = data["inputs"].shape[:2]
    return jnp.asarray(np.repeat(np.arange(steps)[:, None] >= steps - data["learning_steps"], batch, axis=1))


@pytest.mark.parametrize("name", [*S_TLLR, *S_TLLR_RECURRENT])
def test_s_tllr_with_standardized_weights_finds_what_its_authors_found(name, x64):
    """All parameters of the spiking layers. Their learning in the last steps is a mask."""
    data = authors.load(name)
    model, rule = s_tllr_model(data), s_tllr_rule(data)
    found = run(model, data, rule, mask=last_steps(data))
    for index in range(n_spiking(data)):
        check(leaf(found, 2 * index, "synapse", "kernel"), data[f"gradient_weight_{index}"])
        check(leaf(found, 2 * index, "gain"), data[f"gradient_gain_{index}"])
        check(leaf(found, 2 * index, "synapse", "bias"), data[f"gradient_bias_{index}"])
    if "recurrent_0" in data:
        back = found["synapses"][0]
        check(back["synapse"]["kernel"][...], data["gradient_recurrent_weight_0"])
        check(back["gain"][...], data["gradient_recurrent_gain_0"])


@pytest.mark.parametrize("name", ["s_tllr", "s_tllr_feedback", "s_tllr_recurrent"])
def test_read_out_of_s_tllr_has_a_trace_with_a_decay_of_its_own(name, x64):
    """Ours has that of its membrane; with theirs, as S-TLLR's causal term of a layer that does not fire, it is theirs."""
    data = authors.load(name)
    model, rule, last = s_tllr_model(data, made_of=False), s_tllr_rule(data), n_spiking(data)
    assert deviation(data["read_out_trace_decay"], data["decay"][last]) > DIFFERENT
    found = run(model, data, rule, mask=last_steps(data))
    check(leaf(found, 2 * last, "bias"), data[f"gradient_bias_{last}"])
    assert deviation(leaf(found, 2 * last, "kernel"), data[f"gradient_kernel_{last}"]) > DIFFERENT
    read_out = STLLR(lambda_pre=float(data["read_out_trace_decay"]), alpha_post=0.0)
    found = run(model, data, [*[rule] * last, read_out], mask=last_steps(data))
    for index in range(last + 1):
        check(leaf(found, 2 * index, "kernel"), data[f"gradient_kernel_{index}"])
        check(leaf(found, 2 * index, "bias"), data[f"gradient_bias_{index}"])


def images_last(data: Any) -> dict[str, Any]:
    """The data with inputs [T, B, H, W, C]."""
    return data | {"inputs": np.moveaxis(data["inputs"], 2, -1)}


def kernel_from_torch(weight: Any) -> np.ndarray:
    """[O, I, H, W] to [H, W, I, O]."""
    return np.transpose(weight, (2, 3, 1, 0))


def standardized_conv(weight: Any, gain: Any, bias: Any = None) -> Standardized:
    """Of a kernel [H, W, I, O]."""
    conv = nnx.Conv(*weight.shape[2:], weight.shape[:2], use_bias=bias is not None, rngs=nnx.Rngs(0), **DTYPE)
    conv.kernel[...] = jnp.asarray(weight)
    if bias is not None:
        conv.bias[...] = jnp.asarray(bias)
    made = Standardized(conv)
    made.gain[...] = jnp.asarray(gain)
    return made


def channels_first(x: jax.Array) -> jax.Array:
    """[B, H, W, C] to vectors in the order of PyTorch."""
    return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)


@pytest.mark.parametrize("name", ["s_tllr_convolution", "s_tllr_convolution_spikes"])
def test_convolution_under_s_tllr_finds_what_its_authors_found(name, x64):
    """With Psi the spikes themselves, by `secondary`. Their bias has the slope of the surrogate then, and ours has Psi."""
    data = authors.load(name)
    spikes = str(data["psi"]) == "spikes"
    options = {"reset": "subtract", "stop_reset_gradient": True, "spike_fn": Surrogate(triangle), **DTYPE}
    model = connect(
        [
            standardized_conv(kernel_from_torch(data["weight_0"]), data["gain_0"], data["bias_0"]),
            LIF(decay=float(data["decay"][0]), threshold=float(data["threshold"]), **options),
            channels_first,
            synapse(data["kernel_1"], data["bias_1"]),
        ]
    )
    mask, images = last_steps(data), images_last(data)
    own = Surrogate(lambda x: (x > 0).astype(x.dtype)) if spikes else None
    found = run(model, images, s_tllr_rule(data, secondary=own), mask=mask)
    check(leaf(found, 0, "synapse", "kernel"), kernel_from_torch(data["gradient_weight_0"]))
    check(leaf(found, 0, "gain"), data["gradient_gain_0"])
    check(leaf(found, 3, "kernel"), data["gradient_kernel_1"])
    check(leaf(found, 3, "bias"), data["gradient_bias_1"])
    bias = leaf(found, 0, "synapse", "bias")
    if spikes:
        assert deviation(bias, data["gradient_bias_0"]) > DIFFERENT
        psi = data["outputs_0"] * data["signal_0"]
        check(bias, psi.sum(axis=(0, 1, 3, 4)))
        bias = leaf(run(model, images, s_tllr_rule(data), mask=mask), 0, "synapse", "bias")
    check(bias, data["gradient_bias_0"])


# ------------------------------------------------------------------------------------------------------------------ TESS


@pytest.mark.parametrize("name", ["tess_square", "tess_sine"])
def test_tess_finds_what_its_authors_found(name, x64):
    data = authors.load(name)
    waveform = str(data["waveform"])
    route = FixedBases(waveform)
    basis = jnp.asarray(data["basis_1"])
    options = {"threshold": float(data["threshold"]), "stop_reset_gradient": True, "spike_fn": fast_sigmoid(100.0)}
    modules: list[Any] = []
    for index in (0, 1):
        bias = data[f"bias_{index}"]
        weights = (
            standardized(data[f"weight_{index}"], data[f"gain_{index}"], bias)
            if waveform == "square"
            else synapse(data[f"kernel_{index}"], bias)
        )
        modules += [weights, LIF(decay=float(data["decay"][index]), **options, **DTYPE)]
    model = connect([*modules, lambda s: s @ basis.T])  # the last layer's local loss is that of the outputs
    found = run(model, data, s_tllr_rule(data, route=route))
    for index in (0, 1):
        if waveform == "square":
            check(leaf(found, 2 * index, "synapse", "kernel"), data[f"gradient_weight_{index}"])
            check(leaf(found, 2 * index, "gain"), data[f"gradient_gain_{index}"])
            check(leaf(found, 2 * index, "synapse", "bias"), data[f"gradient_bias_{index}"])
            kernel = np.asarray(leaf(found, 2 * index, "synapse", "kernel"))
            assert np.abs(kernel[:, 0]).max() == 0  # unit 0 has the weight 0 in a square wave
        else:
            check(leaf(found, 2 * index, "kernel"), data[f"gradient_kernel_{index}"])
            check(leaf(found, 2 * index, "bias"), data[f"gradient_bias_{index}"])


# ------------------------------------------------------------------------------------------------------------------ ETLP


class BellecLIF(LIF):
    """v_t = decay v_{t-1} + I_t - threshold s_{t-1}, in u = v - (threshold / decay) s: the reset does not decay."""

    def fire(self, membrane):
        spikes = self.spike(membrane)[1]
        return membrane - self.threshold(membrane) / self.decay(membrane) * jax.lax.stop_gradient(spikes), spikes


class BellecALIF(ALIF):
    """The same with a threshold that adapts."""

    def fire(self, membrane):
        state, spikes = super().fire(membrane)
        past = jax.lax.stop_gradient(spikes)
        return state._replace(u=membrane.u - self.threshold(membrane.u) / self.decay(membrane.u) * past), spikes


class LateState(NamedTuple):
    u: jax.Array
    z: jax.Array


class LateLIF(LIF):
    """The output of ETLP's code: v_t = decay v_{t-1} + I_t - threshold z_{t-1} with the spikes z_t = [v_{t-1} > threshold].

    Its output here are the spikes of the membrane of the same step, so that its slope is that of v_t, as in the code.
    """

    carry_type = LateState

    def integrate(self, carry, inputs):
        threshold = self.threshold(inputs)
        spikes = jax.lax.stop_gradient(self.spike_fn(carry.u - threshold))
        return LateState(self.decay(carry.u) * carry.u + inputs - threshold * carry.z, spikes)

    def fire(self, membrane):
        return membrane, self.spike(membrane.u)[1]


NEURON = {"stop_reset_gradient": True, "spike_fn": Surrogate(triangle), **DTYPE}


def etlp_model(data: Any, hidden: Any) -> Any:
    edges = [Edge(1, 0, 1, synapse(data["recurrent"]))] if "recurrent" in data else []
    output = LateLIF(decay=float(data["output_decay"]), **NEURON)
    return connect([synapse(data["kernel_0"]), hidden, synapse(data["kernel_1"]), output], edges)


def etlp_hidden(data: Any, neuron: Any = BellecLIF) -> Any:
    decay = float(data["decay"][0])
    return IF(**NEURON) if decay == 1 else neuron(decay=decay, **NEURON)


def half_squares(y: Any, labels: Any) -> jax.Array:
    return jnp.square(y - jax.nn.one_hot(labels, 3, dtype=y.dtype)).sum(axis=-1) / 2


def dot(y: Any, weights: Any) -> jax.Array:
    return (y * weights).sum(axis=-1)


def etlp_error(data: Any) -> Any:
    """so_t - y, with the authors' output spikes, which come one step late."""
    return PerStep(jnp.asarray(data["outputs_1"] - authors.one_hot(data, 3)))


def event(data: Any, *steps: int) -> Any:
    mask = np.zeros(data["inputs"].shape[:2], bool)
    mask[list(steps)] = True
    return jnp.asarray(mask)


def of_batch(found: Any, data: Any) -> Any:
    """Sums over the batch, as theirs are."""
    return jax.tree.map(lambda g: len(data["labels"]) * g, found)


def etlp_rule(data: Any) -> Any:
    """Theirs has the label with a minus."""
    return RULES["etlp"].make(rngs=nnx.Rngs(0), route=GivenTarget(-data["feedback"]))


@pytest.mark.parametrize("name", ["etlp", "etlp_no_leak"])
def test_etlp_finds_the_authors_gradients_of_the_hidden_layer_at_events(name, x64):
    """One event each, and all of them together, which are a mean; their sign is in the matrix."""
    data = authors.load(name)
    model, rule = etlp_model(data, etlp_hidden(data)), etlp_rule(data)
    for number, step in enumerate(data["events"]):
        found = of_batch(run(model, data, rule, loss=half_squares, mask=event(data, step)), data)
        check(leaf(found, 0, "kernel"), data["gradient_kernel_0"][number])
    found = of_batch(run(model, data, rule, loss=half_squares, mask=event(data, *data["events"])), data)
    check(leaf(found, 0, "kernel"), data["gradient_kernel_0"].sum(axis=0))
    plus = RULES["etlp"].make(rngs=nnx.Rngs(0), route=GivenTarget(data["feedback"]))
    found = of_batch(run(model, data, plus, loss=half_squares, mask=event(data, *data["events"])), data)
    check(leaf(found, 0, "kernel"), -data["gradient_kernel_0"].sum(axis=0))


def test_eligibility_of_etlp_s_adaptive_neuron_is_that_of_ostl_with_a_detached_reset(x64):
    """In a recurrent layer, whose spikes are given inputs. Without the terms that are theirs alone."""
    data = authors.load("etlp_adaptive")
    data |= {"refractory_steps": 0, "voltage_reg": 0.0, "weight_l1": 0.0}
    theirs = authors.etlp(data)
    data["outputs_1"] = theirs["outputs_1"]
    hidden = BellecALIF(
        decay=data["decay"],
        adaptation_decay=float(data["adaptation_decay"]),
        beta=float(data["adaptation"]),
        **NEURON,
    )
    model, rule = etlp_model(data, hidden), OSTL(route=GivenTarget(-data["feedback"]))
    for number, step in enumerate(data["events"][[0, 3, 4]]):
        number = [0, 3, 4][number]
        found = of_batch(run(model, data, rule, loss=half_squares, mask=event(data, step)), data)
        check(leaf(found, 0, "kernel"), theirs["kernel_0"][number])
        check(found["synapses"][0]["kernel"][...], theirs["recurrent"][number])
    found = of_batch(run(model, data, rule, loss=dot, targets=etlp_error(data), mask=event(data, step)), data)
    check(leaf(found, 2, "kernel"), theirs["kernel_1"][-1])


# ------------------------------------------------------------------------------------------------------------------ HYPR


def slayer(scale: float) -> Surrogate:
    return Surrogate(_slayer, (scale,))


def _slayer(x: Any, scale: float) -> Any:
    return scale * 5 / 2 * jnp.exp(-5 * jnp.abs(x))


def hypr_model(data: Any, neurons: list[Any], gains: list[Any]) -> tuple[Any, list[Any]]:
    """Two layers and leaky integrators that weigh their current by 1 - decay, which we put into the weights."""
    alpha = np.exp(-1 / data["tau_u_2"])
    gains = [*gains, 1 - alpha]
    last = LI(decay=alpha, **DTYPE)
    modules: list[Any] = []
    for index, neuron in enumerate([*neurons, last]):
        gain = np.asarray(gains[index])
        modules += [synapse(data[f"kernel_{index}"] * gain, data[f"bias_{index}"] * gain), neuron]
    edges = []
    if data["recurrent"]:
        edges = [Edge(2 * i + 1, 2 * i, 1, synapse(data[f"recurrent_{i}"] * gains[i])) for i in (0, 1)]
    return connect(modules, edges), gains


def check_hypr(data: Any, neurons: list[Any], gains: list[Any], theirs: Any, window: int = 5) -> Any:
    """Kernels, biases and recurrent kernels of all layers."""
    model, gains = hypr_model(data, neurons, gains)
    found = run(model, data, OSTL(), window=window)
    for index in range(3):
        check(leaf(found, 2 * index, "kernel") * gains[index], theirs[f"kernel_{index}"])
        check(leaf(found, 2 * index, "bias") * gains[index], theirs[f"bias_{index}"])
    for number, back in enumerate(model.edges):
        gradient = np.asarray(found["synapses"][number]["kernel"][...]) * gains[number]
        check(gradient, theirs[f"recurrent_{back.receiver // 2}"])
    return found


def adlif_decays(data: Any, index: int) -> tuple[np.ndarray, np.ndarray]:
    neuron = authors.AdLIF(data, index)
    return neuron.alpha, neuron.beta


@pytest.mark.parametrize("window", [1, 5, 12])
def test_hypr_is_ostl_of_lif_with_a_detached_reset(window, x64):
    """As its authors recorded it, in segments of any length."""
    data = authors.load("hypr_lif")
    options = {"threshold": 1.0, "reset": "zero", "spike_fn": slayer(0.2), **DTYPE}
    decays = [adlif_decays(data, index)[0] for index in (0, 1)]
    neurons = [LIF(decay=alpha, stop_reset_gradient=True, **options) for alpha in decays]
    theirs = authors.recorded_gradients(data)
    check_hypr(data, neurons, [1 - alpha for alpha in decays], theirs, window)


class StoredState(NamedTuple):
    h: jax.Array
    a: jax.Array
    z: jax.Array


class TheirAdLIF(Neuron):
    """The AdLIF of HYPR's code: the spikes of the step before are stored, and no gradient passes through them."""

    carry_type = StoredState
    spikes = True

    def __init__(self, data: Any, index: int):
        super().__init__(**DTYPE)
        for name in ("tau_u", "tau_w", "a", "b"):
            setattr(self, name, nnx.Param(jnp.asarray(data[f"{name}_{index}"])))
        self.ranges = tuple(float(x) for key in ("tau_u", "tau_w") for x in data[f"option_{key}_range"])
        self.q, self.spike_fn = float(data["option_adapt_coeff"]), slayer(0.2)

    def __call__(self, carry, inputs):
        u, w, z_before = carry
        u_low, u_high, w_low, w_high = self.ranges
        alpha = jnp.exp(-1 / (u_low + (u_high - u_low) * self.tau_u[...]))[None]
        beta = jnp.exp(-1 / (w_low + (w_high - w_low) * self.tau_w[...]))[None]
        a, b = self.a[...][None], self.b[...][None]
        z_before = jax.lax.stop_gradient(z_before)
        u = alpha * u * (1 - z_before) + (1 - alpha) * (inputs - w)
        z = self.spike_fn(u - 1.0)
        w = beta * w + (1 - beta) * self.q * (a * u * (1 - z) + b * z_before)
        return StoredState(u, w, jax.lax.stop_gradient(z)), z


@pytest.mark.parametrize("name", ["hypr_adlif", "hypr_adlif_recurrent"])
def test_hypr_is_ostl_of_a_neuron_that_lets_no_gradient_through_stored_spikes(name, x64):
    """With the neurons of its authors, and all their parameters. A recurrent layer: without the error of their code."""
    data = authors.load(name)
    neurons = [TheirAdLIF(data, index) for index in (0, 1)]
    theirs = authors.recorded_gradients(data) if not data["recurrent"] else authors.hypr(data, published=False)
    found = check_hypr(data, neurons, [1.0, 1.0], theirs)
    for index in (0, 1):
        for parameter in ("tau_u", "tau_w", "a", "b"):
            expected = theirs[f"{parameter}_{index}"]
            gradient = leaf(found, 2 * index + 1, parameter)
            np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-13)
    if data["recurrent"]:
        recorded = authors.recorded_gradients(data)
        assert deviation(found["synapses"][0]["kernel"][...], recorded["recurrent_0"]) > 0.5
        assert deviation(leaf(found, 0, "kernel"), recorded["kernel_0"]) > 0.01


@pytest.mark.parametrize("name", ["hypr_brf", "hypr_brf_recurrent"])
def test_hypr_of_brf_is_ostl_without_the_errors_of_the_published_code(name, x64):
    """Kernels, biases and the neuron's parameters; of q no gradient is cut, since it takes the spikes of its own step."""
    from slax_neurons import Trainable
    from stacks import gradients_of

    data = authors.load(name)
    neurons = [
        BRF(
            omega=Trainable(data[f"omega_{index}"]),
            b_offset=Trainable(data[f"b_offset_{index}"]),
            dt=float(data["option_dt"]),
            spike_fn=slayer(0.4),
            **DTYPE,
        )
        for index in (0, 1)
    ]
    theirs, recorded = authors.hypr(data, published=False), authors.recorded_gradients(data)
    found = check_hypr(data, neurons, [1.0, 1.0], theirs)
    by_value = gradients_of(hypr_model(data, neurons, [1.0, 1.0])[0], found)
    for index in (0, 1):
        for parameter in ("omega", "b_offset"):
            check(by_value[index][parameter], theirs[f"{parameter}_{index}"])
        assert deviation(leaf(found, 2 * index, "kernel"), recorded[f"kernel_{index}"]) > 0.1


# -------------------------------------------------------------------------------------------- OTTT's weight standardization
