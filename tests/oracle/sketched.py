"""Sketched RTRL: SnAp-1, a dense matrix cut to some rank for the rest, and a bound of the error."""

import numpy as np

from oracle.exact import owed, parameter_numbers, propagate, push
from oracle.networks import carried_numbers
from oracle.snap import SnAp, step_pattern


class SketchedRTRL(SnAp):
    """The trace is what SnAp-1 keeps, the rest of the influence as a matrix [B, H, P] of some rank, and the bound [B, H, H] of
    the error E of their sum, above E E^T."""

    def __init__(self, rank):
        super().__init__()
        self.rank = rank

    def initial(self, layers, batch):
        numbers, size = carried_numbers(layers)
        self.read = step_pattern(layers)[0].any(axis=0)  # what no edge reads goes nowhere
        states, _ = super().initial(layers, batch)
        past = [[np.zeros((batch, layer.size, parameter_numbers(layers)[1])) for layer in layers]] * (len(numbers) - 1)
        return (states, past), np.zeros((batch, size, parameter_numbers(layers)[1])), np.zeros((batch, size, size))

    def step(self, layers, traces, steps, signals, own):
        near, rest, bound = traces
        (numbers, n_carried), (of_parameters, size) = carried_numbers(layers), parameter_numbers(layers)

        def split(values):
            return [[values[:, number] for number in group] for group in numbers]

        def joined(groups):
            return np.concatenate([v.reshape(len(v), -1, size) for group in groups for v in group], axis=1)

        after, _ = push(layers, steps, np.broadcast_to(np.eye(n_carried), (len(rest), n_carried, n_carried)))
        after = after * self.read[:, None]
        D, F = after[..., size:], after[..., :size]
        J = joined([near[0], *near[1]]) + rest
        states, *past = split(J)
        gradient = owed(propagate(layers, steps, states, past, size), signals, own).sum(axis=0)
        kept = self.reached * (D @ (J - rest) + F)
        u, s, v = np.linalg.svd(D @ J + F - kept, full_matrices=False)
        first = np.arange(s.shape[1]) < self.rank
        rest, cut = ((u * np.where(which, s, 0)[:, None]) @ v for which in (first, ~first))
        one, other = D @ bound @ D.swapaxes(1, 2), cut @ cut.swapaxes(1, 2)
        p, o = (np.sqrt(np.trace(of, axis1=1, axis2=2))[:, None, None] for of in (one, other))
        with np.errstate(invalid="ignore", divide="ignore"):
            bound = np.where(p > 0, (1 + o / p) * one, 0) + np.where(o > 0, (1 + p / o) * other, 0)
        states, *past = split(kept)
        return ((states, past), rest, bound), [{name: gradient[p] for name, p in of.items()} for of in of_parameters]
