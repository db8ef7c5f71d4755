"""The loop over time of all rules that need no future, and what they hand out."""

from typing import Any, NamedTuple

import numpy as np

from oracle.networks import flat, forward_step, remember, zero_states

Gradients = list[dict[str, np.ndarray]]  # per layer and name, see `Layer.parameters`


class Carry(NamedTuple):
    """What a rule hands from one step to the next."""

    states: list[np.ndarray]
    traces: Any
    past: tuple = ()  # `Outputs` of the steps before, the latest first, as far back as an edge reads


class Result(NamedTuple):
    loss: float  # mean over T and B
    gradients: Gradients
    outputs: np.ndarray  # [T, B, C]
    carry: Carry


def zero_gradients(layers) -> Gradients:
    return [{name: np.zeros_like(value) for name, value in layer.parameters().items()} for layer in layers]


class Rule:
    """A rule, with lists per layer and all traces per sample:

        initial(layers, batch) -> traces
        step(layers, traces, steps, signals) -> traces, gradients

    The signals [B, N] are the derivatives of this step's loss, its mean over
    B, by the layers' outputs, as far as they come from the loss itself and not from other layers.
    """

    def signals(self, layers, steps, signal):
        """Losses [B], and the signal of each layer; `signal` maps outputs to losses and derivatives."""
        losses, derivatives = signal(steps[-1].output)
        return losses, [*(np.zeros_like(step.output) for step in steps[:-1]), derivatives / len(derivatives)]


def run(rule, layers, inputs, signal, *, carry=None) -> Result:
    """A rule step by step at fixed parameters; the gradient is the mean over the steps'."""
    inputs = flat(inputs)
    n_steps, batch = inputs.shape[:2]
    carry = start(rule, layers, batch) if carry is None else carry
    total = zero_gradients(layers)
    losses, outputs = [], []
    for t in range(n_steps):
        carry, output, loss, gradients = advance(rule, layers, carry, inputs[t], lambda y, t=t: signal(t, y))
        outputs.append(output)
        losses.append(loss)
        for layer_total, layer_gradients in zip(total, gradients, strict=True):
            for name in layer_total:
                layer_total[name] += layer_gradients[name] / n_steps
    return Result(float(np.mean(losses)), total, np.stack(outputs), carry)


def start(rule, layers, batch) -> Carry:
    return Carry(zero_states(layers, batch), rule.initial(layers, batch))


def advance(rule, layers, carry, x, signal) -> tuple[Carry, np.ndarray, float, Gradients]:
    """One step: carry, outputs, loss (mean over B) and its gradients. For online training, change `layers` between.

    signal: outputs [B, C] -> (losses [B], derivatives [B, C]), without t.
    """
    steps = forward_step(layers, carry.states, x, carry.past)
    losses, signals = rule.signals(layers, steps, signal)
    traces, gradients = rule.step(layers, carry.traces, steps, signals)
    past = remember(layers, [step.output for step in steps], carry.past)
    return (
        Carry([step.states for step in steps], traces, past),
        steps[-1].output,
        float(np.mean(losses)),
        gradients,
    )
