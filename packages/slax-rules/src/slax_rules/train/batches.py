"""Batches from lists, loaders and functions, as tuples of arrays that JAX accepts."""

import dataclasses
import inspect
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

# Inputs [T, B, ...], targets, and a mask [T, B] if there is one.
Batch = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Sampler:
    """Batches drawn by key: batch i of epoch e is `sample(fold_in(fold_in(key, e), i))`.

    `fit` draws them inside its jitted steps, many steps in one call.

    Args:
        sample: maps a key to (inputs, targets) or (inputs, targets, mask), under `jit`, as in
            `functools.partial(task.sample, batch_size=32)`.
        key: key of all draws.
        steps: number of batches per epoch, >= 1.

    Raises:
        ValueError: steps below 1.

    Warns:
        UserWarning: where it is used for several batches, a function that does not use its key: all are the same batch.

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
            raise TypeError(
                f"Sampler got {type(self.sample).__name__}, expected a function of a key that returns a batch. Of a task: "
                "functools.partial(task.sample, batch_size=32)."
            )
        if isinstance(self.key, numbers.Integral):
            raise TypeError(f"Sampler got key={self.key}, expected a random key. Make one: jax.random.key({self.key}).")

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, one by one."""
        return (self.batch(epoch, index) for index in range(self.steps))

    def batch(self, epoch: int, index: int) -> Batch:
        """Draw one batch."""
        return self.sample(jax.random.fold_in(self.epoch_key(epoch), index))

    def reads_key(self) -> bool:
        """Whether some array of a batch depends on the key; nothing is drawn."""
        program = jax.make_jaxpr(self.sample)(self.key).jaxpr
        if program.effects:  # it asks Python at each draw
            return True
        reached = {id(variable) for variable in program.invars}
        for equation in program.eqns:
            if any(id(operand) in reached for operand in equation.invars):
                reached.update(map(id, equation.outvars))
        return any(id(output) in reached for output in program.outvars)

    def epoch_key(self, epoch: int) -> Key[Array, ""]:
        """The key of an epoch."""
        return jax.random.fold_in(self.key, epoch)


Epochs = Callable[[int], Iterable[Any]]  # maps an epoch to its batches
Batches = Sampler | Epochs | Iterable[Any]  # sources of the batches of each epoch: see `fit`

KINDS = (
    "a list of batches (inputs, targets), a loader that can be iterated over again, a function that maps an epoch to an "
    "iterable of batches, or a Sampler"
)


def epoch_batches(batches: Any, *, epochs: int = 1) -> Epochs:
    """Make a function that maps an epoch to its batches.

    Raises:
        TypeError: a value that cannot give batches.
        ValueError: an iterator, which can be read once, for several epochs; one batch in place of a list of batches.
    """
    if isinstance(batches, type):
        raise TypeError(
            f"Got the class {batches.__name__} as batches, expected {KINDS}. Make one: {batches.__name__}(...)."
        )
    if isinstance(batches, Sampler):
        if batches.steps > 1 and not batches.reads_key():
            warnings.warn(
                "Got a Sampler whose function does not use its key, so that all its batches are the same one, expected draws "
                "by jax.random with the key. For batches of NumPy or from files, give a list, or a function of the epoch that "
                "yields them; for the whole set as one batch, a list with this batch, and more epochs.",
                UserWarning,
                stacklevel=3,
            )
        return batches
    _check_many(batches)
    if isinstance(batches, Iterator) and epochs > 1:
        raise ValueError(
            f"Got {type(batches).__name__} as batches of {epochs} epochs, but it can be read only once. Expected {KINDS}: "
            "batches=list(...), or batches=lambda epoch: ... that makes a new one for each epoch."
        )
    if callable(batches):
        return lambda epoch: _not_none(batches(epoch))
    if isinstance(batches, Iterable):
        return lambda epoch: batches
    raise TypeError(
        f"Got {_described(batches)} as batches, expected {KINDS}. A data set of single samples needs a loader that makes "
        "batches of it."
    )


def set_batches(batches: Any) -> Iterable[Any]:
    """Return the batches of a set: of epoch 0, or those that a function without arguments makes.

    Raises:
        TypeError, ValueError: see `epoch_batches`.
    """
    if callable(batches) and not isinstance(batches, Sampler | type) and not _takes_epoch(batches):
        batches = _not_none(batches())
    return epoch_batches(batches)(0)


def check_held_out(held_out: Any) -> None:
    """Check that the batches of a set can be read at each evaluation.

    Raises:
        TypeError: a value that cannot give batches.
        ValueError: an iterator, which can be read once.
    """
    if isinstance(held_out, Iterator):
        raise ValueError(
            f"Got {type(held_out).__name__} as held_out, but it can be read only once, and is read at each evaluation. "
            "Expected a list of batches, a loader, or a function that makes an iterator: held_out=list(...)."
        )
    epoch_batches(held_out)


def as_batch(batch: Any) -> Batch:
    """Convert a batch to a tuple of inputs, targets, and the mask if there is one, of NumPy or JAX arrays.

    Raises:
        TypeError: a batch without two or three entries, or entries that are not arrays.
    """
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        got = f"{len(batch)} entries" if isinstance(batch, tuple | list) else _described(batch)
        hint = ": (batch['inputs'], batch['targets'])" if isinstance(batch, Mapping) else ""
        raise TypeError(f"Got a batch of {got}, expected (inputs, targets) or (inputs, targets, mask){hint}.")
    inputs, targets, *mask = batch
    return (
        as_array(inputs, "inputs"),
        jax.tree.map(lambda leaf: as_array(leaf, "targets"), targets, is_leaf=_is_array),
        *(as_array(valid, "a mask") for valid in mask if valid is not None),
    )


def as_array(value: Any, name: str) -> Array | np.ndarray:
    """Return a NumPy or JAX array unchanged, and anything else, such as a PyTorch tensor on any device, as a NumPy array.

    Raises:
        TypeError: a value that is not an array of numbers.
    """
    if isinstance(value, jax.Array | np.ndarray):
        array = value
    else:
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        array = np.asarray(value)
    if isinstance(array, np.ndarray) and array.dtype.kind in "OSU":
        raise TypeError(f"Got {_described(value)} as {name}, expected an array of numbers.")
    return array


def check_time_first(inputs: Array, targets: Any) -> None:
    """Raise ValueError if the shapes show that the first axis is the batch: targets fit only if the first two are swapped."""
    leaves = [leaf for leaf in jax.tree.leaves(targets) if jnp.ndim(leaf)]
    if inputs.ndim < 3 or not leaves:
        return
    first, second = inputs.shape[:2]
    fits = [leaf.shape[0] == second or leaf.shape[:2] == (first, second) for leaf in leaves]
    if not any(fits) and all(leaf.shape[0] == first for leaf in leaves):
        raise ValueError(
            f"Got inputs of shape {list(inputs.shape)} with targets of shape {list(leaves[0].shape)}, which is batch first, "
            "[B, T, features...]. Expected time first, [T, B, features...]: inputs.swapaxes(0, 1)."
        )


def _check_many(batches: Any) -> None:
    """Raise ValueError for one batch, or one array, in place of many batches."""
    is_one = isinstance(batches, tuple | list) and len(batches) > 0 and _is_array(batches[0])
    if is_one or _is_array(batches):
        what = "one batch" if is_one else "one array"
        raise ValueError(
            f"Got {what} as batches, expected many batches. Put it into a list: batches=[(inputs, targets)]."
        )


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") or hasattr(value, "detach")


def _not_none(batches: Any) -> Any:
    if batches is None:
        raise TypeError(
            "A function of batches returned None, expected an iterable of batches (inputs, targets). Return a list, or yield "
            "the batches."
        )
    return batches


def _takes_epoch(function: Callable[..., Any]) -> bool:
    """True if a function cannot be called without an argument."""
    try:
        inspect.signature(function).bind()
    except ValueError:  # some functions written in C
        return False
    except TypeError:
        return True
    return False


def _described(value: Any) -> str:
    return (
        f"{type(value).__name__} {value!r}"
        if isinstance(value, int | float | str | bool | None)
        else type(value).__name__
    )
