"""The experiment on accuracy: its numbers, its table, and what stops it."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from experiment_files import as_written, config_of, draw, watch
from flax import nnx

from experiments.accuracy import plot, run
from experiments.common import training
from experiments.common.figures import by_task_and_rule
from experiments.common.job import jobs_of
from experiments.common.schemas import validator
from experiments.common.styles import STYLES
from experiments.common.tasks import task_maker
from experiments.common.trainer import make_trainer
from slax_data import spike_trains
from slax_data.storage.packed import arrays_of_sets
from slax_rules import RULES

ROOT = Path(run.__file__).parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
SCHEMA = yaml.safe_load((ROOT / "config.schema.yaml").read_text())
TINY = {
    **{
        "seeds": 2,
        "rate_seeds": 1,
        "learning_rates": [0.003, 0.03],
        "steps": 6,
        "batch_size": 8,
        "rules": ["bptt", "ottt"],
    },
    **{"online_window": 3, "validation_size": 30, "test_size": 20},
}
DIGITS = {"dataset": "digits", "code": "latency", "input_rate": 0.05, "layers": [64, 8, 10], "n_steps": 6}
RANDMAN = {"dataset": "randman", "code": "time", "input_rate": 0.05, "layers": [12, 8, 3], "n_steps": 6}
STORED = {"spikes": "lines", "input_rate": 0.2, "layers": [12, 16, 3], "n_steps": 8}
TASKS = {"digits": DIGITS, "lines": STORED, "randman": RANDMAN}


def config(task, rule, **changes):
    settings = CONFIG["scales"]["quick"] | TINY | {"tasks": TASKS} | changes
    return config_of("accuracy", f"{task}/{rule}", settings)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Three classes, each of which fires in four of the units: easy to learn."""
    rng = np.random.default_rng(0)
    labels = {"train": np.arange(60) % 3, "test": np.arange(21) % 3}
    active = {name: np.arange(12)[None, None] // 4 == of[:, None, None] for name, of in labels.items()}
    sets = {name: spike_trains((rng.random((len(of), 8, 12)) < 0.4) & active[name], of) for name, of in labels.items()}
    path = tmp_path_factory.mktemp("spikes") / "lines.npz"
    np.savez(path, **arrays_of_sets(sets))
    return path


@functools.cache
def compute(task, rule, spikes=None, **changes):
    with jax.numpy_dtype_promotion("standard"):
        return run.compute(config(task, rule, **changes), spikes)["updates"]


def test_numbers_of_each_way_of_training_repeat():
    first = compute("digits", "ottt")
    assert list(first) == ["offline", "online"] and first["offline"] != first["online"]
    for of_update in first.values():
        assert of_update["trials"].keys() == {"learning_rates", "validation", "second", "chosen"}
        seeds = of_update["seeds"]
        assert [seed["seed"] for seed in seeds] == [0, 1] and seeds[0] != seeds[1]
        assert seeds[0].keys() == {"seed", "accuracy", "validation_accuracy", "loss", "spikes"}
        assert seeds[0]["spikes"].keys() == {"1"}
    compute.cache_clear()
    assert compute("digits", "ottt") == first


def test_each_way_of_training_starts_at_the_first_parameters(monkeypatch):
    both = compute("digits", "ottt")
    monkeypatch.setitem(RULES, "ottt", dataclasses.replace(RULES["ottt"], updates=("online",)))
    compute.cache_clear()
    alone = compute("digits", "ottt")
    compute.cache_clear()
    assert alone == {"online": both["online"]}


def test_the_validation_score_of_a_seed_is_that_of_its_trial_at_the_chosen_rate():
    for of_update in compute("digits", "ottt").values():
        trials, (first, _) = of_update["trials"], of_update["seeds"]
        chosen = trials["learning_rates"].index(trials["chosen"]["learning_rate"])
        assert first["validation_accuracy"] == trials["validation"][0][chosen] == max(trials["validation"][0])


def test_the_test_samples_are_read_once_for_each_training_after_the_rate_is_chosen(monkeypatch):
    settings = config("randman", "ottt", rate_seeds=2)
    done = watch(monkeypatch, run, settings)
    with jax.numpy_dtype_promotion("standard"):
        run.compute(settings)
    assert done == 2 * (["validation"] * 2 * 2 + ["chosen"] + ["test", "validation"] * 2)


def test_stored_spikes_are_learned(lines):
    numbers = compute("lines", "bptt", lines, steps=60)
    assert list(numbers) == ["offline"]
    assert min(seed["accuracy"] for seed in numbers["offline"]["seeds"]) > 0.9


@pytest.mark.parametrize("mode", ["offline", "online"])
@pytest.mark.parametrize("anneal", [True, False])
def test_the_learning_rate_falls_to_zero_with_the_last_update(mode, anneal, monkeypatch):
    """With an optimizer that moves by the learning rate: half a cosine, over as many updates as there are windows."""
    ones = optax.stateless(lambda updates, _: jax.tree.map(jnp.ones_like, updates))
    monkeypatch.setitem(
        training.OPTIMIZERS, "adamax", lambda rate: optax.chain(ones, optax.scale_by_learning_rate(rate))
    )
    settings = config("digits", "ottt", online_window=4, steps=5, anneal=anneal)
    trainer = make_trainer(settings, mode, training.make_model, functools.partial(training.make_rule, "ottt"))
    batch = jnp.ones((1, 6, 2, 64)), jnp.array([[0, 1]])
    with jax.numpy_dtype_promotion("standard"):
        start = trainer.start(jax.random.key(0))
        after = [start, *(trained for trained, _ in trainer.train_in_parts(start, 0.25, [batch] * 5))]
    biases = [float(trainer.network(trained)[0].modules[0].bias[0]) for trained in after]
    updates = 5 * {"offline": 1, "online": 2}[mode]
    rates = 0.25 * ((1 + np.cos(np.pi * np.arange(updates) / updates)) / 2 if anneal else np.ones(updates))
    np.testing.assert_allclose(-np.diff(biases), rates.reshape(5, -1).sum(1), atol=1e-6)


def test_table_is_the_mean_of_the_seeds():
    results = [as_written(config("digits", rule), {"updates": compute("digits", rule)}) for rule in ("ottt", "bptt")]
    data = plot.prepare(results)
    assert list(data[0]["digits"]) == ["bptt", "ottt"]
    rows = [dict(zip(plot.COLUMNS, row, strict=True)) for row in plot.rows(data)]
    assert len(rows) == 3 * 3
    for row in rows:
        stages = compute("digits", row["rule"])[row["mode"]]["seeds"]
        name, _, layer = row["quantity"].partition("spikes_")
        numbers = [stage["spikes"][layer] if layer else stage[name] for stage in stages]
        assert row["mean"] == pytest.approx(np.mean(numbers), abs=1e-6)
        assert row["low"] <= row["mean"] <= row["high"] and row["seeds"] == 2
    with pytest.raises(SystemExit, match="Got two results of the task digits and the rule bptt"):
        by_task_and_rule([*results, results[1]])


def test_figure_and_table_are_written(tmp_path):
    offline = compute("digits", "bptt")["offline"]
    one = as_written(
        config("digits", "bptt", seeds=1), {"updates": {"offline": offline | {"seeds": offline["seeds"][:1]}}}
    )
    tables = draw("accuracy", [one], tmp_path)
    assert tables["accuracy"][0]["quantity"] == "accuracy" and tables["accuracy"][0]["low"] == ""
    rates = tables["accuracy_rates"]
    assert [float(row["learning_rate"]) for row in rates] == TINY["learning_rates"]
    assert [float(row["mean"]) for row in rates] == pytest.approx(offline["trials"]["validation"][0], abs=1e-6)
    assert [float(row["learning_rate"]) for row in rates if row["chosen"] == "1"] == [
        offline["trials"]["chosen"]["learning_rate"]
    ]


def test_configuration_names_rules_and_sets_that_there_are():
    sets = yaml.safe_load((ROOT.parents[1] / "data" / "config.yaml").read_text())["sets"]
    for scale in CONFIG["scales"].values():
        assert {task["spikes"] for task in scale["tasks"].values() if "spikes" in task} <= set(sets)
    settings = CONFIG["scales"]["quick"]
    assert all(validator(SCHEMA).is_valid(settings | {"rules": [name]}) for name in RULES)


def test_a_task_can_have_its_own_rules_and_settings():
    own = DIGITS | {"rules": ["bptt", "otpe", "rtrl"], "without": ["rtrl"], "steps": 3}
    settings = CONFIG["scales"]["quick"] | TINY | {"tasks": {"digits": own, "lines": STORED}}
    assert list(jobs_of("accuracy", "quick", settings)) == ["digits/bptt", "digits/otpe", "lines/bptt", "lines/ottt"]
    cell = config_of("accuracy", "digits/otpe", settings)
    assert cell["steps"] == 3 and not {"rules", "without", "tasks"} & cell.keys()


def test_published_numbers_stand_beside_ours():
    result = {
        "config": config("lines", "bptt") | {"task": "shd"},
        "updates": {"offline": {"seeds": [{"seed": 0, "accuracy": 0.5}]}},
    }
    tasks = {"shd": {"bptt": result}, "digits": {"otpe": result}}
    published = plot.published_of(tasks)
    assert published == {("shd", "bptt"): 0.781}
    assert [row[5:7] for row in plot.published_rows(tasks, published)] == [["published_accuracy", 0.781]]
    figure = plot.draw(({"shd": {"bptt": result}}, published))
    stars = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert [line.get_xdata()[0] for line in stars] == [pytest.approx(78.1)]
    plot.plt.close(figure)


def rules_of_seeds(**accuracies):
    return {
        rule: {
            "config": {"layers": [4, 10]},
            "updates": {"offline": {"seeds": [{"accuracy": share} for share in shares]}},
        }
        for rule, shares in accuracies.items()
    }


def test_axis_of_accuracies_holds_an_interval_that_reaches_down_to_zero():
    _, axes = plot.plt.subplots(1, 2)
    plot.draw_task(axes[0], ["bptt"], rules_of_seeds(bptt=[0.9, 0.4]))
    plot.draw_task(axes[1], ["bptt", "ottt"], rules_of_seeds(bptt=[0.75, 0.75]))
    assert [ax.get_xlim()[0] for ax in axes] == [0, 70]
    plot.plt.close("all")


def test_accuracies_are_drawn_in_the_rows_and_colors_of_their_rules():
    _, ax = plot.plt.subplots()
    plot.draw_task(ax, ["bptt", "sltt", "ottt"], rules_of_seeds(bptt=[0.5, 0.7], ottt=[0.9, 0.9]))
    means = [line for line in ax.lines if line.get_marker() == plot.MARKS["offline"]["marker"]]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in means] == [
        (pytest.approx(60), pytest.approx(-0.16)), (pytest.approx(90), pytest.approx(1.84))
    ]  # fmt: skip
    assert [line.get_color() for line in means] == [STYLES[rule].color for rule in ("bptt", "ottt")]
    assert [(text.get_text(), text.get_position()[1]) for text in ax.texts] == [("not run here", 1)]
    plot.plt.close("all")


def test_a_task_can_have_its_own_decays():
    assert config("digits", "bptt")["decay"] == 0.95
    own = {"digits": DIGITS | {"decay": 0.8808, "read_out_decay": 0.9}}
    model = training.make_model(config("digits", "bptt", tasks=own), nnx.Rngs(0))
    decays = [float(model.modules[index].decay(jnp.zeros(()))) for index in (1, 3)]
    assert decays == pytest.approx([0.8808, 0.9], abs=1e-6)
    settings = CONFIG["scales"]["quick"] | {"tasks": own}
    assert validator(SCHEMA).is_valid(settings)


def test_randman_has_a_manifold_for_each_seed():
    settings = config("digits", "bptt") | {"dataset": "randman", "code": "time", "task": "randman"}
    make = task_maker(settings, None)
    first, second = (make(jax.random.key(seed)).sample(jax.random.key(2), batch_size=64)[0] for seed in (0, 1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, make(jax.random.key(0)).sample(jax.random.key(2), batch_size=64)[0])


def test_what_does_not_fit_stops(lines):
    with pytest.raises(SystemExit, match=r"The task lines reads spikes, expected the file lines\.npz"):
        run.compute(config("lines", "bptt"))
    for layers, steps in (([11, 16, 3], 8), ([12, 16, 3], 9)):
        changed = config("lines", "bptt") | {"layers": layers, "n_steps": steps}
        with pytest.raises(SystemExit, match="its data have 12 units and 3 classes, in 8 steps"):
            run.compute(changed, lines)
    with pytest.raises(ValueError, match="none of"):
        run.compute(config("lines", "bptt") | {"layers": [12, 16, 4]}, lines)
