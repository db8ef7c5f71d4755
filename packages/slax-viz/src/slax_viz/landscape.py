"""The loss on planes and lines through parameter space, as arrays.

With spikes, which threshold the membrane, the loss is a staircase with fine steps: average it over enough data, and do not
differentiate a surface.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from tqdm import tqdm

from slax_viz.arrays import check_alike, finite, leaves_by_path
from slax_viz.planes import Plane, finite_leaves

Loss = Callable[[PyTree], Array]


def grid_around(
    coordinates: Mapping[str, np.ndarray], *, n_points: int = 51, margin: float = 0.1
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Evenly spaced xs and ys of a grid that contains all trajectories.

    Args:
        coordinates: for each rule its coordinates [n, 2] from `Plane.coordinates`.
        n_points: number of points along each axis, at least 2.
        margin: margin on each side, as a fraction of the extent of the trajectories.

    Example:
        >>> import numpy as np
        >>> from slax_viz import grid_around
        >>> xs, ys = grid_around({"BPTT": np.array([[0.0, 0.0], [1.0, 2.0]])}, n_points=3, margin=0.5)
        >>> xs.tolist(), ys.tolist()
        ([-0.5, 0.5, 1.5], [-1.0, 1.0, 3.0])
    """
    points = np.concatenate([np.asarray(of_one, np.float64).reshape(-1, 2) for of_one in coordinates.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    xs, ys = np.linspace(low - margin * (high - low), high + margin * (high - low), n_points).T
    return xs, ys


def surface(
    loss: Loss, plane: Plane, *, xs: np.ndarray | Sequence, ys: np.ndarray | Sequence, batch: int = 16
) -> Float[np.ndarray, "Y X"]:
    """The loss at origin + x d1 + y d2 for each x and y, with a progress bar in a terminal after ten seconds.

    Args:
        loss: maps a tree of parameters, with the origin's structure and dtypes, to one number. It is jitted. It closes over
            the data and a model without its parameters: see docs/tutorials/landscapes.md.
        plane: plane on which to evaluate the loss.
        xs: [X], in units of the first direction.
        ys: [Y], in units of the second.
        batch: number of losses in one call of the program. On a CPU they are computed one after the other, which is faster
            and takes the memory of one; elsewhere together. It affects only rounding.

    Returns:
        [Y, X], float32 or the loss's dtype if it is wider. NaN and infinite losses are kept; the bar counts them.

    Raises:
        ValueError: grids that are empty, not one-dimensional or not finite, a loss that is not one number.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_viz import Plane, surface
        >>> directions = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 1.0])}
        >>> plane = Plane({"w": jnp.zeros(2)}, directions)
        >>> surface(lambda params: jnp.sum(params["w"] ** 2), plane, xs=[0, 1, 2], ys=[0, 1]).tolist()
        [[0.0, 1.0, 4.0], [1.0, 2.0, 5.0]]
    """
    x, y = finite("xs", xs, ["X"]), finite("ys", ys, ["Y"])
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    return losses_at(loss, plane, grid.reshape(-1, 2), batch=batch).reshape(len(y), len(x))


def losses_at(loss: Loss, plane: Plane, points: np.ndarray, *, batch: int = 16) -> Float[np.ndarray, " n"]:
    """The loss at single points [n, 2] of a plane, for example along a trajectory; see `surface`.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from slax_viz import Plane, losses_at
        >>> directions = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 1.0])}
        >>> plane = Plane({"w": jnp.zeros(2)}, directions)
        >>> losses_at(lambda params: jnp.sum(params["w"] ** 2), plane, np.array([[0, 0], [1, 2]])).tolist()
        [0.0, 5.0]
    """
    at = finite("points", points, ["n", 2])
    coefficients = np.concatenate([np.ones((len(at), 1)), at], axis=1)
    return _losses(loss, (plane.origin, *plane.directions), coefficients, batch)


def interpolation(
    loss: Loss, a: PyTree, b: PyTree, ts: np.ndarray | Sequence, *, batch: int = 16
) -> Float[np.ndarray, " n"]:
    """The loss at (1 - t) a + t b, the straight line between two solutions, for each t.

    Two solutions of one network can be far apart and yet equivalent, with the neurons of a hidden layer in another order. A
    barrier is meaningful if both started from the same parameters.

    Args:
        loss: see `surface`. It receives trees with the structure of `a`.
        a: parameters at t = 0.
        b: parameters at t = 1, with the same paths, shapes and dtypes.
        ts: [n]; outside [0, 1] the line extends beyond the solutions.
        batch: see `surface`.

    Returns:
        Losses [n], in the dtype that `surface` gives.

    References:
        Goodfellow, Vinyals, Saxe, Qualitatively characterizing neural network optimization problems, ICLR 2015,
        arXiv:1412.6544.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from slax_viz import interpolation
        >>> def loss(params):
        ...     return jnp.sum((params["w"] ** 2 - 1) ** 2)
        >>> a, b = {"w": jnp.array([-1.0])}, {"w": jnp.array([1.0])}
        >>> interpolation(loss, a, b, np.linspace(0, 1, 3)).tolist()
        [0.0, 1.0, 0.0]
    """
    advice = "Interpolate between two states of the same model."
    check_alike(finite_leaves(a, "a"), finite_leaves(b, "b"), names=("a", "b"), advice=advice, dtypes=True)
    t = finite("ts", ts, ["n"])
    return _losses(loss, (a, b), np.stack([1 - t, t], axis=1), batch)


def barrier(losses: np.ndarray | Array, ts: np.ndarray | Sequence) -> float:
    """The maximum excess of the loss between two solutions over the linear interpolation of their losses.

        barrier = max_t L(t) - ((1 - t) L(0) + t L(1)),    0 <= t <= 1

    It is 0 if there is no hill between the solutions. It is infinite if a loss between them is, and NaN if a loss between
    them is NaN or a loss at an end is not finite. The maximum of many noisy losses is biased upward: a barrier no higher than
    the steps of the staircase is not significant.

    Args:
        losses: [n], from `interpolation`.
        ts: [n], 0 and 1 among them.

    References:
        Frankle, Dziugaite, Roy, Carbin, Linear mode connectivity and the lottery ticket hypothesis, ICML 2020,
        arXiv:1912.05671. They subtract the mean of the two end losses instead.

    Example:
        >>> import numpy as np
        >>> from slax_viz import barrier
        >>> barrier(np.array([1.0, 2.5, 0.0]), np.linspace(0, 1, 3))
        2.0
    """
    t, values = finite("ts", ts, ["n"]), np.asarray(losses, np.float64)
    if values.shape != t.shape or not {0.0, 1.0} <= set(t.tolist()):
        raise ValueError(f"Got losses {values.shape} for ts {t}, expected one each, with t = 0 and t = 1 among them.")
    between = (t >= 0) & (t <= 1)
    start, end = values[t == 0][0], values[t == 1][0]
    if not np.isfinite([start, end]).all():
        return float("nan")
    return float(np.max((values - (1 - t) * start - t * end)[between]))


def _losses(loss: Loss, trees: tuple[PyTree, ...], coefficients: np.ndarray, batch: int) -> Float[np.ndarray, " n"]:
    """The loss at a linear combination of trees with the same paths, in the structure of the first, for each row of weights."""
    if batch < 1:
        raise ValueError(f"Got batch={batch}, expected at least 1.")
    leaves = [leaves_by_path(tree, "a tree") for tree in trees]
    structure = jax.tree.structure(trees[0])
    aligned = tuple(jax.tree.unflatten(structure, [of_one[path] for path in leaves[0]]) for of_one in leaves)

    def at(row: Float[Array, " k"], trees: tuple[PyTree, ...]) -> Any:
        return loss(jax.tree.map(lambda *leaves: _sum(row, leaves), *trees))

    made = jax.eval_shape(at, jnp.asarray(coefficients[0]), aligned)
    if not (getattr(made, "shape", None) == () and jnp.issubdtype(made.dtype, jnp.floating)):
        raise ValueError(f"Got a loss of {made}, expected one floating-point number, such as its mean.")

    # One after the other on a CPU, whose cache holds the arrays of one loss, but seldom of several.
    each = jax.lax.map if jax.default_backend() == "cpu" else lambda at, rows: jax.vmap(at)(rows)
    program = jax.jit(lambda rows, trees: each(lambda row: at(row, trees), rows))
    size, n = min(batch, len(coefficients)), len(coefficients)
    values = np.zeros(n, np.promote_types(made.dtype, jnp.float32))
    with tqdm(total=n, desc="landscape", unit="losses", delay=10, disable=None) as bar:
        for start in range(0, n, size):
            rows = coefficients[start : start + size]
            # Always `size` rows, so that one program serves all.
            filled = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
            values[start : start + size] = np.asarray(program(jnp.asarray(filled), aligned))[: len(rows)]
            if broken := int(np.sum(~np.isfinite(values))):
                bar.set_postfix_str(f"{broken} not finite", refresh=False)
            bar.update(len(rows))
    return values


def _sum(row: Float[Array, " k"], leaves: tuple[Array, ...]) -> Array:
    """The linear combination of leaves, computed in at least float32 and returned in the dtype of the first leaf."""
    wide = np.promote_types(leaves[0].dtype, jnp.float32)
    total = jnp.zeros(leaves[0].shape, wide)
    for i, leaf in enumerate(leaves):
        total += row[i].astype(wide) * leaf.astype(wide)
    return total.astype(leaves[0].dtype)
