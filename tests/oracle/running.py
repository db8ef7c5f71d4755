"""The loop over time of all rules that need no future, and what they hand out."""

from typing import Any, NamedTuple

import numpy as np

from oracle.networks import flat, forward, forward_step, outputs_of, remember, zero_states
from oracle.penalties import own_losses

Gradients = list[dict[str, np.ndarray]]  # per layer and name, see `Layer.parameters`


class Carry(NamedTuple):
    """What a rule hands from one step to the next."""

    states: list[np.ndarray]
    traces: Any
    past: tuple = ()  # `Outputs` of the steps before, the latest first, as far back as an edge reads


class Result(NamedTuple):
    loss: float  # of the outputs, mean over T and B
    gradients: Gradients  # of the loss and the penalties
    penalty: float = 0.0  # the sum of all penalties, mean over T and B


def zero_gradients(layers) -> Gradients:
    return [{name: np.zeros_like(value) for name, value in layer.parameters().items()} for layer in layers]


class Rule:
    """A rule, with lists per layer and all traces per sample:

        initial(layers, batch) -> traces
        step(layers, traces, steps, signals, own) -> traces, gradients

    The signals [B, N] are the derivatives of this step's loss, its mean over B, by the layers' outputs, as far as they come
    from the loss itself and not from other layers. `own` are those of the layers' penalties, see `own_losses`. Gradients are
    linear in both, and the traces after a step do not depend on them.
    """

    def signals(self, layers, traces, steps, signal):
        """Losses [B], and the signal of each layer; `signal` maps outputs to losses and derivatives."""
        return signals_of_outputs(steps, signal)


def signals_of_outputs(steps, signal):
    """Losses [B], and their derivatives by the outputs of each layer, 0 but for the last one."""
    losses, derivatives = signal(steps[-1].output)
    return losses, [*(np.zeros_like(step.output) for step in steps[:-1]), derivatives / len(derivatives)]


def run(rule, layers, inputs, signal, *, penalties=()) -> Result:
    """A rule step by step at fixed parameters; the gradient is the mean over the steps'."""
    inputs = flat(inputs)
    n_steps, batch = inputs.shape[:2]
    carry = start(rule, layers, batch)
    history = forward(layers, inputs) if penalties else []
    total = zero_gradients(layers)
    losses, penalty = [], 0.0
    for t in range(n_steps):
        here = [one.at(history, t) for one in penalties]
        carry, loss, gradients = advance(rule, layers, carry, inputs[t], lambda y, t=t: signal(t, y), here)
        losses.append(loss)
        penalty += own_losses(layers, here)[0] / n_steps
        add(total, gradients, 1 / n_steps)
    return Result(float(np.mean(losses)), total, penalty)


def start(rule, layers, batch) -> Carry:
    return Carry(zero_states(layers, batch), rule.initial(layers, batch))


def advance(rule, layers, carry, x, signal, penalties=()) -> tuple[Carry, float, Gradients]:
    """One step: carry, loss (mean over B) and its gradients. For online training, change `layers` between.

    signal: outputs [B, C] -> (losses [B], derivatives [B, C]), without t. penalties: what each is `at` the step.
    """
    steps = forward_step(layers, carry.states, x, carry.past)
    losses, signals = rule.signals(layers, carry.traces, steps, signal)
    _, own = own_losses(layers, penalties)
    traces, gradients = rule.step(layers, carry.traces, steps, signals, own)
    return following(layers, carry, steps, x, traces), float(np.mean(losses)), gradients


def following(layers, carry, steps, x, traces) -> Carry:
    """The carry after a step."""
    return Carry([step.states for step in steps], traces, remember(layers, outputs_of(steps, x), carry.past))


def add(total, gradients, factor):
    """Adds gradients times a factor to a total, in place."""
    for layer_total, layer_gradients in zip(total, gradients, strict=True):
        for name in layer_total:
            layer_total[name] += factor * layer_gradients[name]
