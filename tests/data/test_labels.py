"""What `check_labels` refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slax_data import check_labels


@pytest.mark.parametrize("labels", [jnp.array([0, 2, 1]), np.array([0, 2]), np.array([1], np.uint8), jnp.zeros(0, int)])
def test_labels_in_range_pass(labels):
    assert check_labels(labels, n_classes=3) is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 3]), r"must lie in 0..2 for n_classes=3, got values from 0 to 3. Set n_classes"),
        (jnp.array([-1, 2]), r"must lie in 0..2 for n_classes=3, got values from -1 to 2. Set n_classes"),
        (jnp.eye(3), r"integers of shape \[B\], got float32 of shape \[3, 3\]. Turn one-hot labels into integers"),
        (jnp.array([0.0, 1.0]), r"integers of shape \[B\], got float32 of shape \[2\]"),
        (np.array([True]), r"integers of shape \[B\], got bool of shape \[1\]"),
    ],
)
def test_other_labels_are_an_error(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, n_classes=3)


def test_a_number_of_classes_below_one_is_an_error():
    with pytest.raises(ValueError, match="n_classes got 0, expected an integer of at least 1"):
        check_labels(jnp.zeros(2, int), n_classes=0)


def test_shape_is_checked_under_jit_and_range_is_not():
    def checked(labels):
        check_labels(labels, n_classes=3)
        return labels

    np.testing.assert_array_equal(jax.jit(checked)(jnp.array([7])), [7])
    with pytest.raises(ValueError, match="integers of shape"):
        jax.jit(checked)(jnp.eye(3))
