"""Rules by layers: each layer makes its gradient from its traces and a signal of the present step, which a route brings.

Each kernel, those of edges too, is one more input of the layer that receives it.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from oracle.exact import influence, parameter_numbers
from oracle.networks import receive, remember
from oracle.neurons import Dense
from oracle.routes import Symmetric
from oracle.running import Rule
from oracle.traces import (
    Integrated,
    Mean,
    contracted,
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


class Traces(NamedTuple):
    layers: list
    t: int  # steps so far


class Credit(NamedTuple):
    """What a layer finds in a step: estimates of what is owed to each parameter, [I, B, N] of a kernel or of delays and
    [B, N] of the others, that signals are multiplied with."""

    estimates: Any  # for the signal that the route brings
    factor: np.ndarray  # [B, N], of that signal on its way to the layer's current
    outputs: Any = None  # of the outputs of this step alone, where `estimates` are something else
    psi: Any = None  # [B, N], the factor that belongs to them


class LocalRule(Rule):
    """Base.

    `layer_step` returns the new trace and the `Credit`. `above` is the next layer, None for the last one with a neuron.
    """

    def __init__(self, *, route=None):
        self.route = Symmetric() if route is None else route

    def initial(self, layers, batch):
        return Traces([self.layer_initial(layer, batch) for layer in layers], 0)

    def layer_initial(self, layer, batch):
        return zero_traces(layer, batch)

    def signals(self, layers, traces, steps, signal):
        return self.route.signals(steps, signal, traces.t)

    def step(self, layers, traces, steps, signals, own):
        signals = list(signals)
        new_traces, gradients = [None] * len(layers), [{} for _ in layers]
        for i, layer in reversed(list(enumerate(layers))):
            above = next((other for other in layers[i + 1 :] if not isinstance(other.neuron, Dense)), None)
            new_traces[i], credit = self.layer_step(layer, traces.layers[i], steps[i], above)
            gradients[i], cotangent = self.weigh(layer, signals[i], credit.estimates), signals[i] * credit.factor
            if own[i] is not None:  # of the outputs of this step alone
                outputs = credit.estimates if credit.outputs is None else credit.outputs
                more = self.weigh(layer, own[i], outputs)
                gradients[i] = {name: gradient + more[name] for name, gradient in gradients[i].items()}
                cotangent = cotangent + own[i] * (credit.factor if credit.psi is None else credit.psi)
            for sender, part in self.route.below(layers, i, cotangent):
                signals[sender] = signals[sender] + part
        return Traces(new_traces, traces.t + 1), gradients

    def weigh(self, layer, signal, estimates):
        """The gradients: signal times estimate, summed over samples and over what shares a parameter."""
        return {name: contracted(layer, name, (signal * one).sum(axis=-2)) for name, one in estimates.items()}


class SLTT(LocalRule):
    """Spatial learning through time: only the present step, no trace."""

    def layer_step(self, layer, trace, step, above):
        outputs = {name: ds for name, (_, ds) in direct_terms(layer, step).items()}
        return trace, Credit(outputs, step.psi)


class OSTL(LocalRule):
    """Online spatio-temporal learning: exact eligibilities within a neuron.

    eps = o E + psi x,  E' = D E + d x,  gradient = signal eps,  cotangent = signal psi
    """

    def layer_step(self, layer, trace, step, above):
        outputs, trace = eligibilities(layer, trace, step)
        return trace, Credit(outputs, step.psi)


class OSTLWithH(LocalRule):
    """OSTL with exact eligibilities within a layer, its edges to itself included, of whatever delay: E [N, P].

    With P the parameters of the layer, and Js the derivatives of the outputs:

        J i = sum over edges to itself of Js_(t - delay) R + direct,  Js = o E + psi J i,  E' = D E + d J i
    """

    def layer_initial(self, layer, batch):
        size = parameter_numbers([layer])[1]
        return np.zeros((batch, layer.size, layer.neuron.n_states, size)), ()

    def initial(self, layers, batch):
        own = [[p for p, edge in layer.connections(i).items() if edge.sender == i] for i, layer in enumerate(layers)]
        pairs = zip(layers, own, strict=True)
        return Traces([(*self.layer_initial(layer, batch), prefixes) for layer, prefixes in pairs], 0)

    def layer_step(self, layer, trace, step, above):
        states, past, own = trace
        dx = {}
        for prefix in own:
            edge = replace(layer.connections(0)[prefix], sender=0)  # the layer is the only one here
            dx[prefix], _ = receive(edge, None, [], past, np.zeros_like(states[:, :, 0]))
        numbers = parameter_numbers([layer])[0][0]
        new = influence(layer, layer.connections(0), numbers, states, step, dx)
        trace = new.states, remember([layer], [new.outputs], past), own
        return trace, Credit(new.outputs, step.psi)

    def weigh(self, layer, signal, estimates):
        gradient = np.einsum("bn,bnp->p", signal, estimates)
        return {name: gradient[numbers] for name, numbers in parameter_numbers([layer])[0][0].items()}


class OTTT(LocalRule):
    """Online training through time: an eligibility is a decayed sum of inputs, times psi of the present step.

        a' = decay a + x,  gradient = signal psi a',  cotangent = signal psi

    With several states, a' = A F a + b x and ds/dm a' in place of psi a', with the derivatives A, b of integration, and F of
    firing at given spikes: nothing passes through spikes and resets. The bias is the weight of a constant input 1; without
    `bias_trace` its a' is b. Parameters of the neuron are treated likewise; the paper leaves them open.
    """

    def __init__(self, bias_trace=True, *, route=None):
        super().__init__(route=route)
        self.bias_trace = bias_trace

    def layer_step(self, layer, trace, step, above):
        integrated, trace, fired = integrate(layer, trace, step, self.bias_trace)
        return trace, Credit(read_out(fired, integrated), step.psi)


class OTPE(LocalRule):
    """Online training with postsynaptic estimates: below the last layer the eligibilities of OSTL are summed with the
    decay k of the next layer, as the membranes there would, and the signal passes a mean of psi over time.

        R' = k R + eps,  gradient = signal R',  cotangent = signal g'
        w' = k w + 1,    g' = (k w g + psi) / w'

    The last layer is OSTL. `next_decay`, a function of a layer and the one above, replaces k.
    """

    def __init__(self, next_decay=None, *, route=None):
        super().__init__(route=route)
        self.next_decay = next_decay or decay_above

    def layer_initial(self, layer, batch):
        return zero_traces(layer, batch), zero_sums(layer), Mean()

    def layer_step(self, layer, trace, step, above):
        trace, sums, mean = trace
        outputs, trace = eligibilities(layer, trace, step)
        if above is None:
            return (trace, sums, mean), Credit(outputs, step.psi)
        k = self.next_decay(layer, above)
        sums, mean = decayed_sum(sums, k, outputs), mean.add(k, step.psi)
        return (trace, sums, mean), Credit(sums, mean.value, outputs, step.psi)


class ApproximateOTPE(LocalRule):
    """OTPE with the traces a' of OTTT in place of eligibilities, and the mean g' of psi in place of each psi.

        z' = k z + a',  gradient = signal g' z',  cotangent = signal g'

    With several states, g' is the mean of ds/dm, one per state, times z' for the gradient and times b for the cotangent.
    The last layer is OTTT. Without `bias_trace` both a' and z' of the bias are b. Parameters of the neuron: as in OTTT;
    what one of firing does to the output within a step is summed as it is.
    """

    def __init__(self, bias_trace=True, next_decay=None, *, route=None):
        super().__init__(route=route)
        self.bias_trace = bias_trace
        self.next_decay = next_decay or decay_above

    def layer_initial(self, layer, batch):
        return zero_traces(layer, batch), Integrated(zero_sums(layer), zero_sums(layer)), Mean(), Mean()

    def layer_step(self, layer, trace, step, above):
        trace, sums, mean_fired, mean_psi = trace
        integrated, trace, fired = integrate(layer, trace, step, self.bias_trace)
        outputs = read_out(fired, integrated)
        if above is None:
            return (trace, sums, mean_fired, mean_psi), Credit(outputs, step.psi)
        k = self.next_decay(layer, above)
        states = decayed_sum(sums.states, k, integrated.states)
        if not self.bias_trace:
            states |= {name: a for name, a in integrated.states.items() if name.endswith("bias")}
        sums = Integrated(states, decayed_sum(sums.outputs, k, integrated.outputs))
        mean_fired, mean_psi = mean_fired.add(k, fired), mean_psi.add(k, step.psi)
        credit = Credit(read_out(mean_fired.value, sums), mean_psi.value, outputs, step.psi)
        return (trace, sums, mean_fired, mean_psi), credit


class EProp(OTPE):
    """e-prop: below the last layer, the eligibilities of OSTL are filtered with kappa; the last layer is OSTL.

        F' = kappa F + eps,  gradient = signal F',  cotangent = signal psi

    `kappa` is a number, by default the decay of the next layer.
    """

    def __init__(self, kappa=None, *, route=None):
        super().__init__(None if kappa is None else lambda *_: kappa, route=route)

    def layer_step(self, layer, trace, step, above):
        trace, credit = super().layer_step(layer, trace, step, above)
        return trace, credit._replace(factor=step.psi)


class PPProp(LocalRule):
    """pp-prop: an eligibility as the product of two traces, one of the input and one of the neuron, of n steps so far.

        ex' = decay ex + x,  ef = decay o g + (1 - decay) psi,  g' = decay D g + (1 - decay) d
        gradient = signal ef ex' / (1 - decay^n),  cotangent = signal psi

    The bias has ex = 1 and no trace. Parameters of the neuron have none: they have to be `fixed`.
    """

    def __init__(self, decay=0.9, *, route=None):
        super().__init__(route=route)
        self.decay = decay

    def layer_initial(self, layer, batch):
        assert not layer.neuron_parameters
        ex = {name: 0.0 for name in layer.parameters() if name.endswith(("kernel", "delays"))}
        return ex, np.zeros((batch, layer.size, layer.neuron.n_states)), 0

    def layer_step(self, layer, trace, step, above):
        ex, g, n = trace
        here = currents(layer, step)
        ex = {name: self.decay * before + here[name] for name, before in ex.items()}

        ef = self.decay * (step.o * g).sum(axis=-1) + (1 - self.decay) * step.psi
        estimates = {name: di * ef / (1 - self.decay ** (n + 1)) for name, di in (here | ex).items()}
        after = self.decay * (step.D @ g[..., None])[..., 0] + (1 - self.decay) * step.d
        return (ex, after, n + 1), Credit(estimates, step.psi)


class STLLR(LocalRule):
    """S-TLLR: two terms, of inputs before a spike, causal, and of inputs after it.

        xhat' = pre_decay xhat + x,  gradient = signal (pre psi xhat' + post psihat x),  psihat' = post_decay psihat + psi

    and cotangent = signal psi. The bias is the weight of a constant input 1; without `bias_trace` its gradient is signal psi.
    Parameters of the neuron have to be `fixed`.
    """

    def __init__(self, pre_decay, post_decay, pre=1.0, post=-1.0, bias_trace=True, *, route=None):
        super().__init__(route=route)
        self.pre_decay, self.post_decay, self.pre, self.post = pre_decay, post_decay, pre, post
        self.bias_trace = bias_trace

    def layer_initial(self, layer, batch):
        assert not layer.neuron_parameters
        return zero_sums(layer), 0.0

    def layer_step(self, layer, trace, step, above):
        xhat, psihat = trace
        here = currents(layer, step)
        xhat = decayed_sum(xhat, self.pre_decay, here)
        estimates = {name: self.pre * step.psi * xhat[name] + self.post * psihat * x for name, x in here.items()}
        if not self.bias_trace:
            estimates |= {name: step.psi for name in estimates if name.endswith("bias")}
        return (xhat, self.post_decay * psihat + step.psi), Credit(estimates, step.psi)


class PerLayer(LocalRule):
    """A rule for each layer, all of them under one route; not for `OSTLWithH`, which has to know the network."""

    def __init__(self, rules, *, route=None):
        super().__init__(route=route)
        self.rules = rules

    def initial(self, layers, batch):
        pairs = zip(self.rules, layers, strict=True)
        return Traces([(rule, rule.layer_initial(layer, batch)) for rule, layer in pairs], 0)

    def layer_step(self, layer, trace, step, above):
        rule, trace = trace
        trace, credit = rule.layer_step(layer, trace, step, above)
        return (rule, trace), credit
