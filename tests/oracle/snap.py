"""SnAp: real-time recurrent learning that keeps the derivatives within n steps' reach."""

import numpy as np

from oracle.exact import RTRL, push
from oracle.networks import carried_numbers, forward_step, longest_delay


class SnAp(RTRL):
    """Sparse n-step approximation of RTRL: the derivative of a number that goes to the next step by a parameter is kept if
    the parameter can reach it within n steps, whatever the weights.

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
        return super().initial(layers, batch)

    def cut(self, layers, states, past):
        numbers, _ = carried_numbers(layers)
        states = [dh * self.reached[number] for dh, number in zip(states, numbers[0], strict=True)]
        past = tuple(
            [ds * self.reached[number] for ds, number in zip(outputs, ages, strict=True)]
            for outputs, ages in zip(past, numbers[1:], strict=False)
        )
        return states, past


def step_pattern(layers):
    """What one step's new numbers [H] depend on, at some random points: the old ones, [H, H], and the parameters, [H, P]."""
    rng, many = np.random.default_rng(0), 20
    n_carried, n_inputs = carried_numbers(layers)[1], len(layers[0].connections(0)[""].entries())

    def outputs():
        return [rng.normal(size=(many, n)) for n in (*(layer.size for layer in layers), n_inputs)]

    states = [rng.normal(size=(many, layer.size, layer.neuron.n_states)) for layer in layers]
    past = tuple(outputs() for _ in range(longest_delay(layers)))
    steps = forward_step(layers, states, outputs()[-1], past)
    after, _ = push(layers, steps, np.broadcast_to(np.eye(n_carried), (many, n_carried, n_carried)))
    pattern = (after != 0).any(axis=0)
    return pattern[:, -n_carried:], pattern[:, :-n_carried]
