"""Spiking networks and learning rules in plain float64 NumPy, step by step: what the packages are compared with.

It shares no code with the packages and is written for reading, not for speed. Axes: T time, B batch, I/O the inputs and
outputs of a layer, N neurons, S states of a neuron, C outputs of the network, P all parameters.

A neuron maps its previous states h and its input current i to new states h' and an output s. All that a rule needs to
know of it are five blocks of partial derivatives, per sample and neuron, and here every neuron returns them:

    D = dh'/dh [S, S]   d = dh'/di [S]   o = ds/dh [S]   psi = ds/di   and, per neuron parameter, dh' [S] and ds

The derivative of a spike is that of its surrogate throughout. A layer computes i = x W + b from x, the output of the
layer below at the same step. The loss is the mean over T and B of one loss per step and sample; a *signal* is a
function (t, outputs [B, C]) -> (losses [B], their derivatives with respect to the outputs [B, C]).

    layers = [Layer(kernel, bias, LIF(decay=0.9)), Layer(kernel, bias, LI(decay=0.9))]
    result = bptt(layers, inputs, softmax_cross_entropy(labels))
    result.gradients[0]["kernel"], result.gradients[0]["decay"]
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

# ---------------------------------------------------------------------------------------------------- spike functions


class SpikeFunction(NamedTuple):
    """A spike as a function of x = v - threshold, and what counts as its derivative."""

    value: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]


def heaviside(x):
    return (x >= 0).astype(np.float64)


def fast_sigmoid(slope=25.0) -> SpikeFunction:
    return SpikeFunction(heaviside, lambda x: 1 / (slope * np.abs(x) + 1) ** 2)


def arctan(alpha=2.0) -> SpikeFunction:
    return SpikeFunction(heaviside, lambda x: alpha / 2 / (1 + (np.pi * alpha * x / 2) ** 2))


def multi_gaussian(gamma=0.5, sigma=0.3, scale=6.0, height=0.15) -> SpikeFunction:
    def normal(x, mean, deviation):
        return np.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))

    def derivative(x):
        centre = (1 + height) * normal(x, 0, sigma)
        sides = height * (normal(x, sigma, scale * sigma) + normal(x, -sigma, scale * sigma))
        return gamma * (centre - sides)

    return SpikeFunction(heaviside, derivative)


def smooth(slope) -> SpikeFunction:
    """No spike: a sigmoid with its true derivative, so that gradients can be checked with finite differences."""

    def value(x):
        return (1 + np.tanh(slope * x / 2)) / 2

    return SpikeFunction(value, lambda x: slope * value(x) * (1 - value(x)))


_DEFAULT_SPIKE = fast_sigmoid()

# ------------------------------------------------------------------------------------------------------------ neurons


class Step(NamedTuple):
    """What one layer does in one step."""

    previous: np.ndarray  # [B, N, S] states before
    states: np.ndarray  # [B, N, S] states after
    membrane: np.ndarray  # [B, N] membrane before the reset
    output: np.ndarray  # [B, N]
    D: np.ndarray  # [B, N, S, S]
    d: np.ndarray  # [B, N, S]
    o: np.ndarray  # [B, N, S]
    psi: np.ndarray  # [B, N]
    dh: dict[str, np.ndarray]  # per neuron parameter [B, N, S]
    ds: dict[str, np.ndarray]  # per neuron parameter [B, N]


class Neuron:
    """Base: `parameters` names the fields that have gradients, each a scalar or [N]; `decay` is the membrane's."""

    parameters: tuple[str, ...]
    n_states = 1

    def __post_init__(self):
        for name in self.parameters:
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))

    def step(self, previous, current) -> Step:
        raise NotImplementedError


@dataclass(frozen=True)
class LI(Neuron):
    """Leaky integrator: u' = decay u + i, and u' is the output. With decay 0 it has no memory."""

    decay: Any

    parameters = ("decay",)

    def step(self, previous, current):
        u = previous[..., 0]
        new = self.decay * u + current
        ones = np.ones_like(u)
        leak = self.decay * ones
        return Step(
            previous=previous,
            states=_states(new),
            membrane=new,
            output=new,
            D=_square([[leak]]),
            d=_states(ones),
            o=_states(leak),
            psi=ones,
            dh={"decay": _states(u)},
            ds={"decay": u},
        )


@dataclass(frozen=True)
class LIF(Neuron):
    """v = decay u + i,  s = H(v - threshold),  u' = v after the reset."""

    decay: Any
    threshold: Any = 1.0
    spike: SpikeFunction = _DEFAULT_SPIKE
    reset: str = "subtract"
    stop_reset_gradient: bool = False

    parameters = ("decay", "threshold")

    def step(self, previous, current):
        u = previous[..., 0]
        v = self.decay * u + current
        s, psi = self.spike.value(v - self.threshold), self.spike.derivative(v - self.threshold)
        new, a, du_dthreshold = _reset(self.reset, self.stop_reset_gradient, v, s, psi, self.threshold)
        return Step(
            previous=previous,
            states=_states(new),
            membrane=v,
            output=s,
            D=_square([[a * self.decay]]),
            d=_states(a),
            o=_states(psi * self.decay),
            psi=psi,
            dh={"decay": _states(a * u), "threshold": _states(du_dthreshold)},
            ds={"decay": psi * u, "threshold": -psi},
        )


@dataclass(frozen=True)
class CuBaLIF(Neuron):
    """LIF behind a current with memory: c' = current_decay c + i,  v = decay u + c',  then as LIF. States (c, u)."""

    current_decay: Any
    decay: Any
    threshold: Any = 1.0
    spike: SpikeFunction = _DEFAULT_SPIKE
    reset: str = "subtract"
    stop_reset_gradient: bool = False

    parameters = ("current_decay", "decay", "threshold")
    n_states = 2

    def step(self, previous, current):
        c, u = previous[..., 0], previous[..., 1]
        new_c = self.current_decay * c + current
        v = self.decay * u + new_c
        s, psi = self.spike.value(v - self.threshold), self.spike.derivative(v - self.threshold)
        new_u, a, du_dthreshold = _reset(self.reset, self.stop_reset_gradient, v, s, psi, self.threshold)
        zeros = np.zeros_like(v)
        alpha = self.current_decay + zeros
        return Step(
            previous=previous,
            states=_states(new_c, new_u),
            membrane=v,
            output=s,
            D=_square([[alpha, zeros], [a * alpha, a * self.decay]]),
            d=_states(zeros + 1, a),
            o=_states(psi * alpha, psi * self.decay),
            psi=psi,
            dh={
                "current_decay": _states(c, a * c),
                "decay": _states(zeros, a * u),
                "threshold": _states(zeros, du_dthreshold),
            },
            ds={"current_decay": psi * c, "decay": psi * u, "threshold": -psi},
        )


@dataclass(frozen=True)
class ALIF(Neuron):
    """LIF whose threshold rises with its own spikes. States (u, a):

    v = decay u + i,  s = H(v - threshold - adaptation a),  u' = v - threshold s,  a' = adaptation_decay a + s

    Stopping the reset's gradient concerns u' only.
    """

    decay: Any
    adaptation_decay: Any
    adaptation: Any
    threshold: Any = 1.0
    spike: SpikeFunction = _DEFAULT_SPIKE
    stop_reset_gradient: bool = False

    parameters = ("decay", "adaptation_decay", "adaptation", "threshold")
    n_states = 2

    def step(self, previous, current):
        u, a = previous[..., 0], previous[..., 1]
        v = self.decay * u + current
        x = v - self.threshold - self.adaptation * a
        s, psi = self.spike.value(x), self.spike.derivative(x)
        zeros = np.zeros_like(v)
        through_reset = zeros if self.stop_reset_gradient else self.threshold * psi
        return Step(
            previous=previous,
            states=_states(v - self.threshold * s, self.adaptation_decay * a + s),
            membrane=v,
            output=s,
            D=_square(
                [
                    [(1 - through_reset) * self.decay, through_reset * self.adaptation],
                    [psi * self.decay, self.adaptation_decay - self.adaptation * psi],
                ]
            ),
            d=_states(1 - through_reset, psi),
            o=_states(psi * self.decay, -psi * self.adaptation),
            psi=psi,
            dh={
                "decay": _states((1 - through_reset) * u, psi * u),
                "adaptation_decay": _states(zeros, a),
                "adaptation": _states(through_reset * a, -psi * a),
                "threshold": _states(through_reset - s, -psi),
            },
            ds={"decay": psi * u, "adaptation_decay": zeros, "adaptation": -psi * a, "threshold": -psi},
        )


def _reset(kind, stopped, v, s, psi, threshold):
    """The membrane u' after the reset, du'/dv, and du'/dthreshold at fixed v."""
    if kind == "subtract":
        through_spike = 0 if stopped else threshold * psi
        return v - threshold * s, 1 - through_spike + 0 * v, through_spike - s
    if kind == "zero":
        through_spike = 0 if stopped else v * psi
        return v * (1 - s), 1 - s - through_spike, through_spike + 0 * v
    if kind == "none":
        return v, np.ones_like(v), np.zeros_like(v)
    raise ValueError(f"reset must be 'subtract', 'zero' or 'none', got {kind!r}.")


def _states(*states):
    return np.stack(states, axis=-1)


def _square(rows):
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


# ----------------------------------------------------------------------------------------------------------- networks


@dataclass(frozen=True)
class Layer:
    """i = x kernel + bias, and the neuron that receives i."""

    kernel: Any  # [I, O]
    bias: Any  # [O]
    neuron: Neuron

    def __post_init__(self):
        object.__setattr__(self, "kernel", np.asarray(self.kernel, np.float64))
        object.__setattr__(self, "bias", np.asarray(self.bias, np.float64))

    def parameters(self) -> dict[str, np.ndarray]:
        neuron = {name: getattr(self.neuron, name) for name in self.neuron.parameters}
        return {"kernel": self.kernel, "bias": self.bias, **neuron}


def zero_states(layers, batch):
    return [np.zeros((batch, layer.bias.size, layer.neuron.n_states)) for layer in layers]


def forward_step(layers, states, x) -> list[Step]:
    """One step of all layers; x [B, I]."""
    steps = []
    for layer, previous in zip(layers, states, strict=True):
        steps.append(layer.neuron.step(previous, x @ layer.kernel + layer.bias))
        x = steps[-1].output
    return steps


def forward(layers, inputs, states=None) -> list[list[Step]]:
    """All steps; inputs [T, B, I]. The result is indexed by step, then by layer; see `series`."""
    inputs = np.asarray(inputs, np.float64)
    states = zero_states(layers, inputs.shape[1]) if states is None else states
    history = []
    for x in inputs:
        history.append(forward_step(layers, states, x))
        states = [step.states for step in history[-1]]
    return history


def series(history, field, layer=-1) -> np.ndarray:
    """One field of a layer's steps over time, [T, ...]: "output" are the spikes, "membrane" the v before the reset."""
    return np.stack([getattr(steps[layer], field) for steps in history])


# ------------------------------------------------------------------------------------------------------------- losses


def softmax_cross_entropy(labels):
    """Signal of integer labels [B], or [T, B]."""
    labels = np.asarray(labels)

    def signal(t, outputs):
        targets = labels if labels.ndim == 1 else labels[t]
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        one_hot = np.eye(outputs.shape[1])[targets]
        return -(one_hot * log_probabilities).sum(axis=1), np.exp(log_probabilities) - one_hot

    return signal


def linear(weights):
    """Signal of the loss weights . outputs; weights [T, B, C]."""
    return lambda t, outputs: ((weights[t] * outputs).sum(axis=1), weights[t])


# ----------------------------------------------------------------------------------------------------------- gradients

Gradients = list[dict[str, np.ndarray]]  # per layer: "kernel", "bias" and the parameters of its neuron, by name


class Carry(NamedTuple):
    """What a rule hands from one step to the next."""

    states: list[np.ndarray]
    traces: Any


class Result(NamedTuple):
    loss: float  # mean over T and B
    gradients: Gradients
    outputs: np.ndarray  # [T, B, C]
    carry: Carry


def bptt(layers, inputs, signal, *, window=None, states=None) -> Result:
    """Backpropagation through time, by its reverse recursion over time and, within a step, over layers.

    With `window`, adjoints do not pass the starts of windows, t = 0, window, 2 window, ...
    """
    inputs = np.asarray(inputs, np.float64)
    n_steps, batch = inputs.shape[:2]
    history = forward(layers, inputs, states)
    losses, signals = zip(*(signal(t, history[t][-1].output) for t in range(n_steps)), strict=True)

    gradients = [{name: np.zeros_like(value) for name, value in layer.parameters().items()} for layer in layers]
    gh = zero_states(layers, batch)  # adjoints of the states after the current step
    for t in reversed(range(n_steps)):
        gs = signals[t] / (n_steps * batch)  # adjoint of the output of the current layer
        for i in reversed(range(len(layers))):
            step = history[t][i]
            x = history[t][i - 1].output if i > 0 else inputs[t]
            gi = (step.d * gh[i]).sum(axis=-1) + step.psi * gs
            gradients[i]["kernel"] += x.T @ gi
            gradients[i]["bias"] += gi.sum(axis=0)
            for name in layers[i].neuron.parameters:
                per_neuron = ((step.dh[name] * gh[i]).sum(axis=-1) + step.ds[name] * gs).sum(axis=0)
                gradients[i][name] += _shaped_like(getattr(layers[i].neuron, name), per_neuron)
            gh[i] = np.einsum("bnsr,bns->bnr", step.D, gh[i]) + step.o * gs[..., None]
            if window is not None and t % window == 0:
                gh[i] = np.zeros_like(gh[i])
            gs = gi @ layers[i].kernel.T
    outputs = series(history, "output")
    return Result(float(np.mean(losses)), gradients, outputs, Carry([step.states for step in history[-1]], None))


def tbptt(layers, inputs, signal, window) -> Result:
    """Truncated backpropagation through time; window 1 keeps nothing of the past."""
    return bptt(layers, inputs, signal, window=window)


def rtrl(layers, inputs, signal, *, carry=None) -> Result:
    return run(RTRL(), layers, inputs, signal, carry=carry)


def ostl(layers, inputs, signal, *, carry=None) -> Result:
    return run(OSTL(), layers, inputs, signal, carry=carry)


def sltt(layers, inputs, signal, *, carry=None) -> Result:
    return run(SLTT(), layers, inputs, signal, carry=carry)


def ottt(layers, inputs, signal, *, bias_trace=True, carry=None) -> Result:
    return run(OTTT(bias_trace), layers, inputs, signal, carry=carry)


def otpe(layers, inputs, signal, *, next_decay=None, carry=None) -> Result:
    return run(OTPE(next_decay), layers, inputs, signal, carry=carry)


def approximate_otpe(layers, inputs, signal, *, bias_trace=True, next_decay=None, carry=None) -> Result:
    return run(ApproximateOTPE(bias_trace, next_decay), layers, inputs, signal, carry=carry)


def run(rule, layers, inputs, signal, *, carry=None) -> Result:
    """A rule that needs no future, step by step at fixed parameters; the gradient is the mean over the steps'."""
    inputs = np.asarray(inputs, np.float64)
    n_steps, batch = inputs.shape[:2]
    carry = start(rule, layers, batch) if carry is None else carry
    total = [{name: np.zeros_like(value) for name, value in layer.parameters().items()} for layer in layers]
    losses, outputs = [], []
    for t in range(n_steps):
        carry, output, loss, gradients = advance(rule, layers, carry, inputs[t], lambda y, t=t: signal(t, y))
        outputs.append(output)
        losses.append(loss)
        for layer_total, layer_gradients in zip(total, gradients, strict=True):
            for name in layer_total:
                layer_total[name] += layer_gradients[name] / n_steps
    return Result(float(np.mean(losses)), total, np.stack(outputs), carry)


def start(rule, layers, batch) -> Carry:
    return Carry(zero_states(layers, batch), rule.initial(layers, batch))


def advance(rule, layers, carry, x, signal) -> tuple[Carry, np.ndarray, float, Gradients]:
    """One step: carry, outputs, loss (mean over B) and its gradients. For online training, change `layers` between.

    signal: outputs [B, C] -> (losses [B], derivatives [B, C]), without t.
    """
    steps = forward_step(layers, carry.states, x)
    losses, derivatives = signal(steps[-1].output)
    presynaptic = [x, *(step.output for step in steps[:-1])]
    traces, gradients = rule.step(layers, carry.traces, presynaptic, steps, derivatives / len(x))
    return Carry([step.states for step in steps], traces), steps[-1].output, float(np.mean(losses)), gradients


def _shaped_like(parameter, per_neuron):
    """Sums the contributions [N] of the neurons if they share one parameter."""
    return per_neuron.sum() if np.ndim(parameter) == 0 else per_neuron


# ---------------------------------------------------------------------------------------------- rules without a future
#
# A rule has two methods, with lists per layer and all traces per sample:
#   initial(layers, batch) -> traces
#   step(layers, traces, xs, steps, signal) -> traces, gradients
# xs [B, I] are the presynaptic inputs; signal [B, C] is the derivative of this step's loss (mean over B) with respect
# to the network's outputs.


class RTRL:
    """Real-time recurrent learning: the derivatives of all states with respect to all parameters, carried forward.

    Exact for every network here. The parameters are numbered through all layers: [..., P].
    """

    def initial(self, layers, batch):
        size = sum(value.size for layer in layers for value in layer.parameters().values())
        return [np.zeros((*states.shape, size)) for states in zero_states(layers, batch)]

    def step(self, layers, traces, xs, steps, signal):
        numbers = self._numbers(layers)
        new_traces = []
        dx = np.zeros((*xs[0].shape, traces[0].shape[-1]))  # of the presynaptic x; the inputs depend on no parameter
        for layer, trace, x, step, number in zip(layers, traces, xs, steps, numbers, strict=True):
            di = np.einsum("bip,ij->bjp", dx, layer.kernel)
            dh = np.zeros_like(trace)
            ds = np.zeros_like(di)
            for j in range(layer.bias.size):
                di[:, j, number["kernel"][:, j]] += x
                di[:, j, number["bias"][j]] += 1
                for name in layer.neuron.parameters:
                    p = number[name] if number[name].ndim == 0 else number[name][j]
                    dh[:, j, :, p] += step.dh[name][:, j]
                    ds[:, j, p] += step.ds[name][:, j]
            ds += np.einsum("bns,bnsp->bnp", step.o, trace) + step.psi[..., None] * di
            dh += np.einsum("bnsr,bnrp->bnsp", step.D, trace) + np.einsum("bns,bnp->bnsp", step.d, di)
            new_traces.append(dh)
            dx = ds
        gradient = np.einsum("bn,bnp->p", signal, dx)
        return new_traces, [{name: gradient[p] for name, p in number.items()} for number in numbers]

    def _numbers(self, layers):
        numbers, first = [], 0
        for layer in layers:
            numbers.append({})
            for name, value in layer.parameters().items():
                numbers[-1][name] = first + np.arange(value.size).reshape(value.shape)
                first += value.size
        return numbers


class LocalRule:
    """A rule by layers: a signal [B, N] comes down through this step, and each layer makes its gradient from it.

    `layer_step` returns the new trace, the estimates that the signal is multiplied with, [B, I, N] of the kernel and
    [B, N] of the other parameters, and the factor of the signal on its way through the neuron. `above` is the next
    layer, None for the last.
    """

    def initial(self, layers, batch):
        return [self.layer_initial(layer, batch) for layer in layers]

    def step(self, layers, traces, xs, steps, signal):
        new_traces, gradients = [None] * len(layers), [{} for _ in layers]
        for i, layer in reversed(list(enumerate(layers))):
            above = layers[i + 1] if i + 1 < len(layers) else None
            new_traces[i], estimates, factor = self.layer_step(layer, traces[i], xs[i], steps[i], above)
            for name, parameter in layer.parameters().items():
                if name == "kernel":
                    gradients[i][name] = (signal[:, None] * estimates[name]).sum(axis=0)
                else:
                    gradients[i][name] = _shaped_like(parameter, (signal * estimates[name]).sum(axis=0))
            signal = (signal * factor) @ layer.kernel.T
        return new_traces, gradients


class SLTT(LocalRule):
    """Spatial learning through time: only the present step, no trace."""

    def layer_initial(self, layer, batch):
        return None

    def layer_step(self, layer, trace, x, step, above):
        return None, {name: ds for name, (_, ds) in _direct_terms(x, step).items()}, step.psi


class OSTL(LocalRule):
    """Online spatio-temporal learning: exact eligibilities within a layer.

    eps = o E + psi x,  E' = D E + d x,  gradient = signal eps,  signal below = (signal psi) W^T
    """

    def layer_initial(self, layer, batch):
        return _zero_eligibilities(layer, batch)

    def layer_step(self, layer, trace, x, step, above):
        estimates, trace = _eligibilities(trace, x, step)
        return trace, estimates, step.psi


class OTTT(LocalRule):
    """Online training through time: an eligibility is a decayed sum of inputs, times psi of the present step.

        a' = decay a + x,  gradient = signal psi a',  signal below = (signal psi) W^T

    The bias is the weight of a constant input 1; without `bias_trace` its a' is 1. Decay and threshold are treated
    likewise, as if the membrane lost nothing of them at a reset; the paper leaves them open.
    """

    def __init__(self, bias_trace=True):
        self.bias_trace = bias_trace

    def layer_initial(self, layer, batch):
        return _zero_input_traces(layer, batch)

    def layer_step(self, layer, trace, x, step, above):
        inputs, trace = _input_traces(layer, trace, x, step, self.bias_trace)
        return trace, _times(step.psi, inputs), step.psi


class OTPE(LocalRule):
    """Online training with postsynaptic estimates: below the last layer the eligibilities of OSTL are summed with the
    decay k of the next layer, as the membranes there would, and the signal passes a mean of psi over time.

        R' = k R + eps,  gradient = signal R',  signal below = (signal g') W^T
        w' = k w + 1,    g' = (k w g + psi) / w'

    The last layer is OSTL. `next_decay`, a function of a layer and the one above, replaces k.
    """

    def __init__(self, next_decay=None):
        self.next_decay = next_decay or _decay_above

    def layer_initial(self, layer, batch):
        return _zero_eligibilities(layer, batch), _zero_postsynaptic(layer)

    def layer_step(self, layer, trace, x, step, above):
        eligibilities, postsynaptic = trace
        estimates, eligibilities = _eligibilities(eligibilities, x, step)
        if above is None:
            return (eligibilities, postsynaptic), estimates, step.psi
        postsynaptic = _postsynaptic(postsynaptic, self.next_decay(layer, above), estimates, step.psi)
        return (eligibilities, postsynaptic), postsynaptic.sums, postsynaptic.mean_psi


class ApproximateOTPE(LocalRule):
    """OTPE with the traces a' of OTTT in place of eligibilities, and the mean g' of psi in place of each psi.

        z' = k z + a',  gradient = signal g' z',  signal below = (signal g') W^T

    The last layer is OTTT. Without `bias_trace` both a' and z' of the bias are 1. Decay and threshold: as in OTTT.
    """

    def __init__(self, bias_trace=True, next_decay=None):
        self.bias_trace = bias_trace
        self.next_decay = next_decay or _decay_above

    def layer_initial(self, layer, batch):
        return _zero_input_traces(layer, batch), _zero_postsynaptic(layer)

    def layer_step(self, layer, trace, x, step, above):
        inputs, postsynaptic = trace
        estimates, inputs = _input_traces(layer, inputs, x, step, self.bias_trace)
        if above is None:
            return (inputs, postsynaptic), _times(step.psi, estimates), step.psi
        postsynaptic = _postsynaptic(postsynaptic, self.next_decay(layer, above), estimates, step.psi)
        sums = postsynaptic.sums if self.bias_trace else {**postsynaptic.sums, "bias": estimates["bias"]}
        return (inputs, postsynaptic), _times(postsynaptic.mean_psi, sums), postsynaptic.mean_psi


# ------------------------------------------------------------------------------------------------------ parts of rules


def _direct_terms(x, step):
    """Per parameter, what the states [B, (I,) N, S] and the output [B, (I,) N] owe to it within this step."""
    return {
        "kernel": (x[:, :, None, None] * step.d[:, None], x[:, :, None] * step.psi[:, None]),
        "bias": (step.d, step.psi),
        **{name: (step.dh[name], step.ds[name]) for name in step.dh},
    }


def _zero_eligibilities(layer, batch):
    n, s = layer.bias.size, layer.neuron.n_states
    zeros = {name: np.zeros((batch, n, s)) for name in layer.parameters()}
    return {**zeros, "kernel": np.zeros((batch, layer.kernel.shape[0], n, s))}


def _eligibilities(trace, x, step):
    """eps of this step, from the OLD trace, and the new trace."""
    eps, new_trace = {}, {}
    for name, (dh, ds) in _direct_terms(x, step).items():
        o, D = (step.o[:, None], step.D[:, None]) if name == "kernel" else (step.o, step.D)
        eps[name] = (o * trace[name]).sum(axis=-1) + ds
        new_trace[name] = (D @ trace[name][..., None])[..., 0] + dh
    return eps, new_trace


def _zero_input_traces(layer, batch):
    zeros = {name: np.zeros((batch, layer.bias.size)) for name in layer.parameters()}
    return {**zeros, "kernel": np.zeros((batch, layer.kernel.shape[0], 1))}


def _input_traces(layer, trace, x, step, bias_trace):
    """d(v - threshold)/dp, which is to be multiplied by psi, and the trace du'/dp, both as if a reset were a constant.

    The two differ in the threshold only, of which a subtracting reset takes s times from u'.
    """
    if layer.neuron.n_states != 1:
        raise ValueError(f"expected a neuron with one state, got {type(layer.neuron).__name__}.")
    decay = _scalar_decay(layer)
    through_v = {
        "kernel": decay * trace["kernel"] + x[..., None],
        "bias": decay * trace["bias"] + 1 if bias_trace else np.ones_like(trace["bias"]),
        "decay": decay * trace["decay"] + step.previous[..., 0],
    }
    new_trace = dict(through_v)
    if "threshold" in trace:
        dv = decay * trace["threshold"]
        through_v["threshold"] = dv - 1
        new_trace["threshold"] = dv - step.output if layer.neuron.reset == "subtract" else dv
    return through_v, new_trace


def _times(factor, estimates):
    return {name: estimate * (factor[:, None] if name == "kernel" else factor) for name, estimate in estimates.items()}


class _Postsynaptic(NamedTuple):
    sums: dict[str, Any]
    mean_psi: Any
    weight: float


def _zero_postsynaptic(layer):
    return _Postsynaptic({name: 0.0 for name in layer.parameters()}, 0.0, 0.0)


def _postsynaptic(trace, k, estimates, psi):
    weight = k * trace.weight + 1
    return _Postsynaptic(
        sums={name: k * trace.sums[name] + estimate for name, estimate in estimates.items()},
        mean_psi=(k * trace.weight * trace.mean_psi + psi) / weight,
        weight=weight,
    )


def _decay_above(layer, above):
    return _scalar_decay(above)


def _scalar_decay(layer):
    if layer.neuron.decay.ndim:
        raise ValueError(f"expected one decay for the whole layer, got {layer.neuron.decay.size}, one per neuron.")
    return layer.neuron.decay
