"""The experiment on landscapes: checkpoints are found as they were, and what random walks explain. Its surfaces:
test_laws_of_tables.py."""

import jax
import numpy as np
from flax import nnx
from scipy import stats

from experiments.common.tasks import demo_model, paths_of
from experiments.landscapes.plot_walks import explained_by_walks, lengths_of
from slax_rules.train.agreement import by_path


def test_parameters_are_found_by_path_where_ten_layers_sort_before_two():
    """Six layers of one shape, and checkpoints as jit hands them back: sorted as text, modules/10 before modules/2."""
    model = demo_model([4] * 7, nnx.Rngs(0))
    params = by_path(nnx.state(model, nnx.Param))
    arrays = {path: np.stack([leaf, leaf + 1])[None] for path, leaf in sorted(params.items())}
    assert list(arrays) != list(params)
    start, end = paths_of(model, arrays, 0)
    jax.tree.map(np.testing.assert_array_equal, start, nnx.state(model, nnx.Param))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), end, start)


def test_walks_explain_as_much_as_walks_drawn_in_all_dimensions():
    """Two walks of unequal steps, against points drawn one by one in 7 dimensions; and one long walk in many, which has
    6 / (pi k)^2 of its variance along direction k (Antognini and Sohl-Dickstein 2018)."""
    random, lengths = np.random.default_rng(1), [np.array([3.0, 1.0]), np.array([2.0, 0.5, 4.0])]

    def drawn():
        points = []
        for of_rule in lengths:
            directions = random.standard_normal((len(of_rule), 7))
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            points += [np.zeros(7), *np.cumsum(of_rule[:, None] * directions, axis=0)]
        squares = np.square(np.linalg.svd(points - np.mean(points, axis=0), compute_uv=False))
        return squares[:2] / squares.sum()

    found, expected = explained_by_walks(lengths, 7, seed=0), np.array([drawn() for _ in range(1000)])
    for one, other in zip(found.T, expected.T, strict=True):
        assert stats.ks_2samp(one, other).pvalue > 0.01
    long = explained_by_walks([np.ones(50)], 10**6, seed=0).mean(axis=0)
    np.testing.assert_allclose(long, 6 / np.square(np.pi * np.array([1, 2])), atol=0.01)


def test_length_of_a_step_is_that_of_all_parameters_together():
    kernel, bias = np.zeros((1, 3, 2, 2)), np.zeros((1, 3, 1))
    kernel[0, 1:], bias[0, 1], bias[0, 2] = 2.0, 3.0, 1.0
    np.testing.assert_allclose(lengths_of({"kernel": kernel, "bias": bias}), [[5.0, 2.0]])
