"""The interface between the loop over windows and learning rules."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

# Maps the heads of a window to the loss of the first head and the gradient of the sum of all losses w.r.t. each head.
SignalFn = Callable[[list[Any]], tuple[Float[Array, ""], list[Any]]]


class WindowGradient(NamedTuple):
    """The result of a rule on a window.

    Args:
        loss: the loss from `signal_fn`, a scalar.
        model: the gradient, in the structure of `nnx.state(model, nnx.Param)`.
        rule: the gradient w.r.t. the rule's own parameters, in the structure of `nnx.state(rule, nnx.Param)`.
        state: the state that the rule carries into the next window.
    """

    loss: Float[Array, ""]
    model: nnx.State
    rule: nnx.State
    state: Any


class LearningRule(abc.ABC):
    """A way to differentiate a sequence, window by window: the argument `rule` of `gradients`.

    Implementations are frozen dataclasses of their options, or modules if they hold arrays. Everything that changes from
    window to window is in `state`, which `initialize` creates: the model's carry, and the traces of the rule.

    A rule reads the model's *heads*, a list whose first entry is the model's output; a rule with losses of its own for some
    layers adds their read-outs. `default_window` is a number of steps that is fast and small, None for the whole sequence.
    """

    default_window: ClassVar[int | None] = None

    @property
    def title(self) -> str:
        """The name of the rule in errors and checkpoints."""
        return type(self).__name__

    def offline_window(self, window: int | None, steps: int) -> int:
        """Return the steps of a window for summed gradients; by default the number requested, or `default_window`."""
        return window or self.default_window or steps

    def plan(self, model: nnx.RNNCellBase, input_shape: tuple[int, ...]) -> Any:
        """Check a model, and return the rule's plan for it, without arrays. It is called once for each program.

        Raises:
            TypeError, ValueError: a model that the rule cannot treat.
        """
        return None

    @abc.abstractmethod
    def initialize(self, plan: Any, model: nnx.RNNCellBase, carry: Any, inputs: jax.ShapeDtypeStruct) -> Any:
        """Make the state before the first window from the model's carry and the shape [B, features...] of one step's inputs."""

    @abc.abstractmethod
    def traces(self, state: Any) -> Any:
        """Return the part of a state besides the model's carry."""

    @abc.abstractmethod
    def forward(
        self, plan: Any, model: nnx.RNNCellBase, state: Any, inputs: Float[Array, "K B ..."]
    ) -> tuple[list, Any]:
        """Return the heads of a window, and the state with the model's carry after it; the traces stay unchanged."""

    @abc.abstractmethod
    def window(
        self, plan: Any, model: nnx.RNNCellBase, state: Any, inputs: Float[Array, "K B ..."], signal_fn: SignalFn
    ) -> WindowGradient:
        """Compute the gradient of a window. A module that changes its own variables does so in place, in `model`."""


def no_parameters() -> nnx.State:
    """The empty gradient of a rule without parameters."""
    return nnx.State({})


def check_cell(name: str, model: Any) -> None:
    """Raise TypeError for anything other than a cell; `name` is the name of the rule."""
    if not isinstance(model, nnx.RNNCellBase):
        raise TypeError(
            f"{name} got {type(model).__name__}, expected a cell: a stack made by connect, a neuron, a Flax recurrent cell."
        )
