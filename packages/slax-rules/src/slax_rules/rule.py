"""What the loop over windows knows of a learning rule."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

# Maps the heads of a window to the loss of the first one and the gradient of the sum of their losses by each of them.
SignalFn = Callable[[list[Any]], tuple[Float[Array, ""], list[Any]]]


class WindowGradient(NamedTuple):
    """What a rule makes of a window.

    Args:
        loss: that `signal_fn` found, a scalar.
        model: the gradient, in the structure of `nnx.state(model, nnx.Param)`.
        rule: the gradient by the rule's own parameters, in the structure of `nnx.state(rule, nnx.Param)`.
        state: what the rule carries into the next window.
    """

    loss: Float[Array, ""]
    model: nnx.State
    rule: nnx.State
    state: Any


class LearningRule(abc.ABC):
    """A way to differentiate a sequence, window by window: the argument `rule` of `gradients`.

    Implementations are frozen dataclasses of their options, or modules if they hold arrays. All that changes from window to
    window is in `state`, which begins as `initialize` makes it: the model's carry, and the traces of the rule.

    A rule reads the model's *heads*, a list whose first entry is the model's output; a rule with losses of its own for some
    layers adds their read-outs. `default_window` is a number of steps that is fast and small, None for the whole sequence.
    """

    default_window: ClassVar[int | None] = None

    @property
    def title(self) -> str:
        """The name that errors and checkpoints use."""
        return type(self).__name__

    def offline_window(self, window: int | None, steps: int) -> int:
        """The steps of a window where gradients are added up; by default those asked for, or `default_window`."""
        return window or self.default_window or steps

    def plan(self, model: nnx.RNNCellBase, input_shape: tuple[int, ...]) -> Any:
        """Checks a model, and returns what the rule knows of it without its numbers. It is called once for each program.

        Raises:
            TypeError, ValueError: a model that the rule cannot treat.
        """
        return None

    @abc.abstractmethod
    def initialize(self, plan: Any, model: nnx.RNNCellBase, carry: Any, inputs: jax.ShapeDtypeStruct) -> Any:
        """The state before the first window, from the model's carry and the shape of the inputs [B, features...] of a step."""

    @abc.abstractmethod
    def traces(self, state: Any) -> Any:
        """What a state holds beside the model's carry."""

    @abc.abstractmethod
    def forward(
        self, plan: Any, model: nnx.RNNCellBase, state: Any, inputs: Float[Array, "K B ..."]
    ) -> tuple[list, Any]:
        """The heads of a window, and the state with the model's carry after it; traces stay as they are."""

    @abc.abstractmethod
    def window(
        self, plan: Any, model: nnx.RNNCellBase, state: Any, inputs: Float[Array, "K B ..."], signal_fn: SignalFn
    ) -> WindowGradient:
        """The gradient of a window. A module that changes its own variables does so in place, in `model`."""


def no_parameters() -> nnx.State:
    """The gradient of a rule without parameters."""
    return nnx.State({})


def check_cell(name: str, model: Any) -> None:
    """Raises TypeError for something else than a cell; `name` is that of the rule."""
    if not isinstance(model, nnx.RNNCellBase):
        raise TypeError(
            f"{name} got {type(model).__name__}, expected a cell: a stack made by connect, a neuron, a Flax recurrent cell."
        )
