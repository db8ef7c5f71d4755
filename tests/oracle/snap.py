"""SnAp: real-time recurrent learning that keeps the derivatives within n steps' reach."""

import numpy as np

from oracle.exact import RTRL, parameter_numbers
from oracle.networks import carried_numbers, zero_states


class SnAp(RTRL):
    """Sparse n-step approximation of RTRL: the derivative of a number that goes to the next step by a parameter is kept if
    the parameter can reach it within n steps, whatever the weights.

    These numbers are all states of all neurons, and the outputs of as many steps as an edge reads back. The map of one
    step, which leads from them and from the parameters to the same numbers one step later, goes up through all layers.
    With M its pattern by the numbers and P that by the parameters, P + M P + ... + M^(n - 1) P is kept.
    """

    def __init__(self, n=1):
        self.n = n

    def cut(self, layers, states, past):
        by_number, by_parameter = step_pattern(layers)
        reached = by_parameter
        for _ in range(self.n - 1):
            reached = by_parameter | (by_number @ reached)
        numbers, _ = carried_numbers(layers)
        states = [dh * reached[number] for dh, number in zip(states, numbers[0], strict=True)]
        past = tuple(
            [ds * reached[number] for ds, number in zip(outputs, ages, strict=True)]
            for outputs, ages in zip(past, numbers[1:], strict=False)
        )
        return states, past


def step_pattern(layers):
    """What one step's new numbers [H] may depend on: the old ones, [H, H], and the parameters, [H, P]."""
    numbers, n_carried = carried_numbers(layers)
    parameters, n_parameters = parameter_numbers(layers)
    result = np.zeros((n_carried, n_carried + n_parameters), bool)
    itself = np.eye(n_carried, n_carried + n_parameters, dtype=bool)
    now = []
    for index, layer in enumerate(layers):
        units = np.arange(layer.size)
        pattern = _neuron_pattern(layer)
        current = np.zeros((layer.size, n_carried + n_parameters), bool)
        for prefix, edge in layer.connections(index).items():
            entries = edge.entries()
            if edge.delay:
                current |= (entries >= 0).T @ itself[numbers[edge.delay][edge.sender]]
            elif edge.sender >= 0:
                current |= (entries >= 0).T @ now[edge.sender]
            i, j = np.nonzero(entries >= 0)
            current[j, n_carried + parameters[index][f"{prefix}kernel"].ravel()[entries[i, j]]] = True
            if edge.bias is not None:
                place = parameters[index][f"{prefix}bias"].ravel()[layer.entries(f"{prefix}bias")]
                current[units, n_carried + place] = True
        own = itself[numbers[0][index]]  # [N, S, H + P]
        states = (pattern.D @ own) | (pattern.d[..., None] & current[:, None])
        output = (pattern.o[:, None] @ own)[:, 0] | (pattern.psi[:, None] & current)
        for name in layer.neuron_parameters:
            place = n_carried + parameters[index][name].ravel()[layer.entries(name)]
            states[units, :, place] |= pattern.dh[name]
            output[units, place] |= pattern.ds[name]
        result[numbers[0][index]] = states
        now.append(output)
    for age, group in enumerate(numbers[1:]):
        for index, number in enumerate(group):
            result[number] = now[index] if age == 0 else itself[numbers[age][index]]
    return result[:, :n_carried], result[:, n_carried:]


def _neuron_pattern(layer):
    """Where the blocks of a layer's neuron are not 0 at some of many random points."""
    rng = np.random.default_rng(0)
    (states,) = zero_states([layer], 50)
    step = layer.unit_neuron().step(rng.normal(size=states.shape), rng.normal(size=states.shape[:2]))

    def somewhere(block):
        return (
            {name: somewhere(b) for name, b in block.items()} if isinstance(block, dict) else (block != 0).any(axis=0)
        )

    return step._replace(**{name: somewhere(getattr(step, name)) for name in ("D", "d", "o", "psi", "dh", "ds")})
