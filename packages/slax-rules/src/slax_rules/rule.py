"""The definition of a learning rule: a value that the loop over windows asks for the gradient of each window."""

import abc
import dataclasses
import functools
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.building_blocks import StepSize as StepSize
from slax_neurons.building_blocks import even_length, first_carry, step_size
from slax_rules.penalties import Probed


def batch_axis(one: Any, two: Any) -> int | None:
    """The first axis in which the shapes of an array for two sizes of the batch differ; None if samples share it."""
    return next((axis for axis, (n, m) in enumerate(zip(one.shape, two.shape, strict=True)) if n != m), None)


class Heads(NamedTuple):
    """The quantities of a window that losses read, or the gradient of the losses w.r.t. them.

    Args:
        outputs: the outputs of the model, [K, B, ...] or a tree of such arrays.
        probes: the outputs of each of the objective's probes, [K, B, ...].
        read_outs: the read-outs of hidden layers with a loss of their own, each in the structure of `outputs`.
    """

    outputs: Any
    probes: tuple[Array, ...] = ()
    read_outs: tuple[Any, ...] = ()


@runtime_checkable
class Objective(Protocol):
    """The losses of a window as a function of the heads that a rule reads from the model.

    `probes` has the numbers of the hidden layers whose outputs penalties read, in the order of `Heads.probes`.
    """

    @property
    def probes(self) -> tuple[int, ...]: ...

    def __call__(self, heads: Heads) -> tuple[Any, Heads]:
        """Return the loss for `WindowGradient`, and the gradient of all losses w.r.t. the heads."""

    def targets(self, outputs: Any) -> Float[Array, "K B C"]:
        """Return the targets of each step in the shape of the outputs, divided by the number of losses in the mean."""


class Value:
    """The base of frozen dataclasses that pass through `jax.jit`, `nnx.split` and optimizers as trees.

    Numbers, strings, functions, and tuples of them are options: static parts of the tree. All other fields, such as an array, a
    module or another value, are its children. A subclass that is a module is already a tree.

    A value is its fields: transformations rebuild it from them without `__init__`, whose checks would refuse the tracers and
    placeholders that stand in for arrays. What `__post_init__` sets beside the fields is lost; make it a property.
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if not issubclass(cls, nnx.Pytree):
            jax.tree_util.register_pytree_with_keys(cls, _flatten, functools.partial(_unflatten, cls))


def _flatten(value: Any) -> tuple[list[tuple[Any, Any]], Any]:
    is_dataclass = dataclasses.is_dataclass(value)
    if not is_dataclass and vars(value):
        raise TypeError(f"{type(value).__name__} is not a dataclass, expected a frozen dataclass or an nnx.Module.")
    fields = {field.name: getattr(value, field.name) for field in (dataclasses.fields(value) if is_dataclass else ())}
    options = tuple((name, content) for name, content in fields.items() if _is_option(content))
    names = tuple(name for name in fields if name not in dict(options))
    return [(jax.tree_util.GetAttrKey(name), fields[name]) for name in names], (names, options)


def _unflatten(cls: Any, static: tuple[tuple[str, ...], tuple[tuple[str, Any], ...]], children: Any) -> Any:
    names, options = static
    value = cls.__new__(cls)
    vars(value).update(options, **dict(zip(names, children, strict=True)))
    return value


def _is_option(content: Any) -> bool:
    if isinstance(content, tuple):
        return all(map(_is_option, content))
    is_tree = isinstance(content, Value | nnx.Pytree | nnx.Variable)
    return content is None or isinstance(content, numbers.Number | str) or (callable(content) and not is_tree)


class WindowGradient(NamedTuple):
    """The loss, the gradient and the next state that a rule returns for a window.

    Args:
        loss: the loss as the objective returns it.
        model: the gradient, in the structure of `nnx.state(model, nnx.Param)`.
        rule: the gradient w.r.t. the rule's own parameters, in the structure of `nnx.state(rule, nnx.Param)`.
        state: the state that the rule carries into the next window.

    Example:
        A rule that halves the gradient of BPTT:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import BPTT, WindowGradient, cross_entropy, gradients
        >>> class HalfOfBPTT(BPTT):
        ...     def window(self, plan, model, state, inputs, objective) -> WindowGradient:
        ...         found = super().window(plan, model, state, inputs, objective)
        ...         return found._replace(model=jax.tree.map(lambda leaf: leaf / 2, found.model))
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> batch = jnp.ones((10, 3, 4)), jnp.array([0, 1, 0])
        >>> _, full = gradients(model, cross_entropy, *batch)
        >>> _, half = gradients(model, cross_entropy, *batch, rule=HalfOfBPTT())
        >>> bool(jnp.allclose(2 * half["modules"][0]["bias"][...], full["modules"][0]["bias"][...]))
        True
    """

    loss: Any
    model: nnx.State
    rule: nnx.State
    state: Any


class LearningRule(Value, abc.ABC):
    """A way to differentiate a sequence, window by window: the argument `rule` of `gradients`.

    Implementations are frozen dataclasses of their options, or modules if they hold arrays. Everything that changes from
    window to window is in `state`, which `initialize` creates: the model's carry, and the traces of the rule.

    A rule reads the *heads* of a window from the model: its outputs, the hidden outputs that the objective asks for, and the
    read-outs of layers with losses of their own. If no window is given, summed gradients take windows of about `default_window`
    steps.

    Example:
        >>> import dataclasses
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import BPTT, cross_entropy, gradients
        >>> @dataclasses.dataclass(frozen=True)
        ... class SignOfBPTT(BPTT):
        ...     def window(self, plan, model, state, inputs, objective):
        ...         found = super().window(plan, model, state, inputs, objective)
        ...         return found._replace(model=jax.tree.map(jnp.sign, found.model))
        >>> model = connect([nnx.Linear(4, 2, rngs=nnx.Rngs(0)), LI()])
        >>> inputs, labels = jnp.ones((10, 3, 4)), jnp.array([0, 1, 0])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=SignOfBPTT())
        >>> gradient["modules"][0]["bias"][...].tolist()
        [1.0, -1.0]
    """

    @property
    def title(self) -> str:
        """The name of the rule in errors and checkpoints."""
        return type(self).__name__

    def default_window(self, size: StepSize) -> int | None:
        """A number of steps that is fast and needs little memory, for a model with this size; None for the entire sequence."""
        return None

    def offline_window(self, window: int | None, model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct | Array) -> int:
        """Return the steps of a window for summed gradients: the number requested, or one near `default_window`.

        Args:
            inputs: the inputs of the sequence [T, B, features...]; their shape is enough.
        """
        steps: int = inputs.shape[0]
        if window is not None:
            return window
        graphdef, state = nnx.split(model)
        carry = jax.eval_shape(
            lambda state: first_carry(nnx.merge(graphdef, state, copy=True), inputs.shape[1:]), state
        )
        length = self.default_window(step_size(model, carry, inputs))
        return steps if length is None else even_length(steps, length)

    def plan(self, model: nnx.RNNCellBase, input_shape: tuple[int, ...]) -> Any:
        """Check a model, and return the rule's plan for it. It is called once for each program.

        Raises:
            TypeError, ValueError: a model that the rule cannot handle.
        """
        return None

    @abc.abstractmethod
    def initialize(self, plan: Any, model: nnx.RNNCellBase, carry: Any, inputs: jax.ShapeDtypeStruct) -> Any:
        """Make the state before the first window from the model's carry and the shape [B, features...] of one step's inputs."""

    @abc.abstractmethod
    def traces(self, state: Any) -> Any:
        """Return the part of a state other than the model's carry."""

    @abc.abstractmethod
    def forward(
        self,
        plan: Any,
        model: nnx.RNNCellBase,
        state: Any,
        inputs: Float[Array, "K B ..."],
        probes: tuple[int, ...] = (),
    ) -> tuple[Heads, Any]:
        """Return the heads of a window, and the state with the model's carry after it; the traces stay unchanged."""

    @abc.abstractmethod
    def window(
        self, plan: Any, model: nnx.RNNCellBase, state: Any, inputs: Float[Array, "K B ..."], objective: Objective
    ) -> WindowGradient:
        """Compute the gradient of a window. A module that changes its own variables does so in place, in `model`."""


def is_state(leaf: Any) -> bool:
    """True for floating-point numbers in a carry, which have derivatives; a random key or a count has none."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def check_cell(name: str, model: Any) -> None:
    """Raise TypeError for anything other than a cell; `name` is the name of the rule."""
    if not isinstance(model, nnx.RNNCellBase):
        raise TypeError(
            f"{name} got {type(model).__name__}, expected a cell: a stack made by connect, a neuron, a Flax recurrent cell."
        )


def run_probed(
    unroll: Callable[..., tuple[Any, Any]], model: Any, carry: Any, inputs: Array, probes: tuple[int, ...]
) -> tuple[Any, Heads]:
    """Run a model with `unroll`, and return the carry and the heads, with the outputs of the layers that `probes` numbers."""
    if not probes:
        carry, outputs = unroll(model, carry, inputs)
        return carry, Heads(outputs)
    carry, (outputs, hidden) = unroll(Probed(model, probes), carry, inputs)
    return carry, Heads(outputs, hidden)
