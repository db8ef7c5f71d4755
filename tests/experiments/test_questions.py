"""The questions: what their tasks show and when, what a way to learn changes, and which truncation a rule's memory buys."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiment_files import as_written, config_of, tables
from flax import nnx
from jax import random

from experiments.credit_grid import plot_alignment
from experiments.credit_grid.plot_panels import Panel
from experiments.drawing import ranks
from experiments.pipeline.job import settings_of
from experiments.questions import cost, run, sources
from slax_data import mnist_5k
from slax_neurons import unroll
from slax_rules import BPTT, OTPE, TBPTT, cross_entropy, gradients


@pytest.fixture
def certain(monkeypatch):
    """The units of an active group always spike, and no other one does."""
    monkeypatch.setattr(sources, "ACTIVE", 1.0)
    monkeypatch.setattr(sources, "BACKGROUND", 0.0)


def groups_of(task, count, lasts):
    """Which groups are active in each piece [P, B, G], the labels and the mask, of 300 samples."""
    spikes, labels, counts = map(np.asarray, task.sample(random.key(1), batch_size=300))
    split = spikes.reshape(-1, lasts, 300, count, spikes.shape[-1] // count)
    assert (split == split[:, :1, :, :, :1]).all()
    return split[:, 0, :, :, 0].astype(int), labels, counts


@pytest.mark.parametrize("n_steps", [32, 64])
def test_adding_asks_for_the_sum_of_two_marked_bits_of_which_a_count_says_nothing(certain, n_steps):
    """Neither does any bit, so that nothing which the last steps show says anything of the label."""
    active, labels, counts = groups_of(sources.adding(6, 3, n_steps), 3, 4)
    zeros, ones, marked = active.transpose(2, 0, 1)
    part = 3 * n_steps // 32  # half of the bits before the steps that count
    assert (zeros + ones == 1).all() and (ones[: 2 * part].sum(axis=0) == part).all()
    assert (ones[2 * part :].sum(axis=0) == part // 3).all() and len(ones[2 * part :]) == 2 * (part // 3)
    assert (marked[:part].sum(axis=0) == 1).all() and (marked[part : 2 * part].sum(axis=0) == 1).all()
    assert marked[: 2 * part].any(axis=1).all() and not marked[2 * part :].any()
    assert ((ones * marked).sum(axis=0) == labels).all() and set(labels) == {0, 1, 2}
    for label in range(3):
        assert (abs(ones[:, labels == label].mean(axis=1) - 0.5) < 0.25).all()
    assert set((ones * marked)[:part, labels == 1].sum(axis=0)) == {0, 1}
    assert (counts == (np.arange(n_steps) >= 3 * n_steps // 4)[:, None]).all()


def test_recall_asks_for_the_flagged_one_of_symbols_that_all_come_once(certain):
    active, labels, counts = groups_of(sources.recall(10, 4, 30), 5, 6)
    assert (active[:, :, :4].sum(axis=0) == 1).all() and (active[:4, :, :4].sum(axis=2) == 1).all()
    flagged = active[:, :, 4].argmax(axis=0)
    assert set(flagged) == {0, 1} and (active[:, :, 4].sum(axis=0) == 1).all() and not active[4].any()
    assert (active[flagged, range(300)].argmax(axis=1) == labels).all()
    orders = np.unique(active[:4, :, :4].argmax(axis=2), axis=1)
    assert orders.shape[1] == 24  # all of them
    assert (counts == (np.arange(30) >= 24)[:, None]).all()


def test_permuted_mnist_shows_each_pixel_once_in_the_same_order():
    task = sources.permuted_mnist(28, 10, 28)
    spikes, labels = map(np.asarray, task.full_split("test"))
    images, digits = map(np.asarray, mnist_5k(split="test"))
    flat = spikes.swapaxes(0, 1).reshape(len(labels), 784)
    shown, pixels = (sorted(pixel.tobytes() for pixel in part.T) for part in (flat > 0, images > 0.5))
    assert shown == pixels and not (flat == (images > 0.5)).all() and (labels == digits).all()
    assert [task.full_split(name)[0].shape[1] for name in ("train", "validation")] == [3200, 800]


CONFIG = {"layers": [4, 6, 6, 3], "input_rate": 0.2, "initial_rate": 0.2, "decay": 0.9, "read_out_decay": 0.9}


def outputs(way, inputs):
    model = run.network(CONFIG | {"way": way}, nnx.Rngs(0))
    return np.asarray(unroll(model, model.initialize_carry(inputs.shape[1:]), jnp.asarray(inputs))[1])


def test_without_memory_a_step_is_all_that_counts():
    inputs = np.random.default_rng(0).integers(0, 2, (5, 8, 4)).astype(np.float32)
    others = np.concatenate([1 - inputs[:4], inputs[4:]])
    np.testing.assert_allclose(outputs("stateless", inputs)[4], outputs("stateless", others)[4], atol=1e-4)
    assert not np.allclose(outputs("bptt", inputs)[4], outputs("bptt", others)[4], atol=1e-2)


@pytest.mark.parametrize(("way", "factor"), [("bptt", 1.0), ("short_bptt", run.SHORTER)])
def test_the_first_step_of_each_optimizer(way, factor):
    """Against their equations: SGD moves by the gradient, which is shorter in hidden layers, and by 1 if lengths are 1."""
    config = CONFIG | {"way": way}
    params = nnx.state(run.network(config, nnx.Rngs(0)), nnx.Param)
    gradient = jax.tree.map(lambda leaf: 1 + np.arange(leaf.size, dtype=np.float32).reshape(leaf.shape), params)
    for optimizer in ("momentum", "normalized"):
        made = run.optimizer_of(config | {"optimizer": optimizer}, 0.1)
        moved = made.update(gradient, made.init(params), params)[0]
        for number in (0, 2, 4):
            for name in ("kernel", "bias"):
                given, found = (np.asarray(tree["modules"][number][name][...]) for tree in (gradient, moved))
                scale = 1 / np.linalg.norm(given) if optimizer == "normalized" else factor if number < 4 else 1.0
                np.testing.assert_allclose(found, -0.1 * scale * given, rtol=1e-5)


@pytest.mark.parametrize("way", run.EXCHANGED)
def test_a_rule_with_the_lengths_of_another_one_keeps_its_direction_in_each_array(way):
    config, rng = CONFIG | {"way": way}, np.random.default_rng(0)
    model = run.network(config, nnx.Rngs(0))
    batch = jnp.asarray(rng.random((9, 8, 4)) < 0.4, jnp.float32), jnp.arange(8) % 3
    found, bptt, otpe = (
        jax.tree.leaves(gradients(model, cross_entropy, *batch, rule=rule)[1])
        for rule in (run.rule_of(config)(), BPTT(), OTPE())
    )
    direction, length = (bptt, otpe) if way == "bptt_otpe_lengths" else (otpe, bptt)
    norm = np.linalg.norm
    assert max(abs(norm(one) / norm(other) - 1) for one, other in zip(bptt, otpe, strict=True)) > 0.1
    for one, along, long in zip(*(map(np.asarray, leaves) for leaves in (found, direction, length)), strict=True):
        np.testing.assert_allclose(one, along * norm(long) / norm(along), rtol=1e-4, atol=1e-9)


def test_costs_are_those_of_each_rule_in_the_windows_that_it_needs(monkeypatch):
    """One step with traces, a piece of TBPTT, else the sequence; and of OTPE in ten steps, and of BPTT that recomputes."""
    batch = (np.zeros((60, 2, 12), np.float32),)
    monkeypatch.setattr(cost, "recall", lambda *_: SimpleNamespace(sample=lambda *_, **__: batch))
    monkeypatch.setattr(cost, "gradient_programs", lambda model, made, batch: made)
    monkeypatch.setattr(cost, "costs", lambda made, repeats: {way: {"rule": rule} for way, (rule, _) in made.items()})
    monkeypatch.setattr(cost, "bytes_of", lambda model, rule, shape, window: window)
    ways = ["bptt", "otpe", "sltt", "tbptt_4", "stateless"]
    small = {"layers": [12, 6, 3], "n_steps": 60, "batch_size": 2, "repeats": 1}
    found = cost.compute(CONFIG | small | {"ways": ways})["costs"]
    windows = {"bptt": 60, "otpe": 1, "sltt": 1, "tbptt_4": 4, "recomputed": 60, "otpe_10": 10}
    for name in ("window", "bytes"):
        assert {way: of[name] for way, of in found.items()} == windows
    rules = {"bptt": BPTT(), "otpe": OTPE(), "tbptt_4": TBPTT(4), "recomputed": BPTT(remat=True), "otpe_10": OTPE()}
    assert {way: found[way]["rule"] for way in rules} == rules
    assert [run.piece_of(way) for way in ("tbptt_12_in_time", "bptt", "otpe_bptt_lengths")] == [12, None, None]


CHOSEN = {"chosen": {"learning_rate": 0.1}}


def test_a_rule_is_compared_with_the_best_pieces_that_need_no_more_memory(tmp_path):
    settings = settings_of("questions", "tiny")
    needs = {"sltt": 10, "tbptt_4": 30, "bptt": 90, "otpe": 60}
    results = []
    for way, measured in needs.items():
        seeds = [{"accuracy": measured / 100}, {"accuracy": measured / 200}]
        found = {"trials": CHOSEN, "seeds": seeds, "bytes": {"counted": 1, "measured": measured, "inputs": 7}}
        results.append(as_written(config_of("questions", f"recall/adam/{way}", settings, "tiny"), found))
    alone = config_of("questions", "recall/growth", settings, "tiny")
    least = {"bptt": 90.0, "recomputed": 20.0, "in_chunks": 50.0}
    longer = {way: {"48": 4 * needs, "12": needs} for way, needs in least.items()}
    results.append(as_written(alone, {"growth": longer, "inputs": {"48": 28, "12": 7}}))
    found, grown = map(tables("questions", results, tmp_path).get, ("questions_memory", "questions_growth"))
    expected = {(way, at): (str(n * of), str(n * 7)) for way, of in least.items() for at, n in (("12", 1), ("48", 4))}
    assert {(row["way"], row["steps"]): (row["measured_bytes"], row["input_bytes"]) for row in grown} == expected
    kept = {(row["way"], row["learns"]): (row["piece"], row["measured_bytes"], row["values"]) for row in found}
    pieces = (("1", "sltt"), ("4", "tbptt_4"), ("12", "bptt"), ("", "otpe"))
    itself = {(way, "itself"): (piece, way) for piece, way in pieces}
    assert {row["input_bytes"] for row in found} == {"7"}
    assert kept["recomputed", "itself"] == ("", "20.0", "0.9 0.45")  # learns what BPTT does
    assert all(kept[key][:2] == (piece, str(needs[way])) for key, (piece, way) in itself.items())
    assert kept["otpe", "truncation"] == ("4", "30", "0.3 0.15")


def test_over_long_gaps_truncation_gets_the_memory_and_the_time_of_otpe(tmp_path):
    """The best piece that fits, by memory without a longer training; none takes longer than OTPE; and what has the gradient of
    BPTT has its seeds."""
    ways = ["bptt", "otpe", "tbptt_2", "tbptt_4", "tbptt_6", "tbptt_2_in_time", "tbptt_6_in_time"]
    settings = settings_of("questions", "tiny")
    settings |= {"in_time": 2, "tasks": {"recall": settings["tasks"]["recall"] | {"rules": ways}}}
    needs = {"bptt": 90, "otpe": 50, "tbptt_2": 20, "tbptt_4": 40, "tbptt_6": 60, "recomputed": 30, "otpe_10": 70}
    config = config_of("questions", "recall/cost", settings, "tiny")
    assert config["ways"] == ways[:5] and not {"in_time", "steps", "seeds"} & config.keys()

    def cost_of(size):
        times = [size, 3 * size, 2 * size]
        return {"bytes": {"measured": size, "inputs": 7}, "milliseconds": times, "window": size // 10}

    results = [as_written(config, {"costs": {way: cost_of(size) for way, size in needs.items()}})]
    for way, accuracy in zip(ways, (0.99, 0.98, 0.5, 0.4, 0.8, 0.6, 0.7), strict=True):
        own = config_of("questions", f"recall/adam/{way}", settings, "tiny")
        seeds = [{"accuracy": accuracy - 0.01}, {"accuracy": accuracy}]
        results.append(as_written(own, {"trials": CHOSEN, "seeds": seeds}))
    table = {row["way"]: row for row in tables("questions", results, tmp_path)["questions_long"]}
    assert {way: (row["values"], row["batches"]) for way, row in table.items() if way not in ways} == {
        "recomputed": ("0.98 0.99", "5"),
        "otpe_10": ("0.97 0.98", "5"),
        "in_memory": ("0.49 0.5", "5"),
        "in_time": ("0.59 0.6", "10"),
    }
    got = {way: [row[name] for name in ("piece", "measured_bytes", "seconds")] for way, row in table.items()}
    assert got["in_memory"] == ["2", "20", "0.2"] and got["in_time"] == ["2", "20", "0.4"]
    assert got["otpe"][2] == "0.5" and got["tbptt_6"][2] == "0.6"  # more accurate, and longer than OTPE
    assert got["tbptt_6_in_time"] == ["6", "60", "1.2"] and table["tbptt_6_in_time"]["batches"] == "10"
    assert got["bptt"] == ["", "90", "0.9"] and got["recomputed"] == ["", "30", "0.3"]


COSINES = {"sltt": [0.1, 0.3], "ostl": [0.5, 0.2], "otpe": [0.9, 0.8], "e_prop": [0.9, 0.8]}


class Toy(Panel):
    """A task of the grid with two kinds of feedback, and rules of which two are the same."""

    layers = ("1", "2", "3")
    stages = ("trained",)

    def agreements(self, cell, stage, layer, quantity):
        return COSINES[cell.split("/")[0]] if cell != "sltt/direct" else [None, 0.1]

    def accuracies(self, cell):
        rule, route = cell.split("/")
        mean = {"sltt": 0.6, "ostl": 0.7}.get(rule, 0.8) - 0.1 * (route == "direct")
        return np.array([[mean - 0.1, mean + 0.1]] * 2)  # of two seeds, two test samples


def test_rank_correlations_are_over_cells_within_a_seed():
    """By hand: the ranks of the first seed are equal; in the second, two of three are exchanged, which is a half."""
    panel = Toy(("a", "time"), {"temporal": [*COSINES], "spatial": ["symmetric", "direct"]}, {}, {})
    sets = plot_alignment.sets_of(panel)
    assert len(sets["symmetric"]) == 3  # e-prop is OTPE here
    cosines, accuracies = sets["symmetric"].T.swapaxes(0, 1)
    assert ranks.rank_correlations(cosines, accuracies) == pytest.approx([1, 0.5])
    assert "other" not in sets  # one has no gradient, and two are too few
