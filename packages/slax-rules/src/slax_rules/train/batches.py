"""Batches from lists, loaders, functions and samplers, as tuples of arrays that JAX accepts."""

import dataclasses
import inspect
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slax_neurons.building_blocks import check_sequence
from slax_rules.arrays import as_array, as_arrays, described, is_array
from slax_rules.masks import check_steps_and_samples, with_finite_padding
from slax_rules.step import jitted

# Inputs [T, B, ...], targets, and a mask [T, B] if there is one.
Batch = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Sampler:
    """Batches drawn by key: batch i of epoch e is `sample(fold_in(fold_in(key, e), i))`.

    `fit` draws them inside its jitted steps, many steps in one call. What the function reads besides its key, such as NumPy's
    random numbers or a file, is read once, when it is compiled. A call of `fit` with an optimizer that has taken steps goes on
    with later epochs, so that several calls draw other batches; offline they are one call with more epochs.

    Args:
        sample: maps a key to (inputs, targets) or (inputs, targets, mask), under `jit`, as in
            `functools.partial(task.sample, batch_size=32)`.
        key: key of all draws.
        steps: number of batches per epoch, >= 1.

    Raises:
        TypeError: anything but a function and a random key.
        ValueError: steps below 1.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_rules import Sampler
        >>> def sample(key):
        ...     return jax.random.bernoulli(key, 0.3, (20, 32, 8)), jnp.arange(32) % 4
        >>> batches = Sampler(sample, jax.random.key(0), steps=100)
        >>> batches.batch(epoch=0, index=99)[0].shape
        (20, 32, 8)
    """

    sample: Callable[[Array], tuple[Any, ...]]
    key: Key[Array, ""]
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Sampler got {self.steps} steps per epoch, expected at least 1.")
        if not callable(self.sample):
            raise TypeError("Sampler expects a function of a key, such as partial(task.sample, batch_size=32).")
        if isinstance(self.key, numbers.Integral):
            raise TypeError(f"Sampler got key={self.key}, expected a random key. Make one: jax.random.key({self.key}).")

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, one by one."""
        return (self.batch(epoch, index) for index in range(self.steps))

    def batch(self, epoch: int, index: int) -> Batch:
        """Draw one batch."""
        return jitted(draw, self.sample)(self.key, np.int32(epoch), np.int32(index))


def draw(sample: Callable[[Array], tuple[Any, ...]], key: Array, epoch: Any, index: Any) -> Batch:
    """Draw one batch of a sampler with this function and key."""
    return tuple(sample(jax.random.fold_in(jax.random.fold_in(key, epoch), index)))


Epochs = Callable[[int], Iterable[Any]]  # maps an epoch to its batches
Batches = Sampler | Epochs | Iterable[Any]  # sources of the batches of each epoch: see `fit`

KINDS = (
    "a list of batches (inputs, targets), a loader that can be iterated over again, a function that maps an epoch to an "
    "iterable of batches, or a Sampler"
)


def epoch_batches(batches: Any, name: str = "batches", *, times: int = 1) -> Epochs:
    """Make a function that maps an epoch to its batches; `name` is the argument, which is read so many times.

    Raises:
        TypeError: a value that cannot give batches.
        ValueError: an iterator, which can be read once, for several times; one batch in place of a list of batches.
    """
    if isinstance(batches, type):
        raise TypeError(f"Got a class as {name}, expected {KINDS}. Make one: {batches.__name__}(...).")
    if is_array(batches) or (isinstance(batches, tuple | list) and batches and is_array(batches[0])):
        raise ValueError(f"Got one batch as {name}, expected many batches. Put it into a list: [(inputs, targets)].")
    if isinstance(batches, Iterator) and times > 1:
        raise ValueError(f"Got {type(batches).__name__} as {name}, which can be read only once, expected {KINDS}.")
    if inspect.isfunction(batches) and not inspect.signature(batches).parameters:
        raise TypeError(f"Got a function without arguments as {name}, expected {KINDS}. Call it.")
    if callable(batches):
        return lambda epoch: _called(batches, epoch)
    if isinstance(batches, Iterable):
        return lambda epoch: batches
    raise TypeError(f"Got {described(batches)} as {name}, expected {KINDS}. A data set of samples needs a loader.")


def as_batch(batch: Any) -> Batch:
    """Convert a batch to a tuple of inputs, targets, and the mask if there is one, of NumPy or JAX arrays.

    Raises:
        TypeError: a batch without two or three entries, or entries that are not arrays.
    """
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        got = f"{len(batch)} entries" if isinstance(batch, tuple | list) else described(batch)
        hint = ": (batch['inputs'], batch['targets'])" if isinstance(batch, Mapping) else ""
        raise TypeError(f"Got a batch of {got}, expected (inputs, targets) or (inputs, targets, mask){hint}.")
    inputs, targets, *mask = batch
    return (
        as_array(inputs, "inputs"),
        as_arrays(targets, "targets"),
        *(as_array(valid, "a mask") for valid in mask if valid is not None),
    )


def checked(batch: Batch) -> tuple[Array, Any, Array | None]:
    """Return the inputs, the targets, and the mask or None, once their shapes are checked, in a compiled step.

    Raises:
        ValueError: a mask of a wrong shape; inputs whose first axis is the batch, so that targets fit only if the first two
            axes are swapped.
    """
    inputs, targets, *masks = batch
    check_sequence(inputs)
    for mask in masks:
        check_steps_and_samples(mask, inputs.shape[:2])
    leaves = [leaf for leaf in jax.tree.leaves(targets) if jnp.ndim(leaf)]
    first, second = inputs.shape[:2]
    fits = any(leaf.shape[0] == second or leaf.shape[:2] == (first, second) for leaf in leaves)
    if inputs.ndim > 2 and leaves and not fits and all(leaf.shape[0] == first for leaf in leaves):
        raise ValueError(f"Got inputs {list(inputs.shape)}, batch first, expected time first: inputs.swapaxes(0, 1).")
    inputs = jnp.asarray(inputs)
    return (with_finite_padding(inputs, masks[0]), targets, masks[0]) if masks else (inputs, targets, None)


def _called(batches: Epochs, epoch: int) -> Iterable[Any]:
    found = batches(epoch)
    if found is None:
        raise TypeError("A function of batches returned None, expected an iterable. Return a list, or yield them.")
    return found
