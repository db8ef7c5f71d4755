"""The Randman task: classify points on smooth random manifolds, encoded in spike times or spike counts."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax, random
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from slax_data.checks import check_choice, check_size
from slax_data.sets.manifolds import Manifolds, manifold_values, random_manifolds
from slax_data.task import SPLITS, Batch, Task

CODES = ("time", "rate")


@partial(jax.jit, static_argnames=("n_steps", "batch_size", "code"))
def randman(
    key: PRNGKeyArray, manifolds: Manifolds, *, n_steps: int, batch_size: int, code: str = "time"
) -> tuple[Float[Array, "T B N"], Int32[Array, " B"]]:
    """Draw a batch of samples, each a random point on the manifold of its class.

    A standardized coordinate y of the point, in [0, 1], is the spike time of a unit, or its number of spikes in T steps:

        step of the spike: min(floor(y T), T - 1)    # code="time"
        number of spikes: min(floor(y T) + 1, T)     # code="rate", at random steps

    Args:
        key: random key for this batch; the task is determined by `manifolds`, not by the key.
        manifolds: from `random_manifolds`.
        n_steps: time steps T, at least 1.
        batch_size: samples B, at least 1.
        code: "time" or "rate".

    Returns:
        Spikes of shape [T, B, N], 0 or 1, and labels of shape [B], in 0..n_classes-1. Every class has
        floor(B / n_classes) samples or one more, in random order; which classes have one more is random.

    Raises:
        ValueError: a size below 1, or an unknown code.

    References:
        F. Zenke, T. P. Vogels, Neural Computation 33(4), 2021, doi:10.1162/neco_a_01367.

    Note:
        Every sample has its own intrinsic coordinates, uniform in [0, 1)^dim; slax shares them among the classes.
        In the rate code every unit of every sample has its own random steps, all choices of steps being equally
        likely; slax 0.0.1 does the same; its later versions share one permutation of time.
        Values outside the bounds of the manifold (0.05 %) count as the first or last step.

    Example:
        >>> import jax
        >>> from slax_data import randman, random_manifolds
        >>> manifolds = random_manifolds(jax.random.key(0), n_classes=3, n_units=5, dim=2)
        >>> spikes, labels = randman(jax.random.key(1), manifolds, n_steps=20, batch_size=6)
        >>> spikes.shape
        (20, 6, 5)
        >>> sorted(labels.tolist())
        [0, 0, 1, 1, 2, 2]
        >>> bool((spikes.sum(axis=0) == 1).all())
        True
    """
    check_size("n_steps", n_steps)
    check_size("batch_size", batch_size)
    check_choice("code", code, CODES)
    n_classes, _, dim, n_units = manifolds.amplitudes.shape
    class_key, point_key, order_key, step_key = random.split(key, 4)

    # The parameters of a class are fetched once for all its samples: the batch consists of rounds over the classes.
    classes = random.permutation(class_key, n_classes)[:batch_size].astype(jnp.int32)
    n_rounds = -(-batch_size // len(classes))
    coordinates = random.uniform(point_key, (n_rounds, len(classes), dim), manifolds.low.dtype)
    values = manifold_values(jax.tree.map(lambda parameter: parameter[classes], manifolds), coordinates)

    order = random.permutation(order_key, batch_size)
    values = values.reshape(-1, n_units)[order]
    labels = jnp.tile(classes, n_rounds)[order]
    level = jnp.clip(jnp.floor(values * n_steps), 0, n_steps - 1)
    if code == "rate":
        return _at_rate(step_key, level + 1, n_steps), labels
    time = jnp.arange(n_steps, dtype=level.dtype)[:, None, None]
    return (time == level[None]).astype(level.dtype), labels


def randman_task(
    key: PRNGKeyArray,
    *,
    n_steps: int = 100,
    code: str = "time",
    n_classes: int = 10,
    n_units: int = 100,
    dim: int = 2,
    alpha: float = 2.0,
) -> Task:
    """Randman as a `Task`: the key draws the manifolds, and each sample is new, so there is no fixed test set.

    Args:
        key: random key for the manifolds.
        n_steps, code: see `randman`.
        n_classes, n_units, dim, alpha: see `random_manifolds`.

    Raises:
        ValueError: the errors of those functions.

    Example:
        >>> import jax
        >>> from slax_data import randman_task
        >>> task = randman_task(jax.random.key(0), n_steps=20, n_classes=3, n_units=5)
        >>> spikes, labels = task.sample(jax.random.key(1), batch_size=32, split="test")
        >>> spikes.shape, labels.shape
        ((20, 32, 5), (32,))
    """
    check_size("n_steps", n_steps)
    check_choice("code", code, CODES)
    manifolds = random_manifolds(key, n_classes=n_classes, n_units=n_units, dim=dim, alpha=alpha)

    def draw(key: PRNGKeyArray, *, batch_size: int, split: str = "train") -> Batch:
        check_choice("split", split, SPLITS)
        key = random.fold_in(key, SPLITS.index(split))
        return randman(key, manifolds, n_steps=n_steps, batch_size=batch_size, code=code)

    return Task(n_units=n_units, n_classes=n_classes, n_steps=n_steps, sample=draw)


def _at_rate(key: PRNGKeyArray, counts: Float[Array, "B N"], n_steps: int) -> Float[Array, "T B N"]:
    # Selection sampling: a spike with probability (spikes still due) / (steps left) makes every choice of steps equally
    # likely, as the first `counts` entries of a random permutation are, without sorting (6 ms against 200 ms
    # for 256 x 100 units in 100 steps).
    def step(due: Float[Array, "B N"], now: tuple) -> tuple[Float[Array, "B N"], Float[Array, "B N"]]:
        key, steps_left = now
        spikes = (random.uniform(key, due.shape, due.dtype) * steps_left < due).astype(due.dtype)
        return due - spikes, spikes

    steps_left = jnp.arange(n_steps, 0, -1, dtype=counts.dtype)
    return lax.scan(step, counts, (random.split(key, n_steps), steps_left))[1]
