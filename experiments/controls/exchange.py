"""A control of rules for layers: in hidden layers, one factor of the gradient comes from another sample of the batch.

A rule multiplies the learning signal of a step with what it keeps of earlier steps, its traces. If one of the two is another
sample's, its statistics over a batch stay as they are, and it says nothing of the sample that it meets.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_rules import LayerRule
from slax_rules.rules.base import Layer, LayerGradient, LayerWindow, Layerwise


@dataclasses.dataclass(frozen=True)
class Exchanged(LayerRule):
    """A rule in whose hidden layers each sample of a batch has the traces, or the signals, of the next sample.

    Samples of a batch are drawn independently, so the next one is a random one, the same in all steps. Only the gradient of
    hidden layers changes: states, traces, what a layer passes below, and the last layer are as under the rule itself. If traces
    are exchanged, windows have one step: all that comes from earlier steps is then the next sample's, and the step itself not.

    Args:
        rule: the rule, with symmetric feedback.
        factor: what is exchanged.
    """

    rule: Layerwise
    factor: Literal["traces", "signals"]

    def for_layers(self, layers: Sequence[Layer]) -> tuple[LayerRule, ...]:
        own = zip(self.rule.for_layers(layers), layers, strict=True)
        return tuple(one if layer.above is None else Exchanged(one, self.factor) for one, layer in own)

    def offline_window(self, window: int | None, model: nnx.RNNCellBase, inputs: Any) -> int:
        return 1 if self.factor == "traces" else self.rule.offline_window(window, model, inputs)

    def check_layer(self, layer: Layer) -> None:
        self.rule.check_layer(layer)

    def init_layer(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Any:
        return self.rule.init_layer(layer, inputs, states)

    def layer_gradient(
        self, layer: Layer, window: LayerWindow, traces: Any, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, Any]:
        own, after = self.rule.layer_gradient(layer, window, traces, signal)
        if self.factor == "traces":
            traces = jax.tree.map(lambda trace: of_next_sample(trace, axis=0), traces)
        else:
            signal = of_next_sample(signal, axis=1)
        found, _ = self.rule.layer_gradient(layer, window, traces, signal)
        return found._replace(passed_below=own.passed_below), after


def of_next_sample(values: Array, axis: int) -> Array:
    """The values of the next sample in the place of each; the first one follows the last."""
    return jnp.roll(values, -1, axis=axis)
