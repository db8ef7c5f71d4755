"""What a learning rule is: a value that the loop over windows asks for the gradient of each window.

    Rule        any rule: `init` makes its traces, `window` the gradient of a window
    LayerRule   a rule for the layers of a stack: the engine runs the stack, the rule has the traces and the gradient of a layer
    Route       how learning signals reach a layer; an option of every `LayerRule`

What a layer is, and what a rule gets and returns for one (`Layer`, `LayerWindow`, `LayerGradient`), is defined in the engine.
"""

import abc
import dataclasses
import functools
import math
import numbers
import types
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx
from flax.typing import HashableMapping
from jaxtyping import Array, Float

from slax_neurons.building_blocks import StepSize as StepSize
from slax_neurons.building_blocks import even_length, first_carry, step_size, steps_in_cache
from slax_rules.engine import layerwise
from slax_rules.engine.layer import FeedbackSignals as FeedbackSignals
from slax_rules.engine.layer import Layer as Layer
from slax_rules.engine.layer import LayerGradient as LayerGradient
from slax_rules.engine.layer import LayerWindow as LayerWindow
from slax_rules.windows import Outputs, RuleState
from slax_rules.windows import WindowGradient as WindowGradient

# ------------------------------------------------------------------------------------------------------------ values as trees


class PytreeDataclass:
    """The base of frozen dataclasses that pass through `jax.jit`, `nnx.split` and optimizers as trees.

    Numbers, strings, functions, and tuples of them are options: static parts of the tree. All other fields, such as an array, a
    module or another value, are its children. A subclass that is a module is already a tree.

    JAX rebuilds a value without calling `__init__`, so what `__post_init__` sets beside the fields is lost; make it a property.
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if not issubclass(cls, nnx.Pytree):
            jax.tree_util.register_pytree_with_keys(cls, _flatten, functools.partial(_unflatten, cls))


def kind(option: Any) -> Any:
    """A key that separates options that Python calls equal: 1, 1.0 and True; 0.0 and -0.0; also in tuples and dataclasses."""
    exact: Any = type(option)
    if exact in (str, int, bool, types.NoneType):  # most options
        return exact
    if exact is float:
        return exact, math.copysign(1, option)
    if isinstance(option, tuple):
        return (exact, *map(kind, option))
    if isinstance(option, frozenset):
        return exact, frozenset(map(kind, option))
    if exact is nnx.GraphDef:
        of_nodes = [getattr(node, "metadata", None) for node in option.nodes]
        of_variables = [value for found in of_nodes if isinstance(found, HashableMapping) for value in found.values()]
        values = [held.value for _, held in option.attributes if hasattr(held, "value")]
        return tuple(map(kind, [*values, *of_variables]))
    if hasattr(exact, "__dataclass_fields__"):
        fields = [(is_compared, getattr(option, name)) for name, is_compared in _fields(exact)]
        return (exact, *[kind(value) if is_compared else (kind(value), value) for is_compared, value in fields])
    return (exact, str(option)) if isinstance(option, float | complex | np.inexact) else exact


@functools.cache
def _fields(cls: Any) -> tuple[tuple[str, bool], ...]:
    """The names of a dataclass's fields, and whether they count when its values are compared."""
    return tuple((field.name, field.compare) for field in dataclasses.fields(cls))


def _flatten(value: Any) -> tuple[list[tuple[Any, Any]], Any]:
    if not dataclasses.is_dataclass(value):
        if vars(value):
            raise TypeError(f"{type(value).__name__} is not a dataclass, expected a frozen dataclass or an nnx.Module.")
        return [], ((), ())
    children, options = [], []
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        if _is_option(content):
            options.append((field.name, content, kind(content)))
        else:
            children.append((jax.tree_util.GetAttrKey(field.name), content))
    return children, (tuple(key.name for key, _ in children), tuple(options))


def _unflatten(cls: Any, static: tuple[tuple[str, ...], tuple[tuple[str, Any, Any], ...]], children: Any) -> Any:
    names, options = static
    value = cls.__new__(cls)
    vars(value).update(zip(names, children, strict=True))
    for name, content, _ in options:
        vars(value)[name] = content
    return value


def _is_option(content: Any) -> bool:
    if isinstance(content, tuple):
        return all(map(_is_option, content))
    is_tree = isinstance(content, PytreeDataclass | nnx.Pytree | nnx.Variable)
    return content is None or isinstance(content, numbers.Number | str) or (callable(content) and not is_tree)


# ------------------------------------------------------------------------------------------------------------------- any rule


def batch_axis(one: Any, two: Any) -> int | None:
    """The first axis in which the shapes of an array for two sizes of the batch differ; None if samples share it."""
    return next((axis for axis, (n, m) in enumerate(zip(one.shape, two.shape, strict=True)) if n != m), None)


class Rule(PytreeDataclass, abc.ABC):
    """A way to differentiate a sequence, window by window: the argument `rule` of `gradients`.

    Implementations are frozen dataclasses of their options, or modules if they hold arrays. Everything that changes from window
    to window is in a `RuleState`. If no window is given, summed gradients take windows of about `default_window` steps.

    Example:
        >>> import dataclasses
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import BPTT, cross_entropy, gradients
        >>> @dataclasses.dataclass(frozen=True)
        ... class SignOfBPTT(BPTT):
        ...     def window(self, model, state, inputs, loss):
        ...         found = super().window(model, state, inputs, loss)
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

    @property
    def has_local_losses(self) -> bool:
        """Whether hidden layers have losses of their own, for which the rule calls the loss function itself."""
        return False

    def default_window(self, size: StepSize) -> int:
        """A number of steps that is fast and needs little memory, for a model with this size.

        The gradient of a rule without traces ends at the windows. One that differentiates entire sequences overrides
        `offline_window`, as BPTT does.

        Example:
            A rule of your own whose windows have 100 steps, but fewer where layers are wide:

            >>> import dataclasses
            >>> from slax_rules import OTTT
            >>> from slax_rules.rules.base import StepSize
            >>> @dataclasses.dataclass(frozen=True)
            ... class InShortWindows(OTTT):
            ...     def default_window(self, size):
            ...         return min(100, 10**6 // size.bytes)
            >>> InShortWindows().default_window(StepSize(bytes=4 * 8 * 512, width=512))
            61
        """
        return steps_in_cache(size)

    def offline_window(self, window: int | None, model: nnx.RNNCellBase, inputs: Any) -> int:
        """The steps of a window for summed gradients: the number requested, or one near `default_window`.

        Args:
            inputs: the inputs of the sequence [T, B, features...]; their shape is enough.
        """
        if window is not None:
            return window
        graphdef, state = nnx.split(model)
        carry = jax.eval_shape(lambda state: first_carry(nnx.merge(graphdef, state), inputs.shape[1:]), state)
        return even_length(inputs.shape[0], self.default_window(step_size(model, carry, inputs)))

    def check(self, model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct) -> None:
        """Raise TypeError or ValueError for a model that the rule cannot handle, with inputs [B, features...] of a step.

        It is called once for each program, when the program is traced.
        """

    def init(self, model: nnx.RNNCellBase, carry: Any, inputs: jax.ShapeDtypeStruct) -> Any:
        """The traces before the first window, for the model's carry and inputs [B, features...] of a step; none by default."""
        return ()

    @abc.abstractmethod
    def window(
        self,
        model: nnx.RNNCellBase,
        state: RuleState,
        inputs: Float[Array, "K B ..."],
        loss: Callable[[Outputs], Float[Array, ""]],
    ) -> WindowGradient:
        """The gradient of a window.

        Args:
            model: the model, with its parameters in this window; a module that changes its own variables does so in place.
            state: the state before the window.
            inputs: the inputs of K steps.
            loss: the loss as a function of the outputs; `loss.layers` are the numbers of the hidden layers that it reads.
        """


def check_is_rule(rule: Any) -> None:
    """Raise TypeError for anything other than a rule, such as its class or its name."""
    if isinstance(rule, Rule):
        return
    if isinstance(rule, list | tuple):
        got, cure = "a list of rules", "Give one rule for each layer: rule=PerLayer([OTPE(), SLTT()])"
    elif isinstance(rule, type):
        got, cure = f"the class {rule.__name__}", f"Make one: rule={rule.__name__}()"
    else:
        name = rule.lower().replace("-", "_") if isinstance(rule, str) else "otpe"
        got, cure = repr(rule), f"By name: rule=RULES[{name!r}].make()"
    raise TypeError(f"Got {got} as the rule, expected a rule such as BPTT() or OTPE(). {cure}.")


def check_cell(name: str, model: Any) -> None:
    """Raise TypeError for anything other than a cell; `name` is the name of the rule."""
    if not isinstance(model, nnx.RNNCellBase):
        raise TypeError(f"{name} got {type(model).__name__}, expected a cell, such as a stack, a neuron, a Flax cell.")


# --------------------------------------------------------------------------------------------------------------------- routes


class Route(PytreeDataclass):
    """How learning signals reach a layer (spatial credit assignment): the base class of all routes.

    Its methods implement backpropagation within a time step, `Symmetric`. A subclass is a frozen dataclass, or a module if it
    holds arrays, and overrides the methods that it changes.

    Example:
        >>> import dataclasses
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Route, cross_entropy, gradients
        >>> @dataclasses.dataclass(frozen=True)
        ... class SignSymmetric(Route):
        ...     def kernels(self, layer):
        ...         return [jnp.sign(synapse.kernel[...]) for synapse in layer.synapses]
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OSTL(route=SignSymmetric()))
    """

    skips_layers: ClassVar[bool] = False  # whether hidden layers get `signal`, and none from the layer above
    has_local_losses: ClassVar[bool] = False  # whether `signal` reads `FeedbackSignals.loss`

    def check(self, layer: Layer) -> None:
        """Raise TypeError for a layer that the route cannot handle."""

    def kernels(self, layer: Layer) -> Sequence[Array | None]:
        """The matrices that replace the kernels of a layer's synapses on the way down; None for the kernel itself."""
        return [None] * len(layer.synapses)

    def add_gradients(self, layer: Layer, gradients: Sequence[Any]) -> None:
        """Add gradients to the route's own parameters, in a copy that holds gradients.

        `gradients` has the synapses of the layer as modules that hold their gradients; a synapse that occurs in several
        places holds the total gradient.
        """

    def signal(
        self, layer: Layer, outputs: Float[Array, "K B *N"], feedback: FeedbackSignals
    ) -> Float[Array, "K B *N"]:
        """The signal of a hidden layer with these outputs, for a route that skips layers."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Symmetric(Route):
    """Symmetric feedback: signals pass down through the weights themselves, as the cotangent of the current times W^T.

    Example:
        >>> from slax_rules import OSTL, Symmetric
        >>> OSTL() == OSTL(route=Symmetric())
        True
    """


# ---------------------------------------------------------------------------------------------------------- rules for layers


class Layerwise(Rule):
    """A rule for the layers of a stack, each by itself: the engine."""

    @abc.abstractmethod
    def for_layers(self, layers: Sequence[Layer]) -> tuple["LayerRule", ...]:
        """The rule of each layer."""

    check = layerwise.check
    init = layerwise.init
    window = layerwise.window


@dataclasses.dataclass(frozen=True)
class LayerRule(Layerwise):
    """A learning rule for the layers of a stack: how a layer's past enters its gradient (temporal credit assignment).

    The engine runs the stack forward layer by layer, differentiates the loss, and goes back layer by layer; a subclass defines
    the traces of a layer and its gradient. Each neuron forms a layer, together with the Linear or Conv right before it and the
    edges into it; average pooling, or another linear map that is the same for each feature, may stand between them. Modules
    without parameters pass signals on within their step. Modules with parameters after the last neuron have no state over time,
    so their gradient is exact.

    Args:
        route: the signal that reaches a layer, and the signal that it passes below (spatial credit assignment).

    Example:
        >>> import dataclasses
        >>> import jax.numpy as jnp
        >>> import jax
        >>> from flax import nnx
        >>> from slax_neurons import LIF, connect
        >>> from slax_rules import SLTT, LayerGradient, LayerRule, cross_entropy, gradients, linearize
        >>> @dataclasses.dataclass(frozen=True)
        ... class OnlyThisStep(LayerRule):
        ...     def init_layer(self, layer, inputs, states):
        ...         return ()
        ...     def layer_gradient(self, layer, window, traces, signal):
        ...         psi = jax.vmap(lambda *step: linearize(layer.neuron, *step).psi)(*window.steps)
        ...         kernel = jnp.einsum("kbi,kbn->in", window.inputs[0], psi * signal)
        ...         return LayerGradient(({"kernel": kernel},), (), psi * signal), traces
        >>> model = connect([nnx.Linear(4, 2, use_bias=False, rngs=nnx.Rngs(0)), LIF()])
        >>> inputs, labels = jnp.ones((10, 3, 4)), jnp.array([0, 1, 0])
        >>> def gradient(rule):
        ...     return gradients(model, cross_entropy, inputs, labels, rule=rule)[1]
        >>> jax.tree.all(jax.tree.map(jnp.allclose, gradient(OnlyThisStep()), gradient(SLTT())))
        True
    """

    route: Route = dataclasses.field(default=Symmetric(), kw_only=True)
    goes_back_in_pieces: ClassVar[bool] = False  # an `EligibilityRule`, whose windows may be cut
    takes_several_currents: ClassVar[bool] = False  # whether it takes units with several, `currents_per_unit`

    @property
    def has_local_losses(self) -> bool:
        return self.route.has_local_losses

    def check_layer(self, layer: Layer) -> None:
        """Raise TypeError for a layer that the rule cannot handle."""

    def check_unit_interval(self, option: str) -> None:
        """Raise ValueError if an option is a number outside [0, 1]; arrays, which may be traced, are not checked."""
        given = getattr(self, option)
        if isinstance(given, numbers.Real) and not 0 <= float(given) <= 1:
            raise ValueError(f"{type(self).__name__} got {option}={given}, expected a number in [0, 1].")

    def for_layer(self, layer: Layer) -> "LayerRule":
        """The rule that handles this layer; by default this one."""
        return self

    def for_layers(self, layers: Sequence[Layer]) -> tuple["LayerRule", ...]:
        return tuple(map(self.for_layer, layers))

    @abc.abstractmethod
    def init_layer(self, layer: Layer, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Any:
        """The traces before the first step, for zeros like the inputs [B, I] of each synapse and the neuron's states [B, N]."""

    @abc.abstractmethod
    def layer_gradient(
        self, layer: Layer, window: LayerWindow, traces: Any, signal: Float[Array, "K B *N"]
    ) -> tuple[LayerGradient, Any]:
        """The gradient of K steps, and the traces after them.

        Args:
            layer: the layer with its parameters in this window.
            window: the result of the forward pass.
            traces: the traces before the first step.
            signal: the learning signal: the gradient of the loss w.r.t. the layer's outputs, within each time step.
        """
