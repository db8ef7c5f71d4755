"""UORO: an unbiased rank-one estimate of what RTRL carries."""

import numpy as np

from oracle.exact import owed, parameter_numbers, push
from oracle.networks import carried_numbers
from oracle.running import Rule


class UORO(Rule):
    """Unbiased online recurrent optimization. Per sample, with the numbers h [H] that go to the next step, M = dh'/dh, and F
    what h' owes to the parameters directly:

        s' = rho0 M s + rho1 nu,  th' = th / rho0 + nu F / rho1,  rho0 = sqrt(|th| / |M s|),  rho1 = sqrt(|nu F| / |nu|)

    so that the mean of s' th' is M (s th) + F. The gradient is what the loss owes to h through s, times th, and what it owes
    to the parameters directly, as it is. `noise` is nu [T, B, H] of independent signs, in the order of `carried_numbers`.
    """

    def __init__(self, noise):
        self.noise = noise

    def initial(self, layers, batch):
        return 0, np.zeros((batch, carried_numbers(layers)[1])), np.zeros((batch, parameter_numbers(layers)[1]))

    def step(self, layers, traces, steps, signals, own):
        t, s, th = traces
        numbers = parameter_numbers(layers)[0]
        new, influences = push(layers, steps, s[..., None])
        through_s = owed(influences, signals, own)
        gradient = (through_s[:, :-1] + through_s[:, -1:] * th).sum(axis=0)

        Ms, nu = new[..., -1], self.noise[t]
        nuF = np.einsum("bh,bhp->bp", nu, new[..., :-1])
        rho0, rho1 = _ratio(th, Ms), _ratio(nuF, nu)
        traces = t + 1, rho0 * Ms + rho1 * nu, th / rho0 + nuF / rho1
        return traces, [{name: gradient[p] for name, p in number.items()} for number in numbers]


def _ratio(a, b):
    """sqrt(|a| / |b|) per sample, 1 where one of them is 0."""
    a, b = (np.linalg.norm(value, axis=1, keepdims=True) for value in (a, b))
    possible = (a > 0) & (b > 0)
    return np.sqrt(np.where(possible, a, 1) / np.where(possible, b, 1))
