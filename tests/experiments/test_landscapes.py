"""The experiment on landscapes: checkpoints are found as they were. Its surfaces: test_laws_of_tables.py."""

import jax
import numpy as np
from flax import nnx

from experiments.common.networks import demo_model, paths_of
from slax_rules.training.paths import by_path


def test_parameters_are_found_by_path_where_ten_layers_sort_before_two():
    """Six layers of one shape, and checkpoints as jit hands them back: sorted as text, modules/10 before modules/2."""
    model = demo_model([4] * 7, nnx.Rngs(0))
    params = by_path(nnx.state(model, nnx.Param))
    arrays = {path: np.stack([leaf, leaf + 1])[None] for path, leaf in sorted(params.items())}
    assert list(arrays) != list(params)
    start, end = paths_of(model, arrays, 0)
    jax.tree.map(np.testing.assert_array_equal, start, nnx.state(model, nnx.Param))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), end, start)
