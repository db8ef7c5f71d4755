"""Networks learn, and the table is what the networks' counts say."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, draw
from matplotlib import pyplot as plt

from experiments.neurobench import plot, run
from slax_data.sets.mackey_glass import NEUROBENCH_SERIES, mackey_glass
from slax_viz import style

ROOT = Path(run.__file__).parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
TINY = {"seeds": 2, "initial_rate": 0.05}
SHARED = {"batches": 12, "batch_size": 8, "learning_rate": 0.02, "n_steps": 8}
TASKS = {
    "randman": {
        "dataset": "randman",
        "code": "time",
        "input_rate": 0.1,
        "layers": [12, 8, 3],
        "test_size": 20,
        **SHARED,
    },
    "mackey_glass": {"dataset": "mackey_glass", "tau": 17, "horizon": 2, "layers": [1, 20, 1], **SHARED, "batches": 60},
}


def config(task, **changes):
    settings = TINY | {"tasks": {task: TASKS[task] | changes}}
    return config_of("neurobench", task, settings)


@pytest.fixture(scope="module")
def results():
    """What the pipeline would write, by task."""
    with jax.numpy_dtype_promotion("standard"):
        return {task: as_written(config(task), run.compute(config(task))) for task in TASKS}


def test_numbers_are_of_the_network_and_its_test_set(results):
    for seed in results["randman"]["seeds"]:
        assert (seed["footprint"], seed["dense"]) == (4 * (12 * 8 + 8 + 8 * 3 + 3), 8 * (12 * 8 + 8 * 3))
        assert (seed["effective_macs"], seed["connection_sparsity"]) == (0, 0)
        assert seed["baseline"] == pytest.approx(1 / 3)
        assert 0 < seed["effective_acs"] < seed["dense"]
    for seed in results["mackey_glass"]["seeds"]:
        assert (seed["n_steps"], seed["effective_macs"]) == (750, 750 * 20)
        assert seed["loss"] < 0.5  # 0.9 for a forecast of zero
        assert 0 < seed["activation_sparsity"] < 1
    assert results["randman"]["seeds"][0]["loss"] != results["randman"]["seeds"][1]["loss"]


def test_forecast_is_of_the_point_that_is_so_far_ahead_and_seeds_start_later():
    options = {"history": NEUROBENCH_SERIES[17].history, "interval": NEUROBENCH_SERIES[17].interval}
    points = mackey_glass(1502, start=17 + 197 / 2, **options)
    learning = run.forecast(config("mackey_glass"), run.series_of(config("mackey_glass"), 1))
    inputs, targets = learning.test_set
    np.testing.assert_allclose(inputs[:, 0, 0], points[750:1500], rtol=1e-6)
    np.testing.assert_allclose(targets[:, 0, 0], points[752:1502], rtol=1e-6)
    assert learning.baseline == run.smape(inputs, targets)
    inputs, targets = learning.sample(jax.random.key(1))
    assert inputs.shape == targets.shape == (8, 8, 1)
    np.testing.assert_array_equal(inputs[2:], targets[:-2])
    assert jnp.all(jnp.isin(inputs, jnp.asarray(points[:750], jnp.float32)))


def test_table_is_the_mean_of_the_seeds(results, tmp_path):
    rows = draw("neurobench", list(results.values()), tmp_path)["neurobench"]
    assert len(rows) == 2 * 9
    for row in rows:
        result = results[row["task"]]
        name = "score" if row["quantity"] == result["metric"] else row["quantity"]
        assert float(row["mean"]) == pytest.approx(np.mean([seed[name] for seed in result["seeds"]]), abs=1e-6)
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
        assert row["seeds"] == "2"


def test_figure_shows_the_table_and_nothing_overlaps(results):
    with style():
        figure = plot.draw(list(results.values()))
        figure.canvas.draw()
        texts = [text for text in figure.findobj(plt.Text) if text.get_visible() and text.get_text()]
        boxes = [text.get_window_extent() for text in texts]
    plt.close(figure)
    assert len(texts) == 3 * 10 + 1
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index]), texts[index]
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, texts[index]
    shown = [text.get_text() for text in texts]
    assert {"Randman\n12-8-3, T = 8", "Mackey-Glass\n1-20-1, T = 750", "chance\n33.3", "960"} <= set(shown)


def test_one_seed_has_no_interval():
    result = {"metric": "accuracy", "seeds": [{"score": 0.5}]}
    assert plot.of_seeds(result, "accuracy")[:3] == [0.5, None, None]


def test_both_scales_have_the_same_tasks():
    assert CONFIG["scales"]["quick"]["tasks"].keys() == CONFIG["scales"]["paper"]["tasks"].keys() == run.METRICS.keys()


def test_what_does_not_fit_stops():
    with pytest.raises(
        SystemExit, match=r"layers of mackey_glass are \[2, 20, 1\], but its data have 1 inputs and 1 outputs"
    ):
        run.compute(config("mackey_glass", layers=[2, 20, 1]))
    with pytest.raises(SystemExit, match="its data have 64 inputs and 10 outputs"):
        run.compute(config("randman", dataset="digits", code="latency"))
