"""Three-factor rules: what a rule has found so far counts as much as the reward that comes says."""

import numpy as np

from oracle.networks import flat, forward, forward_step
from oracle.penalties import own_losses
from oracle.running import Result, add, following, start, zero_gradients


def rewarded(rule, layers, inputs, signal, rewards, *, gamma=1.0, penalties=(), carry=None) -> Result:
    """A rule under rewards r [T, B]. Per sample, with its gradient g_t of step t:

        Z_t = gamma Z_(t-1) + g_t,  gradient = sum over t of r_t Z_t

    as a mean over T and B, as the loss is: with rewards of 1 and gamma 0 this is the gradient of the rule. The loss handed
    out is the one without rewards. With a carry, Z starts from 0.
    """
    inputs, rewards = flat(inputs), np.asarray(rewards, np.float64)
    n_steps, batch = inputs.shape[:2]
    carry = start(rule, layers, batch) if carry is None else carry
    history = forward(layers, inputs, carry.states, carry.past)
    total, penalty, all_losses = zero_gradients(layers), 0.0, []
    Z = [zero_gradients(layers) for _ in range(batch)]
    for t in range(n_steps):
        steps = forward_step(layers, carry.states, inputs[t], carry.past)
        losses, signals = rule.signals(layers, carry.traces, steps, lambda y, t=t: signal(t, y))
        value, own = own_losses(steps, [one.at(history, t) for one in penalties])
        for b in range(batch):
            alone = (np.arange(batch) == b)[:, None]
            own_alone = [None if part is None else part * alone for part in own]
            traces, gradients = rule.step(layers, carry.traces, steps, [part * alone for part in signals], own_alone)
            Z[b] = [{name: gamma * value for name, value in layer.items()} for layer in Z[b]]
            add(Z[b], gradients, 1.0)
            add(total, Z[b], rewards[t, b] / n_steps)
        carry = following(layers, carry, steps, inputs[t], traces)
        all_losses.append(losses)
        penalty += value / n_steps
    outputs = np.stack([steps[-1].output for steps in history])
    return Result(float(np.mean(all_losses)), total, outputs, carry, penalty)
