"""Rules by layers: a signal comes down through the present step, and each layer makes its gradient from it and its traces.

Each kernel, those of edges too, is one more input of the layer that receives it, and what an edge carries from the past is
a number. So a signal takes the chain and the edges without a delay, and no others.
"""

from dataclasses import replace

import numpy as np

from oracle.exact import influence, parameter_numbers
from oracle.neurons import Dense
from oracle.running import Rule
from oracle.traces import (
    Integrated,
    Mean,
    currents,
    decay_above,
    decayed_sum,
    direct_terms,
    eligibilities,
    integrate,
    read_out,
    zero_sums,
    zero_traces,
)


class LocalRule(Rule):
    """Base.

    `layer_step` returns the new trace; the estimates of what the output owes to each parameter, [I, B, N] of a kernel and
    [B, N] of the others, which the signal is multiplied with; and the factor of the signal on its way through the neuron.
    `above` is the next layer, None for the last one with a neuron.
    """

    def initial(self, layers, batch):
        return [self.layer_initial(layer, batch) for layer in layers]

    def step(self, layers, traces, steps, signals):
        signals = list(signals)
        new_traces, gradients = [None] * len(layers), [{} for _ in layers]
        for i, layer in reversed(list(enumerate(layers))):
            above = next((other for other in layers[i + 1 :] if not isinstance(other.neuron, Dense)), None)
            new_traces[i], estimates, factor = self.layer_step(layer, traces[i], steps[i], above)
            gradients[i] = self.weigh(layer, signals[i], estimates)
            for edge in self.way_down(layers, i).values():
                signals[edge.sender] = signals[edge.sender] + (signals[i] * factor) @ edge.matrix().T
        return new_traces, gradients

    def weigh(self, layer, signal, estimates):
        """The gradients: signal times estimate, summed over samples and over what shares a parameter."""
        return {name: layer.shared(name, (signal * estimate).sum(axis=-2)) for name, estimate in estimates.items()}

    def way_down(self, layers, index):
        """The connections that a layer's signal takes, by prefix, as it sees them."""
        connections = layers[index].connections(index)
        return {prefix: edge for prefix, edge in connections.items() if edge.delay == 0 and edge.sender >= 0}


class SLTT(LocalRule):
    """Spatial learning through time: only the present step, no trace."""

    def layer_initial(self, layer, batch):
        return None

    def layer_step(self, layer, trace, step, above):
        return None, {name: ds for name, (_, ds) in direct_terms(layer, step).items()}, step.psi


class OSTL(LocalRule):
    """Online spatio-temporal learning: exact eligibilities within a neuron.

    eps = o E + psi x,  E' = D E + d x,  gradient = signal eps,  signal below = (signal psi) W^T
    """

    def layer_initial(self, layer, batch):
        return zero_traces(layer, batch)

    def layer_step(self, layer, trace, step, above):
        estimates, trace = eligibilities(layer, trace, step)
        return trace, estimates, step.psi


class OSTLWithH(LocalRule):
    """OSTL with exact eligibilities within a layer, its edges to itself included, of whatever delay: E [N, P].

    With P the parameters of the layer, and Js the derivatives of the outputs:

        J i = sum over edges to itself of Js_(t - delay) R + direct,  Js = o E + psi J i,  E' = D E + d J i
    """

    def layer_initial(self, layer, batch):
        size = parameter_numbers([layer])[1]
        return np.zeros((batch, layer.size, layer.neuron.n_states, size)), ()

    def initial(self, layers, batch):
        self_edges = [
            {prefix: edge for prefix, edge in layer.connections(i).items() if edge.sender == i}
            for i, layer in enumerate(layers)
        ]
        return [(*self.layer_initial(layer, batch), own) for layer, own in zip(layers, self_edges, strict=True)]

    def layer_step(self, layer, trace, step, above):
        states, past, own = trace
        dx = {prefix: past[edge.delay - 1] for prefix, edge in own.items() if edge.delay <= len(past)}
        numbers = parameter_numbers([layer])[0][0]
        states, outputs = influence(layer, layer.connections(0), numbers, states, step, dx)
        longest = max((edge.delay for edge in own.values()), default=0)
        return (states, (outputs, *past)[:longest], own), outputs, step.psi

    def weigh(self, layer, signal, estimates):
        gradient = np.einsum("bn,bnp->p", signal, estimates)
        return {name: gradient[numbers] for name, numbers in parameter_numbers([layer])[0][0].items()}


class OTTT(LocalRule):
    """Online training through time: an eligibility is a decayed sum of inputs, times psi of the present step.

        a' = decay a + x,  gradient = signal psi a',  signal below = (signal psi) W^T

    With several states, a' = A F a + b x and ds/dm a' in place of psi a', with the derivatives A, b of integration, and F of
    firing at given spikes: nothing passes through spikes and resets. The bias is the weight of a constant input 1; without
    `bias_trace` its a' is b. Parameters of the neuron are treated likewise; the paper leaves them open.
    """

    def __init__(self, bias_trace=True):
        self.bias_trace = bias_trace

    def layer_initial(self, layer, batch):
        return zero_traces(layer, batch)

    def layer_step(self, layer, trace, step, above):
        integrated, trace, fired = integrate(layer, trace, step, self.bias_trace)
        return trace, read_out(fired, integrated), step.psi


class OTPE(LocalRule):
    """Online training with postsynaptic estimates: below the last layer the eligibilities of OSTL are summed with the
    decay k of the next layer, as the membranes there would, and the signal passes a mean of psi over time.

        R' = k R + eps,  gradient = signal R',  signal below = (signal g') W^T
        w' = k w + 1,    g' = (k w g + psi) / w'

    The last layer is OSTL. `next_decay`, a function of a layer and the one above, replaces k.
    """

    def __init__(self, next_decay=None):
        self.next_decay = next_decay or decay_above

    def layer_initial(self, layer, batch):
        return zero_traces(layer, batch), zero_sums(layer), Mean()

    def layer_step(self, layer, trace, step, above):
        trace, sums, mean = trace
        estimates, trace = eligibilities(layer, trace, step)
        if above is None:
            return (trace, sums, mean), estimates, step.psi
        k = self.next_decay(layer, above)
        sums, mean = decayed_sum(sums, k, estimates), mean.add(k, step.psi)
        return (trace, sums, mean), sums, mean.value


class ApproximateOTPE(LocalRule):
    """OTPE with the traces a' of OTTT in place of eligibilities, and the mean g' of psi in place of each psi.

        z' = k z + a',  gradient = signal g' z',  signal below = (signal g') W^T

    With several states, g' is the mean of ds/dm, one per state, times z' for the gradient and times b for the signal.
    The last layer is OTTT. Without `bias_trace` both a' and z' of the bias are b. Parameters of the neuron: as in OTTT;
    what one of firing does to the output within a step is summed as it is.
    """

    def __init__(self, bias_trace=True, next_decay=None):
        self.bias_trace = bias_trace
        self.next_decay = next_decay or decay_above

    def layer_initial(self, layer, batch):
        return zero_traces(layer, batch), Integrated(zero_sums(layer), zero_sums(layer)), Mean(), Mean()

    def layer_step(self, layer, trace, step, above):
        trace, sums, mean_fired, mean_psi = trace
        integrated, trace, fired = integrate(layer, trace, step, self.bias_trace)
        if above is None:
            return (trace, sums, mean_fired, mean_psi), read_out(fired, integrated), step.psi
        k = self.next_decay(layer, above)
        states = decayed_sum(sums.states, k, integrated.states)
        if not self.bias_trace:
            states |= {name: a for name, a in integrated.states.items() if name.endswith("bias")}
        sums = Integrated(states, decayed_sum(sums.outputs, k, integrated.outputs))
        mean_fired, mean_psi = mean_fired.add(k, fired), mean_psi.add(k, step.psi)
        return (trace, sums, mean_fired, mean_psi), read_out(mean_fired.value, sums), mean_psi.value


class EProp(LocalRule):
    """e-prop: below the last layer, the eligibilities of OSTL are filtered with kappa; the last layer is OSTL.

        F' = kappa F + eps,  gradient = signal F',  signal below = (signal psi) W^T, or (signal psi) B^T

    `kappa` is a number, by default the decay of the next layer. `feedback` gives the matrices B: per layer, by the name of
    the kernel that each stands for, "kernel" or "edge0_kernel", in its shape. The first layer needs none.
    """

    def __init__(self, kappa=None, feedback=None):
        self.kappa = kappa
        self.feedback = feedback

    def layer_initial(self, layer, batch):
        return zero_traces(layer, batch), zero_sums(layer)

    def layer_step(self, layer, trace, step, above):
        trace, sums = trace
        estimates, trace = eligibilities(layer, trace, step)
        if above is None:
            return (trace, sums), estimates, step.psi
        kappa = decay_above(layer, above) if self.kappa is None else self.kappa
        sums = decayed_sum(sums, kappa, estimates)
        return (trace, sums), sums, step.psi

    def way_down(self, layers, index):
        edges = super().way_down(layers, index)
        if self.feedback is None:
            return edges
        kernels = self.feedback[index]
        return {prefix: replace(edge, kernel=kernels[f"{prefix}kernel"]) for prefix, edge in edges.items()}


class PPProp(LocalRule):
    """pp-prop: an eligibility as the product of two traces, one of the input and one of the neuron, of n steps so far.

        ex' = decay ex + x,  ef = decay o g + (1 - decay) psi,  g' = decay D g + (1 - decay) d
        gradient = signal ef ex' / (1 - decay^n),  signal below = (signal psi) W^T

    The bias has ex = 1 and no trace. Parameters of the neuron have none: they have to be `fixed`.
    """

    def __init__(self, decay):
        self.decay = decay

    def layer_initial(self, layer, batch):
        if layer.neuron_parameters:
            raise ValueError(f"expected a neuron without parameters, got {', '.join(layer.neuron_parameters)}.")
        ex = {f"{prefix}kernel": 0.0 for prefix in layer.connections(0)}
        return ex, np.zeros((batch, layer.size, layer.neuron.n_states)), 0

    def layer_step(self, layer, trace, step, above):
        ex, g, n = trace
        here = currents(layer, step)
        ex = {name: self.decay * before + here[name] for name, before in ex.items()}
        ef = self.decay * (step.o * g).sum(axis=-1) + (1 - self.decay) * step.psi
        g = self.decay * (step.D @ g[..., None])[..., 0] + (1 - self.decay) * step.d
        unbiased = ef / (1 - self.decay ** (n + 1))
        return (ex, g, n + 1), {name: di * unbiased for name, di in (here | ex).items()}, step.psi


class DECOLLE(OTTT):
    """Deep continuous local learning: the traces of OTTT under a loss of each layer's own, and nothing from above.

    The loss of layer l is that of the outputs s Q with its fixed read-out Q [N, C]; without one, of the outputs s. The loss
    reported is the sum over layers.
    """

    def __init__(self, readouts):
        super().__init__()
        self.readouts = readouts

    def signals(self, layers, steps, signal):
        total, signals = 0.0, []
        for step, readout in zip(steps, self.readouts, strict=True):
            Q = np.eye(step.output.shape[1]) if readout is None else np.asarray(readout, np.float64)
            losses, derivatives = signal(step.output @ Q)
            signals.append(derivatives @ Q.T / len(derivatives))
            total = total + losses
        return total, signals

    def way_down(self, layers, index):
        return {}
