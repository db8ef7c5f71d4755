"""The responses obey the neurons' laws, every neuron is there, and the page about them is up to date."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiment_files import as_written, config_of, draw
from matplotlib import pyplot as plt

from experiments.step_response import plot, run
from slax_neurons import NEURONS, SURROGATES, unroll
from slax_viz import style

ROOT = Path(run.__file__).parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
NAMES = list(CONFIG["scales"]["quick"]["neurons"])
PAGE = (ROOT.parents[1] / "docs" / "neurons.md").read_text()
ON, OFF = (CONFIG["scales"]["quick"][f"current_{when}"] for when in ("on", "off"))


def config(name, **changes):
    return config_of("step_response", name, CONFIG["scales"]["quick"]) | changes


@pytest.fixture(scope="module")
def results():
    """What the pipeline would write, by neuron."""
    return {name: as_written(config(name), run.compute(config(name))) for name in NAMES}


def intervals(result):
    return np.diff(np.flatnonzero(result["output"]))


def membrane(result, start=0, stop=None):
    return np.array(result["membrane"][start:stop])


@pytest.mark.parametrize("scale", CONFIG["scales"])
def test_every_neuron_is_in_the_configuration(scale):
    assert set(CONFIG["scales"][scale]["neurons"]) == set(NEURONS)


def test_both_scales_are_the_same():
    assert CONFIG["scales"]["paper"] == CONFIG["scales"]["quick"]


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_those_of_the_cell(name, results):
    """The last states and all outputs are those of `unroll`, and the neuron fires where its membrane is at the threshold."""
    neuron, result = run.make_neuron(config(name)), results[name]
    currents = np.array(result["current"], np.float32)[:, None, None]
    carry, outputs = unroll(neuron, neuron.initialize_carry((1, 1)), run.jnp.asarray(currents))
    np.testing.assert_allclose(result["output"], outputs.ravel(), rtol=1e-5)
    for field, state in run.by_name(carry).items():
        np.testing.assert_allclose(result["states"][field][-1], state.ravel(), rtol=1e-5, atol=1e-6)
    if result["threshold"] is None:
        return
    assert 3 <= sum(result["output"]) <= 30
    distance, fired = membrane(result) - result["threshold"], np.array(result["output"]) == 1
    assert np.all(distance[fired] > -1e-6)
    assert np.all(distance[~fired] < 1e-6)


def test_fixed_threshold_is_a_constant_and_an_adaptive_one_is_raised_by_the_last_state(results):
    for name in ("if", "lif", "cuba_lif", "adlif"):
        np.testing.assert_allclose(results[name]["threshold"], 1, atol=1e-5)
    for name, state, weight in (("alif", "a", config("alif")["options"]["beta"]), ("brf", "q", 1.0)):
        before = np.array([0, *results[name]["states"][state][:-1]])
        np.testing.assert_allclose(results[name]["threshold"], 1 + weight * before, atol=1e-5)


def test_if_fires_every_threshold_over_current_steps_and_keeps_its_charge(results):
    assert set(intervals(results["if"])) == {1 / config("if")["current"]}
    charge = membrane(results["if"], OFF - 1)
    assert charge[0] > 0
    assert np.all(charge == charge[0])


def test_lif_fires_regularly_and_forgets(results):
    assert len(set(intervals(results["lif"]))) == 1
    after = membrane(results["lif"], OFF)
    np.testing.assert_allclose(after[1:] / after[:-1], config("lif")["options"]["decay"], rtol=1e-5)


def test_li_charges_towards_its_plateau_and_forgets(results):
    decay, current = config("li")["options"]["decay"], config("li")["current"]
    plateau = current / (1 - decay)
    expected = plateau * (1 - decay ** np.arange(1, OFF - ON + 1))
    np.testing.assert_allclose(membrane(results["li"], ON, OFF), expected, rtol=1e-5)
    assert membrane(results["li"]).max() == pytest.approx(plateau, rel=0.01)
    after = membrane(results["li"], OFF)
    np.testing.assert_allclose(after[1:] / after[:-1], decay, rtol=1e-5)
    assert results["li"]["threshold"] is None


def test_cuba_lif_starts_smoothly_and_its_spikes_leave_the_current(results):
    rise = np.diff(membrane(results["cuba_lif"], ON - 1, ON + 10))
    assert rise[0] < rise[1] < rise[2]
    decay, current = config("cuba_lif")["options"]["synapse_decay"], config("cuba_lif")["current"]
    expected = current / (1 - decay) * (1 - decay ** np.arange(1, OFF - ON + 1))
    np.testing.assert_allclose(results["cuba_lif"]["states"]["i"][ON:OFF], expected, rtol=1e-5)
    assert membrane(results["cuba_lif"], OFF).argmax() > 0


@pytest.mark.parametrize("name", ["alif", "ltc"])
def test_intervals_of_a_neuron_with_an_adaptive_threshold_grow(name, results):
    between = intervals(results[name])
    assert np.all(np.diff(between[:5]) >= 0)
    assert between[-1] > 1.5 * between[0]
    assert max(results[name]["threshold"][ON:OFF]) > 1.5 * results[name]["threshold"][ON]


def test_adlif_rings_below_its_threshold_and_rebounds(results):
    quiet = membrane(results["adlif"], ON + 20, OFF)
    assert quiet.max() < 1
    turns = np.diff(np.sign(np.diff(quiet)))
    assert np.count_nonzero(turns) >= 2
    assert membrane(results["adlif"], OFF).min() < -1
    assert any(results["adlif"]["output"][OFF:])


def test_brf_rings_at_its_frequency_and_is_refractory(results):
    free = membrane(run.compute(config("brf", options=config("brf")["options"] | {"threshold": 1e3})) | {})[ON:OFF]
    crests = np.flatnonzero((free[1:-1] > free[:-2]) & (free[1:-1] > free[2:]))
    period = 2 * np.pi / (0.01 * config("brf")["options"]["omega"])
    np.testing.assert_allclose(np.diff(crests), period, atol=1)
    threshold = np.array(results["brf"]["threshold"])
    assert np.all(threshold[np.flatnonzero(results["brf"]["output"]) + 1] > 1.5)


def test_ltc_charges_slowly_under_the_current_and_forgets_quickly(results):
    charge = membrane(run.compute(config("ltc", options={"threshold": 1e3})))
    peak = charge[OFF - 1]
    assert charge[ON + 10] < 0.5 * peak
    assert charge[OFF + 10] < 0.1 * peak


def test_table_holds_what_the_results_hold(results, tmp_path):
    rows = draw("step_response", list(results.values()), tmp_path)["step_response"]
    for name, result in results.items():
        for quantity, values in plot.curves(result).items():
            found = [float(r["value"]) for r in rows if (r["neuron"], r["quantity"]) == (name, quantity)]
            np.testing.assert_allclose(found, values, atol=1e-6)
    assert {row["quantity"] for row in rows} >= {"current", "membrane", "threshold", "output", "i", "a", "w", "q"}


def test_picture_on_the_page_is_the_one_that_is_drawn(results, tmp_path):
    """Up to what rounding can change: `make claims` copies it to docs/."""
    draw("step_response", list(results.values()), tmp_path)
    files = (folder / "step_response.png" for folder in (ROOT.parents[1] / "docs", tmp_path))
    page, drawn = map(plt.imread, files)
    assert page.shape == drawn.shape
    assert np.mean(np.abs(page - drawn) > 0.1) < 1e-4


def test_labels_cover_nothing(results):
    """No two texts of the figure overlap, and all are on it."""
    with style():
        figure = plot.draw(list(results.values()))
        figure.canvas.draw()
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    plt.close(figure)
    assert len(boxes) > 60
    for index, (text, box) in enumerate(boxes):
        for other, another in boxes[:index]:
            assert not box.overlaps(another), (text, other)
        assert figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1), text


def texts_of(figure):
    """All texts that can be seen, without the ticks beyond the ends of an axis."""
    beyond = set()
    for axis in [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]:
        low, high = axis.get_view_interval()
        beyond |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    texts = [text for text in figure.findobj(plt.Text) if text.get_visible() and text.get_text()]
    return [text for text in texts if text not in beyond]


def defaults(function):
    arguments = inspect.signature(function).parameters.values()
    return {a.name: a.default for a in arguments if isinstance(a.default, int | float)}


@pytest.mark.parametrize("kind", NEURONS.values())
def test_page_has_equations_and_defaults_of_every_neuron(kind):
    (row,) = re.findall(rf"^\| `{kind.__name__}` \|.*$", PAGE, re.MULTILINE)
    for name, value in defaults(vars(kind).get("__init__", lambda: None)).items():
        assert f"`{name}={value:.4g}`" in row
    assert len(re.findall(rf"^\*\*{kind.__name__}\*\*.*\n\n    ", PAGE, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", SURROGATES)
def test_page_has_every_surrogate_and_its_defaults(name):
    options = ", ".join(f"{option}={value:g}" for option, value in defaults(SURROGATES[name]).items())
    assert f"| `{name}({options})` |" in PAGE


def test_unknown_neuron_state_or_order_stops():
    with pytest.raises(SystemExit, match="There is no neuron 'nonsense', expected one of: adlif, alif"):
        run.compute(config("lif") | {"neuron": "nonsense"})
    with pytest.raises(SystemExit, match="lif has no state w, expected some of: u"):
        run.compute(config("lif", states={"w": "recovery current"}))
    with pytest.raises(SystemExit, match="on from step 20 to 10 of 200, expected steps in increasing order"):
        run.compute(config("lif", current_off=10))
