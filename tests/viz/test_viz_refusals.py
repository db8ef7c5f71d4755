"""What has no such number, plane, Hessian or picture is refused by an error that says so: an example of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import slax_viz as viz

KEY = jax.random.key(0)
ROWS = [{"w": row} for row in np.eye(3, dtype=np.float32)]
PLANE = viz.Plane(ROWS[0], (ROWS[1], ROWS[2]))
SPIKES = np.ones((6, 4, 3))
ONES = {"w": np.ones((2, 3), np.float32)}
XS = [0.0, 1.0]
TS, SQUARE = np.linspace(0, 1, 3), np.ones((2, 2))
AX, SPACE = (Figure().add_subplot(projection=projection) for projection in (None, "3d"))


def eigenvalues(loss=lambda params: jnp.sum(params["w"]), params=ROWS[0], **options):
    return lambda: viz.hessian_eigenvalues(loss, params, KEY, **options)


def surface(loss=lambda params: jnp.sum(params["w"]), xs=XS, **options):
    return lambda: viz.surface(loss, PLANE, xs=xs, ys=XS, **options)


def pca(*trees, **others):
    return lambda: viz.pca_plane({"a": trees} | others)


def landscape(losses=SQUARE, path=SQUARE, plot=viz.plot_landscape, ax=AX, **options):
    return lambda: plot(ax, losses, xs=XS, ys=XS, trajectories={"a": path}, **options)


REFUSED = [
    (lambda: viz.gradient_noise(*2 * [ONES | {"b": np.ones((4, 2), np.float32)}]), r"'b': \(4,\).*, at least 2"),
    (lambda: viz.mean_interval(np.ones((1, 3))), "at least 2 samples"),
    (lambda: viz.mean_interval([1.0, 2.0], level=95.0), "level must be a probability"),
    (lambda: viz.mean_interval([[0, 1, 2], [3, 4, np.nan]]), r"got 1 others, the first at index \[1, 2\]"),
    (lambda: viz.firing_rates(np.ones((3, 2))), r"spikes must have shape \[T, B, N\], time first"),
    (lambda: viz.firing_rates({"a": SPIKES}), r"got layers \['a'\]. Call it by layer"),
    (lambda: viz.firing_rates(-SPIKES), "spikes must not be negative"),
    (lambda: viz.firing_rates(SPIKES * np.nan), "spikes must be finite"),
    (lambda: viz.firing_rates(SPIKES, dt=0.0), "dt must be a positive duration, got 0.0"),
    (lambda: viz.firing_rates(SPIKES, mask=np.ones((4, 6), bool)), r"mask must be bool\[6, 4\].* got bool\[4, 6\]"),
    (pca(*ROWS, b=[]), r"got 3 of 2 rules, none of \['b'\]"),
    (pca(*ROWS, {"w": np.full(3, np.nan)}), "infinite ones in checkpoint 3 of 'a'"),
    (pca(*ROWS, {"v": np.ones(3)}), r"only in checkpoint 3 of 'a': \['v'\]"),
    (pca(*ROWS, {"w": jnp.ones(3, jnp.bfloat16)}), "same dtypes.* w: bfloat16 and float32"),
    (pca(*({"w": np.full(3, x)} for x in (0.1, 0.2, 0.7))), "3 checkpoints lie on a line"),
    (lambda: viz.random_plane({"b": np.ones(3)}, KEY), "move_biases=True"),
    (lambda: viz.random_plane({"step": np.zeros((), np.int32)}, KEY), "int32 at 'step' in params"),
    (lambda: viz.Plane(ROWS[0], (ROWS[1], {"w": -3 * ROWS[1]["w"]})), "zero or collinear"),
    (lambda: PLANE.coordinates([{"w": np.ones(2)}]), "checkpoint 0 and the origin must have leaves of the same sh"),
    (surface(xs=[]), r"xs must have shape \[X\], got \[0\]"),
    (surface(batch=0), "batch must be at least 1, got 0"),
    (surface(lambda params: params["w"]), "one floating-point number, got ShapeDtypeStruct"),
    (lambda: viz.interpolation(jnp.sum, {}, {}, [0, 1]), "empty trees"),
    (lambda: viz.barrier(np.ones(2), [0, 0.9]), "t = 0 and t = 1 among them"),
    (lambda: viz.grid_around({"a": np.eye(2)}, margin=-0.1), "margin=-0.1"),
    (lambda: viz.grid_around({"a": np.array([[0.0, 0.0], [1.0, 0.0]])}), "along both axes"),
    (eigenvalues(params={}), "got an empty tree"),
    (eigenvalues(lambda x: jnp.sum(x**1.5), jnp.array([1.0, -1.0])), "Hessian.* is NaN"),
    (eigenvalues(n_top=4), "n_top must be 1 to 3"),
    (eigenvalues(n_top=2, n_starts=3), "n_starts must be 1 to"),
    (eigenvalues(n_top=2, n_steps=1), "n_steps must be at"),
    (eigenvalues(tolerance=0.0), r"tolerance must be in \(0, 1\), got 0.0"),
    (eigenvalues(order="first"), "there is no order 'first', expected one of"),
    (lambda: viz.hessian_trace(jnp.sum, jnp.ones(3), KEY, n_samples=1), "n_samples of at least 2, got 1"),
    (lambda: viz.plot_cosine_similarity(AX, {}), "expected at least one rule"),
    (lambda: viz.plot_cosine_similarity(AX, dict.fromkeys(range(9), SQUARE)), "at most 8 rules .* got 9"),
    (
        lambda: viz.plot_cosine_similarity(AX, {"a": np.ones(3)}),
        r"cosines of a must have shape \[seeds, 3\], the same layers",
    ),
    (lambda: viz.plot_cosine_similarity(AX, {"a": 0.9}), r"a must have shape \[seeds, layers\], .*, got \[\]"),
    (lambda: viz.plot_cosine_similarity(AX, {"a": SQUARE}, layers=["x"]), "one label for each of 2 layers, got 1"),
    (landscape(np.ones((2, 3))), r"got losses of shape \[2, 3\]"),
    (landscape(SQUARE * np.nan), "all losses are NaN or infinite"),
    (landscape(SQUARE - 1.25, log=True), "must be above 0, got -0.25"),
    (landscape(path=np.ones((2, 4))), r"the trajectory of a must have shape \[n, 2\], got \[2, 4\]"),
    (landscape(plot=viz.plot_landscape_3d), "expected axes in space, got Axes"),
    (
        landscape(path=np.zeros((1, 3)), plot=viz.plot_landscape_3d, ax=SPACE, log=True),
        "of trajectories must be above 0",
    ),
    (lambda: viz.plot_interpolation(AX, dict.fromkeys(range(9), TS), ts=TS), "expected 1 to 8 lines"),
    (lambda: viz.plot_interpolation(AX, {"a": TS}, ts=TS, log=True), "above 0, got others for 'a'"),
    (lambda: viz.plot_membrane(AX, np.zeros(3), spikes=np.full(3, 0.5)), "spikes must be 0 or 1"),
    (lambda: viz.plot_membranes(AX, np.zeros((3, 2)), units=["a"]), "one label for each of 2 units, got 1"),
    (lambda: viz.plot_raster(AX, {"a": np.ones((3, 2)), "b": np.ones((4, 2))}), "same steps, got {'a': 3, 'b': 4}"),
    (lambda: viz.plot_firing_rates(AX, [0, 0], {"a": [0.1, 0.1]}), r"steps must be \[K\], increasing"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_it_is_refused(call, message, no_shape_checks):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
