"""Three-factor rules: what a rule has found so far counts as much as the reward that comes says."""

import numpy as np

from oracle.networks import flat, forward_step
from oracle.running import Result, add, following, start, zero_gradients


def rewarded(rule, layers, inputs, signal, rewards, *, gamma=1.0) -> Result:
    """A rule under rewards r [T, B]. Per sample, with its gradient g_t of step t:

        Z_t = gamma Z_(t-1) + g_t,  gradient = sum over t of r_t Z_t

    as a mean over T and B, as the loss is: with rewards of 1 and gamma 0 this is the gradient of the rule. The loss handed
    out is the one without rewards.
    """
    inputs, rewards = flat(inputs), np.asarray(rewards, np.float64)
    n_steps, batch = inputs.shape[:2]
    carry, total, all_losses = start(rule, layers, batch), zero_gradients(layers), []
    Z = [zero_gradients(layers) for _ in range(batch)]
    for t in range(n_steps):
        steps = forward_step(layers, carry.states, inputs[t], carry.past)
        losses, signals = rule.signals(layers, carry.traces, steps, lambda y, t=t: signal(t, y))
        for b in range(batch):
            alone = (np.arange(batch) == b)[:, None]
            mine = [part * alone for part in signals]
            traces, gradients = rule.step(layers, carry.traces, steps, mine, [None] * len(layers))
            Z[b] = [{name: gamma * value for name, value in layer.items()} for layer in Z[b]]
            add(Z[b], gradients, 1.0)
            add(total, Z[b], rewards[t, b] / n_steps)
        carry = following(layers, carry, steps, inputs[t], traces)
        all_losses.append(losses)
    return Result(float(np.mean(all_losses)), total)
