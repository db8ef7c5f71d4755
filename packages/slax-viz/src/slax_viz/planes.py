"""Planes through the parameter space of a model.

    parameters(x, y) = origin + x d1 + y d2

where d1 and d2 are directions, trees like the origin: the principal directions of checkpoints (`pca_plane`), or random ones
scaled to the weights (`random_plane`). Leaves are matched by path, never by order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from slax_viz.arrays import check_alike, leaves_by_path

_ADVICE = "Take both from the same model, for example by `nnx.state(model, nnx.Param)`."


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane of parameters: origin + x d1 + y d2.

    Args:
        origin: tree of floating-point arrays, the point (0, 0).
        directions: d1 and d2, trees with the origin's paths and shapes, in at least float32; not collinear.
        explained: for principal directions, the shares of the checkpoints' variance along d1 and d2, each in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_viz import Plane
        >>> directions = {"w": jnp.array([1.0, 0.0, 0.0])}, {"w": jnp.array([0.0, 2.0, 0.0])}
        >>> plane = Plane({"w": jnp.zeros(3)}, directions)
        >>> plane.coordinates([{"w": jnp.array([3.0, 4.0, 5.0])}]).tolist()  # of the nearest point
        [[3.0, 2.0]]
    """

    origin: PyTree
    directions: tuple[PyTree, PyTree]
    explained: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        d1, d2 = self._directions()
        if not abs(d1 @ d2) < (1 - 1e-12) * np.sqrt((d1 @ d1) * (d2 @ d2)):
            raise ValueError("Got two directions that are zero or collinear, expected two that span a plane.")

    def coordinates(self, trajectory: Sequence[PyTree]) -> Float[np.ndarray, "n 2"]:
        """The coordinates of parameters on the plane, or of the nearest point of the plane if they lie off it.

        The loss there is not the loss of the checkpoint, unless the plane contains the checkpoint.

        Args:
            trajectory: n trees like the origin, for example one rule's checkpoints in order.
        """
        d1, d2 = self._directions()
        (start,) = _rows({"the origin": self.origin}, self.origin)
        steps = _rows({f"checkpoint {i}": tree for i, tree in enumerate(trajectory)}, self.origin) - start
        offsets = np.array([(d1 @ step, d2 @ step) for step in steps])
        gram = np.array([[d1 @ d1, d1 @ d2], [d1 @ d2, d2 @ d2]])
        return np.linalg.solve(gram, offsets.T).T

    def _directions(self) -> Float[np.ndarray, "2 P"]:
        return _rows(dict(zip(("d1", "d2"), self.directions, strict=True)), self.origin)


def pca_plane(
    trajectories: Mapping[str, Sequence[PyTree]], *, origin: PyTree | None = None, centered: bool = False
) -> Plane:
    """The plane that lies nearest to all checkpoints of all rules.

        M = [p1 - origin; p2 - origin; ...] = U S V^T,    explained_i = S_i^2 / (sum_j S_j^2)    # d1, d2: the first rows of V^T

    where p1, p2, ... are the checkpoints as vectors. The origin is by default their mean, which makes this principal
    component analysis. All checkpoints have equal weight, so a rule with more checkpoints counts more. Of d and -d, the one
    with sum_j d_j |d_j| > 0 is taken, so that the order of the rules affects only rounding.

    Args:
        trajectories: for each rule its checkpoints in order, trees of floating-point arrays, at least 3 in all.
        origin: another point for the plane to go through, for example the solution of one rule, so that the surface
            shows its true loss. `explained` then holds shares of the squared distances from this point.
        centered: compute directions and `explained` about the mean of the checkpoints even with an origin, as Slax 0.0.1 did
            with the last checkpoint of the first model as the origin. The plane is then not the nearest one through the origin.

    Returns:
        A plane with orthonormal directions, so that coordinates are distances between parameters. It is computed in
        float64 on the host, which needs memory for a few copies of M, [checkpoints, parameters].

    Raises:
        ValueError: no rules or checkpoints, fewer than 3 checkpoints, checkpoints on a line, other paths, shapes or
            dtypes, NaN or infinite parameters.

    Note:
        A large explained share means little. The path of a long random walk in many dimensions has 61 % and 15 % of its
        variance along the first two directions (Antognini and Sohl-Dickstein 2018), and a shorter trajectory has more.

    References:
        Li, Xu, Taylor, Studer, Goldstein, Visualizing the loss landscape of neural nets, NeurIPS 2018, arXiv:1712.09913,
        section 7. Antognini, Sohl-Dickstein, PCA of high dimensional random walks with comparison to neural network
        training, NeurIPS 2018, arXiv:1806.08805.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_viz import pca_plane
        >>> bptt = [{"w": jnp.array([0.0, 0.0, 0.0])}, {"w": jnp.array([4.0, 0.0, 0.0])}]
        >>> ostl = [{"w": jnp.array([0.0, 0.0, 0.0])}, {"w": jnp.array([4.0, 2.0, 0.0])}]
        >>> plane = pca_plane({"BPTT": bptt, "OSTL": ostl})
        >>> plane.coordinates(ostl).shape
        (2, 2)
        >>> round(sum(plane.explained), 3)  # all of the checkpoints lie on it
        1.0
    """
    empty = [rule for rule, trajectory in trajectories.items() if not len(trajectory)]
    checkpoints = {
        f"checkpoint {i} of {rule!r}": tree for rule, trees in trajectories.items() for i, tree in enumerate(trees)
    }
    if empty or len(checkpoints) < 3:
        got = f"{len(checkpoints)} checkpoints{f', none of {empty}' if empty else ''}"
        raise ValueError(f"Got {got}, expected at least 3 for a plane, and one of each rule. Save more in training.")
    name, like = next(iter(checkpoints.items())) if origin is None else ("the origin", origin)
    points = _rows(checkpoints, like, name, dtypes=True)
    mean = points.mean(axis=0)
    if origin is None:
        origin = jax.tree.map(lambda part, leaf: part.astype(jnp.result_type(leaf)), _tree(mean, like), like)
    about = mean if centered else _rows({"the origin": origin}, like, name)[0]
    _, lengths, axes = np.linalg.svd(points - about, full_matrices=False)

    leaves = leaves_by_path(like, name).values()
    rounding = np.concatenate([np.full(leaf.size, float(jnp.finfo(leaf.dtype).eps)) for leaf in leaves])
    if len(lengths) < 2 or lengths[1] <= np.linalg.norm(points * rounding):
        raise ValueError(
            f"Got {len(points)} checkpoints that lie on a line, up to rounding, expected a plane. Take them further apart, and "
            "copy them by `nnx.clone`: a state shares the arrays of its model. For a line, use `interpolation`."
        )
    d1, d2 = (axis * np.sign(np.sum(axis * np.abs(axis)) or 1.0) for axis in axes[:2])
    shares = np.square(lengths) / np.sum(np.square(lengths))
    return Plane(origin, (_tree(d1, like), _tree(d2, like)), (float(shares[0]), float(shares[1])))


def random_plane(params: PyTree, key: PRNGKeyArray) -> Plane:
    """A plane through `params` along two random directions scaled to the weights.

        d <- d |w| / |d|

    for the weights w of each output unit, with d drawn from a normal distribution. A step of 1 then changes the weights of each
    unit by their own length, so that surfaces of networks with different weight scales can be compared. The last axis of a leaf
    indexes its output units, as in Flax's kernels.

    Args:
        params: tree of floating-point arrays, the origin. Leaves with fewer than two axes, such as biases, stay fixed,
            with a direction of zero, and so does what a neuron or a delay learns, which `slax_neurons` names `unconstrained`.
        key: random key; the same key gives the same directions.

    Returns:
        A plane whose directions are independent but not orthogonalized, as in the paper: in many dimensions they are nearly
        orthogonal.

    Raises:
        ValueError: nothing to move, weights that are all zero, NaN or infinite parameters.

    References:
        Li, Xu, Taylor, Studer, Goldstein, Visualizing the loss landscape of neural nets, NeurIPS 2018, arXiv:1712.09913,
        section 4.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_viz import random_plane
        >>> params = {"kernel": jnp.full((4, 3), 0.5), "bias": jnp.ones(3)}
        >>> plane = random_plane(params, jax.random.key(0))
        >>> lengths = jnp.linalg.norm(plane.directions[0]["kernel"], axis=0)  # of the weights of each unit
        >>> [round(length, 3) for length in lengths.tolist()], plane.directions[0]["bias"].tolist()
        ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    """
    leaves = finite_leaves(params, "params")
    moving = {path: leaf for path, leaf in leaves.items() if leaf.ndim > 1 and not path.endswith("unconstrained")}
    if sum(leaf.size for leaf in moving.values()) < 2 or not any(map(jnp.any, moving.values())):
        got = [leaf.shape for leaf in leaves.values()]
        raise ValueError(f"Got leaves {got}, expected weights to move that are not all zero; others stay fixed.")
    directions = []
    for key_of_one in jax.random.split(key):
        drawn = {path: jnp.zeros(leaf.shape, _wide(leaf)) for path, leaf in leaves.items()}
        keys = jax.random.split(key_of_one, len(moving))
        for (path, leaf), key_of_leaf in zip(moving.items(), keys, strict=True):
            pair = jax.random.normal(key_of_leaf, leaf.shape, _wide(leaf)), leaf.astype(_wide(leaf))
            length, wanted = (jnp.sqrt(jnp.sum(jnp.square(x), range(leaf.ndim - 1), keepdims=True)) for x in pair)
            drawn[path] = pair[0] * (wanted / length)
        directions.append(jax.tree.unflatten(jax.tree.structure(params), list(drawn.values())))
    return Plane(params, (directions[0], directions[1]))


def finite_leaves(tree: PyTree, name: str) -> dict[str, Array]:
    """The leaves of parameters by path; NaN and infinite values raise an error."""
    leaves = leaves_by_path(tree, name)
    broken = [path for path, leaf in leaves.items() if not bool(jnp.isfinite(leaf).all())]
    if broken:
        raise ValueError(f"Got NaN or infinite numbers in {name} at {broken}. Leave out diverged runs.")
    return leaves


def _rows(
    trees: Mapping[str, PyTree], like: PyTree, name: str = "the origin", *, dtypes: bool = False
) -> Float[np.ndarray, "n P"]:
    """Trees by their names as vectors, after checking that they are finite and have the leaves of another tree."""
    expected, rows = finite_leaves(like, name), []
    for own_name, tree in trees.items():
        leaves = finite_leaves(tree, own_name)
        check_alike(leaves, expected, names=(own_name, name), advice=_ADVICE, dtypes=dtypes)
        rows.append(np.concatenate([np.ravel(np.asarray(leaves[path], np.float64)) for path in expected]))
    return np.stack(rows)


def _wide(leaf: Array) -> np.dtype:
    return np.promote_types(leaf.dtype, jnp.float32)


def _tree(vector: Float[np.ndarray, " P"], like: PyTree) -> PyTree:
    """Split a vector into a tree like another, in at least float32."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, like))
    parts = np.split(vector, np.cumsum([leaf.size for leaf in leaves])[:-1])
    pairs = zip(parts, leaves, strict=True)
    return jax.tree.unflatten(structure, [jnp.asarray(part.reshape(leaf.shape), _wide(leaf)) for part, leaf in pairs])
