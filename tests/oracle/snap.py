"""SnAp: real-time recurrent learning that keeps the derivatives within n steps' reach."""

import numpy as np

from oracle.exact import owed, parameter_numbers, propagate, push
from oracle.networks import carried_numbers, forward_step, longest_delay, remember, zero_states
from oracle.running import Rule


class SnAp(Rule):
    """Sparse n-step approximation of RTRL, which carries the derivatives of all states by all parameters forward.

    The trace is those of the states, [B, N, S, P] per layer, and of the last outputs. The derivative of a number that goes to
    the next step by a parameter is kept if the parameter can reach it within n steps, whatever the weights.

    These numbers are all states of all neurons, and the outputs of as many steps as an edge reads back. The map of one
    step, which leads from them and from the parameters to the same numbers one step later, goes up through all layers.
    With M its pattern by the numbers and P that by the parameters, P + M P + ... + M^(n - 1) P is kept.
    """

    def __init__(self, n=1):
        self.n = n

    def initial(self, layers, batch):
        by_number, by_parameter = step_pattern(layers)
        self.reached = by_parameter
        for _ in range(self.n - 1):
            self.reached = by_parameter | (by_number @ self.reached)
        size = parameter_numbers(layers)[1]
        return [np.zeros((*states.shape, size)) for states in zero_states(layers, batch)], ()

    def step(self, layers, traces, steps, signals, own):
        numbers, size = parameter_numbers(layers)
        new = propagate(layers, steps, *traces, size)
        gradient = owed(new, signals, own).sum(axis=0)
        outputs = remember(layers, [one.outputs for one in new], traces[1])
        states, *past = self.cut(layers, [one.states for one in new], *outputs)
        return (states, past), [{name: gradient[p] for name, p in number.items()} for number in numbers]

    def cut(self, layers, *carried):
        """What is kept of the derivatives of the states, and of the outputs of each of the last steps."""
        groups = zip(carried, carried_numbers(layers)[0], strict=False)
        return [[one * self.reached[number] for one, number in zip(*group, strict=True)] for group in groups]


def step_pattern(layers):
    """What one step's new numbers [H] depend on, at some random points: the old ones, [H, H], and the parameters, [H, P]."""
    rng, many = np.random.default_rng(0), 100
    n_carried, n_inputs = carried_numbers(layers)[1], len(layers[0].connections(0)[""].entries())

    def outputs():
        return [rng.normal(size=(many, n)) for n in (*(layer.size for layer in layers), n_inputs)]

    states = [rng.normal(size=(many, layer.size, layer.neuron.n_states)) for layer in layers]
    past = tuple(outputs() for _ in range(longest_delay(layers)))
    steps = forward_step(layers, states, outputs()[-1], past)
    after, _ = push(layers, steps, np.broadcast_to(np.eye(n_carried), (many, n_carried, n_carried)))
    pattern = (after != 0).any(axis=0)
    return pattern[:, -n_carried:], pattern[:, :-n_carried]
