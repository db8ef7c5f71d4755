"""Randman with the draws of slax 0.0.1, for continuing earlier work; use `randman` for anything new.

The manifold of a class k is as in `manifolds`, with a harmonic 0 of amplitude 0, from seed k of the manifold key. Unlike in
`randman`, all classes share the intrinsic coordinates of their samples; a unit's coordinate is standardized over the samples of
a draw, y = (y_e - min) / (max - min + 1e-7), so that a sample depends on the samples drawn with it; and a draw makes
`samples_per_class` samples of each class, the first of which form the batch.

    time code    one spike at step        floor(y T), none if that is T
    rate code    number of spikes         min(floor(y T) + 1, T), at random steps
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax, random
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from slax_data.checks import check_choice, check_size
from slax_data.sets.manifolds import check_alpha, n_harmonics

CODES = ("time", "rate")
MAX_SEED = 2**31 - 1


@partial(
    jax.jit,
    static_argnames=(
        *("n_classes", "n_units", "n_steps", "dim", "samples_per_class"),
        *("alpha", "shuffle", "code", "batch_size"),
    ),
)
def upstream_randman(
    manifold_key: PRNGKeyArray,
    sample_key: PRNGKeyArray,
    *,
    n_classes: int = 10,
    n_units: int = 100,
    n_steps: int = 100,
    dim: int = 2,
    samples_per_class: int = 1000,
    alpha: float = 2.0,
    shuffle: bool = True,
    code: str = "time",
    batch_size: int | None = None,
) -> tuple[Float32[Array, "T B N"], Int32[Array, " B"]]:
    """Draw the samples of slax 0.0.1's `randman(manifold_seed, random_seed, ...)`, with integer labels.

    Args:
        manifold_key, sample_key: `manifold_seed` and `random_seed` there.
        n_classes, n_units, n_steps: `nb_classes`, `nb_units` and `nb_steps` there.
        dim: `dim_manifold` there.
        samples_per_class: `nb_samples` there.
        alpha: as there, and as in `random_manifolds`.
        shuffle: as there: random order, or class by class.
        code: "time", or "rate" for `time_encode=False`.
        batch_size: `batch_sz` there: the number of samples returned from the start of the draw, all by default.

    Returns:
        Spikes of shape [T, B, N], 0 or 1, and labels of shape [B]; in slax they are one-hot, at each step.

    Raises:
        ValueError: a size below 1, a batch larger than the draw, an unknown code, or alpha not above 0.

    Note:
        Keys, coordinates, parameters, order and steps of the rate code are the same bit for bit. Coordinates y agree to float32
        rounding, which depends on how a program is compiled, so a spike whose y T is that close to an integer may be off by
        one step.

        JAX has two ways to generate random bits, and the default changed in 0.5. To reproduce the draws of slax on the JAX of
        its time, before 0.5, call this `with jax.threefry_partitionable(False)`; otherwise slax 0.0.1 on the installed JAX
        makes the same draws.

        Several spikes per unit were an error in slax, so there is no `nb_spikes`.

    Example:
        >>> import jax
        >>> from slax_data import upstream_randman
        >>> keys = jax.random.key(0), jax.random.key(1)
        >>> sizes = {"n_classes": 2, "n_units": 5, "n_steps": 20, "samples_per_class": 3}
        >>> spikes, labels = upstream_randman(*keys, **sizes, shuffle=False)
        >>> spikes.shape, labels.tolist()
        ((20, 6, 5), [0, 0, 0, 1, 1, 1])
    """
    sizes = {"n_classes": n_classes, "n_units": n_units, "n_steps": n_steps, "dim": dim}
    for name, size in (sizes | {"samples_per_class": samples_per_class}).items():
        check_size(name, size)
    check_choice("code", code, CODES)
    check_alpha(alpha)
    drawn = n_classes * samples_per_class
    if batch_size is not None:
        check_size("batch_size", batch_size)
        if batch_size > drawn:
            raise ValueError(f"batch_size got {batch_size}, expected at most the {drawn} samples of a draw.")
    point_key, order_key, step_key = random.split(sample_key, 3)
    seeds = random.randint(manifold_key, (n_classes, 1), 0, MAX_SEED, jnp.int32)[:, 0]
    points = random.uniform(point_key, (samples_per_class, dim), jnp.float32)

    def steps_of(seed: Int32[Array, ""]) -> Int32[Array, "P N"]:
        values = _manifold(seed, points, n_units, alpha)
        low, high = values.min(axis=0, keepdims=True), values.max(axis=0, keepdims=True)
        return jnp.floor((values - low) / (high - low + 1e-7) * n_steps).astype(jnp.int32)

    steps = lax.map(steps_of, seeds).reshape(-1, n_units)
    labels = jnp.repeat(jnp.arange(n_classes, dtype=jnp.int32), samples_per_class)
    order = jnp.arange(len(labels), dtype=jnp.int32)
    if shuffle:
        order = random.permutation(order_key, order)
    steps, labels = steps[order], labels[order]
    time = jnp.arange(n_steps, dtype=jnp.int32)[:, None, None]
    if code == "time":
        spikes = time == steps[None]
    else:  # each unit of each sample has its own permutation of time, which depends on how many there are
        spikes = random.permutation(step_key, time <= steps[None], axis=0, independent=True)
    return spikes[:, :batch_size].astype(jnp.float32), labels[:batch_size]


def _manifold(seed: Array, points: Float32[Array, "P M"], n_units: int, alpha: float) -> Float32[Array, "P N"]:
    i = jnp.arange(n_harmonics(alpha), dtype=jnp.float32)
    spectrum = 1 / ((i + 1) ** alpha + 1)
    drawn = random.uniform(random.key(seed), (n_units, points.shape[1], 3, len(i)), jnp.float32)
    u, v, phases = drawn.transpose(2, 1, 0, 3)  # [M, N, F] each
    amplitudes = (u * spectrum[None, None]).at[..., 0].set(0)

    def series(
        x: Float32[Array, " P"], a: Float32[Array, "N F"], v: Float32[Array, "N F"], p: Float32[Array, "N F"]
    ) -> Float32[Array, "P N"]:
        turns = (i[None] * x[:, None])[:, None] * v[None] + p[None]
        return (a[None] * jnp.sin(2 * jnp.pi * turns)).sum(axis=-1)

    return jax.vmap(series)(points.T, amplitudes, v, phases).prod(axis=0)
