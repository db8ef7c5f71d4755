"""Synapses: modules that are affine in their input, with their own weights or weights that are functions of parameters.

Linear and Conv are synapses with weights of their own. Any other synapse is a module with a method

    effective() -> (kernel, bias)        synapse(x) = x * kernel + bias

so that learning rules, analyses and exports need to know only Linear and Conv: `effective_synapse` makes one of any synapse.

A module may also add to *running sums* over a sequence. A sum does not depend on how the sequence is cut into pieces, so a
model with sums runs in chunks and windows, step by step inside a cycle, and on several devices, over which the sums are added
up. It must not read them before the sequence ends.
"""

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
from flax import nnx
from jaxtyping import Array, Float


def _options(plain: type) -> tuple[str, ...]:
    """The options of a Linear or Conv that its instances keep, apart from its sizes."""
    others = {"self", "in_features", "out_features", "rngs"}
    others |= {"kernel_init", "bias_init", "kernel_metadata", "bias_metadata"}
    return tuple(name for name in inspect.signature(plain.__init__).parameters if name not in others)


SYNAPSE_OPTIONS: dict[Any, tuple[str, ...]] = {plain: _options(plain) for plain in (nnx.Linear, nnx.Conv)}
"""The options of a synapse, apart from its sizes."""


class Synapse(nnx.Module):
    """A synapse whose weights are functions of its parameters: the base class for your own.

    A subclass defines `effective`, which returns a kernel and a bias, or None for no bias, as functions of its parameters that
    JAX can differentiate. Learning rules compute the gradient w.r.t. these effective weights, and plain autodiff takes it from
    there to the parameters. A kernel is [in, out], unless the attribute `geometry` is an nnx.Conv, or a synapse made of one,
    whose kernel size, strides, padding, groups and dtypes then hold; an nnx.Linear there gives its options only.

    The base class is not required: any `nnx.Module` with `effective` is a synapse if its call does what the kernel and bias
    say, for instance with fewer operations.

    Example:
        Excitatory synapses: weights exp(w) are positive.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, Synapse, connect, unroll
        >>> class Excitatory(Synapse):
        ...     def __init__(self, n_in, n_out, rngs):
        ...         self.log_kernel = nnx.Param(jax.random.normal(rngs.params(), (n_in, n_out)) - 3)
        ...
        ...     def effective(self):
        ...         return jnp.exp(self.log_kernel[...]), None
        >>> model = connect([Excitatory(8, 4, nnx.Rngs(0)), LIF()])
        >>> carry, spikes = unroll(model, model.initialize_carry((2, 8)), jnp.ones((20, 2, 8)))
        >>> spikes.shape
        (20, 2, 4)
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        owner = next(base for base in cls.__mro__ if "__call__" in vars(base))
        if not owner.__module__.startswith("slax_neurons."):
            raise TypeError(f"{cls.__name__} defines __call__. Define effective() alone, or derive from nnx.Module.")

    geometry: Any = None
    options: ClassVar[tuple[str, ...]] = ()  # the constructor's options, which a fresh copy takes over

    def effective(self) -> tuple[Float[Array, "*K I O"], Float[Array, " O"] | None]:
        """The kernel and the bias, which may be None."""
        raise NotImplementedError(f"Define {type(self).__name__}.effective() -> (kernel, bias).")

    def __call__(self, inputs: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        return effective_synapse(self)(inputs)

    @property
    def in_features(self) -> int:
        """The number of input features."""
        geometry = geometry_of(self)
        return _kernel_shape(self)[-2] if geometry is None else geometry.in_features

    @property
    def out_features(self) -> int:
        """The number of output features."""
        geometry = geometry_of(self)
        return _kernel_shape(self)[-1] if geometry is None else geometry.out_features


class Reparameterized(Synapse):
    """A synapse that makes its weights from the effective weights of the one that it wraps: the base class of those here.

    Args:
        synapse: a Linear, a Conv, or any other synapse.

    Raises:
        TypeError: anything else, such as a Conv with a mask.
    """

    def __init__(self, synapse: Any):
        if not is_synapse(synapse):
            expected = "a Linear, a Conv without a mask (wrap it: Masked(Conv(...), mask)), or what has effective()"
            raise TypeError(f"{type(self).__name__} got {type(synapse).__name__}, expected {expected}.")
        self.synapse = synapse

    @property
    def geometry(self) -> Any:  # type: ignore[override]
        """The wrapped synapse, whose sizes and options hold."""
        return self.synapse


def is_plain(module: Any) -> bool:
    """True for a Linear or a Conv without a mask, whose kernel and bias are its weights; a subclass may compute otherwise."""
    return type(module) is nnx.Linear or (type(module) is nnx.Conv and module.mask is None)


def is_synapse(module: Any) -> bool:
    """True for a module that is affine in its input by weights that are known: plain, or with a method `effective`."""
    return is_plain(module) or callable(getattr(type(module), "effective", None))


def is_made(module: Any) -> bool:
    """True for a synapse that makes its weights from parameters."""
    return is_synapse(module) and not is_plain(module)


def effective_weights(synapse: Any) -> tuple[Array, Array | None]:
    """The kernel and the bias of any synapse; the bias is None if there is none."""
    if is_plain(synapse):
        return synapse.kernel[...], None if synapse.bias is None else synapse.bias[...]
    return synapse.effective()


def effective_synapse(synapse: Any) -> nnx.Linear | nnx.Conv:
    """The Linear or Conv whose own weights are the effective weights of a synapse; a plain one is returned itself.

    Raises:
        ValueError: weights whose shapes do not fit each other or the geometry.
    """
    if is_plain(synapse):
        return synapse
    kernel, bias = synapse.effective()
    geometry = geometry_of(synapse)
    _check_shapes(synapse, geometry, kernel, bias)
    own = starting_with(kernel, bias)
    if geometry is None:
        return nnx.Linear(*kernel.shape, **own)
    return fresh_copy(geometry, **own)


def starting_with(kernel: Array, bias: Array | None) -> dict[str, Any]:
    """The options of a Linear or Conv that starts with these weights; nothing is drawn with the key."""
    options = {"use_bias": bias is not None, "param_dtype": kernel.dtype, "rngs": nnx.Rngs(0)}
    return options | {"kernel_init": lambda *_: kernel, "bias_init": lambda *_: bias}


def with_effective_weights(model: Any, *, keep_calls: bool = False, keep: tuple[type, ...] = ()) -> Any:
    """Return a copy of a model in which each synapse is the Linear or Conv with its effective weights.

    The copy shares all other variables with the model, and a model without such synapses is returned itself. It computes the
    same outputs as in evaluation, such as for export; JAX differentiates through the copy to the parameters of the model.

    Args:
        model: any module, such as a stack made by `connect`.
        keep_calls: keep synapses with a call of their own: those that add to running sums, such as a `RunningNorm` in training,
            and those that are no `Synapse`, which may compute less than a product with the effective kernel.
        keep: types of synapses to keep.

    Raises:
        ValueError: effective weights of shapes that do not fit.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LIF, Masked, connect, with_effective_weights
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([Masked.random(nnx.Linear(8, 4, rngs=rngs), 0.25, rngs=rngs), LIF()])
        >>> sparse = with_effective_weights(model).modules[0]
        >>> type(sparse).__name__, int((sparse.kernel[...] != 0).sum())
        ('Linear', 8)
    """
    if not any(is_made(part) and type(part) not in keep for _, part in nnx.iter_modules(model)):
        return model
    replacements: dict[int, Any] = {}
    seen: set[int] = set()

    def replaced(part: Any) -> Any:
        """The module, or its replacement; a module that occurs in several places has one."""
        has_call = keep_calls and (accumulates(part) or not isinstance(part, Synapse))
        if is_made(part) and type(part) not in keep and not has_call:
            if id(part) not in replacements:
                replacements[id(part)] = effective_synapse(part)
            return replacements[id(part)]
        if id(part) not in seen:
            seen.add(id(part))
            for name, value in list(vars(part).items()):
                if isinstance(value, nnx.Module) and replaced(value) is not value:
                    setattr(part, name, replaced(value))
        return part

    return replaced(nnx.clone(model, variables=False))


def fresh_copy(synapse: Any, *, rngs: nnx.Rngs, **changes: Any) -> Any:
    """A freshly initialized synapse with the sizes and options of another, except for `changes` of its Linear or Conv."""
    if isinstance(synapse, Reparameterized):
        options = {name: getattr(synapse, name) for name in synapse.options}
        return type(synapse)(fresh_copy(synapse.geometry, rngs=rngs, **changes), **options)
    plain = nnx.Conv if isinstance(synapse, nnx.Conv) else nnx.Linear
    names = ("in_features", "out_features", *SYNAPSE_OPTIONS[plain])
    return plain(**{name: getattr(synapse, name) for name in names} | changes, rngs=rngs)


def can_be_copied(synapse: Any) -> bool:
    """True if a fresh copy can be made with other sizes."""
    if isinstance(synapse, Reparameterized):
        return bool(synapse.options) and can_be_copied(synapse.geometry)
    return type(synapse) in SYNAPSE_OPTIONS


def geometry_of(synapse: Any) -> nnx.Linear | nnx.Conv | None:
    """The Linear or Conv whose sizes and options a synapse has, or None for a dense kernel without options."""
    while synapse is not None and not isinstance(synapse, nnx.Linear | nnx.Conv):
        synapse = getattr(synapse, "geometry", None)
    return synapse


def kind(module: Any) -> str:
    """The name of a module's class, with those that it wraps: "Masked(Linear)"."""
    inner = f"({kind(module.geometry)})" if isinstance(module, Reparameterized) else ""
    return f"{type(module).__name__}{inner}"


def _kernel_shape(synapse: Any) -> Sequence[int]:
    graphdef, state = nnx.split(synapse)
    return jax.eval_shape(lambda state: nnx.merge(graphdef, state).effective()[0], state).shape


def _check_shapes(synapse: Any, geometry: Any, kernel: Any, bias: Any) -> None:
    expected: Any = "[in, out]"
    fits = kernel.ndim == 2
    if isinstance(geometry, nnx.Conv):
        groups = geometry.feature_group_count
        expected = [*geometry.kernel_size, geometry.in_features // groups, geometry.out_features]
        fits = list(kernel.shape) == expected
    if not fits:
        cure = "A convolution names the nnx.Conv that holds its geometry: self.geometry = nnx.Conv(...)."
        got = f"a kernel of shape {list(kernel.shape)} from {type(synapse).__name__}.effective()"
        raise ValueError(f"Got {got}, expected {expected}. {cure}")


class RunningSum(nnx.Variable):
    """A sum over the rows of a sequence, to which each call of its module adds.

    A module with such variables has a property `accumulates`, which says whether calls add to them, and a method
    `end_sequence`, which uses the sums and sets them to zero.

    Example:
        A module that measures the mean rate of its inputs over the last sequence, and changes nothing else.

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, RunningSum, connect, end_sequence, unroll
        >>> class Rate(nnx.Module):
        ...     accumulates = True
        ...
        ...     def __init__(self):
        ...         self.total, self.rows = RunningSum(jnp.zeros(())), RunningSum(jnp.zeros(()))
        ...         self.rate = nnx.Variable(jnp.zeros(()))
        ...
        ...     def __call__(self, inputs):
        ...         self.total[...] += inputs.mean(axis=-1).sum()
        ...         self.rows[...] += inputs.shape[0]
        ...         return inputs
        ...
        ...     def end_sequence(self):
        ...         self.rate[...] = self.total[...] / self.rows[...]
        ...         self.total[...] = self.rows[...] = jnp.zeros(())
        >>> rate = Rate()
        >>> model = connect([rate, LIF()])
        >>> carry, spikes = unroll(model, model.initialize_carry((2, 8)), jnp.full((20, 2, 8), 0.25), chunk=6)
        >>> end_sequence(model)
        >>> float(rate.rate[...])
        0.25
    """


def accumulates(module: nnx.Module) -> bool:
    """True if calls of a module, or of a module inside it, add to running sums."""
    return any(getattr(part, "accumulates", False) for _, part in nnx.iter_modules(module))


def end_sequence(model: Any) -> None:
    """End a sequence in all modules of a model: modules with running sums use them, and set them to zero.

    The functions of `slax_rules` do this themselves, after each batch: `gradients`, `train_offline`, `train_online` and `fit`.
    Call it after an `unroll` of your own in training.

    Args:
        model: any module.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LIF, RunningNorm, connect, end_sequence, unroll
        >>> norm = RunningNorm(nnx.Linear(8, 4, rngs=nnx.Rngs(0)))
        >>> model = connect([norm, LIF()])
        >>> carry, spikes = unroll(model, model.initialize_carry((2, 8)), jnp.ones((20, 2, 8)))
        >>> float(norm.rows[...])
        40.0
        >>> end_sequence(model)
        >>> float(norm.rows[...]), bool(jnp.any(norm.mean[...] != 0))
        (0.0, True)
    """
    parts: list[Any] = [part for _, part in nnx.iter_modules(model)]
    for part in parts:
        if getattr(part, "accumulates", False):
            part.end_sequence()
