"""What has no such number, plane or picture is refused by an error that says so: an example of each."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import slax_viz as viz

ROWS = [{"w": row} for row in np.eye(3, dtype=np.float32)]
AX = Figure().add_subplot()


def pca(*trees, **others):
    return lambda: viz.pca_plane({"a": trees} | others)


REFUSED = [
    (lambda: viz.mean_interval([[0, 1, 2], [3, 4, np.nan]]), r"Got 1 samples that .*, the first at index \[1, 2\]"),
    (pca(*ROWS, {"w": np.full(3, np.nan)}), "infinite numbers in checkpoint 3 of 'a'"),
    (lambda: viz.Plane(ROWS[0], (ROWS[1], {"w": -3 * ROWS[1]["w"]})), "zero or collinear"),
    (lambda: viz.plot_raster(AX, {"a": np.ones((3, 2)), "b": np.ones((4, 2))}), "different steps, {'a': 3, 'b': 4}"),
    (lambda: viz.firing_rates(np.ones((3, 2))), r"spikes of shape \[3, 2\], expected \[T, B, N\], time first"),
    (pca(*({"w": np.full(3, x)} for x in (0.1, 0.2, 0.7))), "3 checkpoints that lie on a line"),
    (lambda: viz.barrier(np.ones(2), [0, 0.9]), "t = 0 and t = 1 among them"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_it_is_refused(call, message, no_shape_checks):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
