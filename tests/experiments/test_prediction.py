"""The experiment on prediction: what is predicted from what, its baselines, and how errors are averaged."""

import jax
import numpy as np
import pytest
from experiment_files import config_of
from flax import nnx

from experiments.drawing.names import OTHER_UNITS
from experiments.pipeline.job import settings_of
from experiments.pipeline.spikes import chorale_keys
from experiments.prediction import bach, laser


@pytest.fixture
def pieces(tmp_path):
    """Random pieces, as data/raw has them, and what the experiment makes of them."""
    rolls = [np.random.default_rng(length).random((length, 88)) < 0.1 for length in (9, 4, 6)]
    parts = {"keys": np.packbits(np.concatenate(rolls), axis=1), "lengths": np.array([9, 4, 6])}
    arrays = {f"{split}_{name}": parts[name] for split in ("train", "validation", "test") for name in parts}
    np.savez(tmp_path / "bach.npz", **arrays)
    return rolls, bach.whole(chorale_keys(tmp_path / "bach.npz")["test"])


def test_the_next_keys_are_to_be_predicted_in_whole_pieces_and_in_samples(pieces):
    rolls, whole = pieces
    for piece, roll in enumerate(rolls):
        inputs, targets, mask = (of[:, piece] for of in whole)
        assert (inputs[mask] == roll[:-1]).all() and (targets[mask] == roll[1:]).all()
    inputs, targets, mask = bach.cut(whole, 3)  # 3 + 1 + 2 samples
    assert inputs.shape == (3, 6, 88) and mask.sum() == 16
    assert (inputs[1:][mask[1:]] == targets[:-1][mask[1:]]).all() and targets[mask].sum() == whole[1][whole[2]].sum()


def test_baselines_of_bach_are_the_entropies_of_what_they_count(pieces):
    """On the pieces that they were counted in; a key that never sounds has half a step in all of them."""

    def entropy(p, shares):
        return -np.sum(p * np.log(shares) + (1 - p) * np.log1p(-shares), axis=-1).mean()

    inputs, targets, mask = pieces[1]
    before, after = inputs[mask] > 0, targets[mask]
    stays, often = np.where(before, after[before].mean(), after[~before].mean()), after.mean(axis=0)
    expected = {"frequencies": entropy(often, often.clip(0.5 / 16, 1 - 0.5 / 16)), "persistence": entropy(stays, stays)}
    assert {name: of.mean() for name, of in bach.counted(*[pieces[1]] * 2).items()} == pytest.approx(expected, rel=1e-5)


def test_networks_that_are_compared_have_as_many_parameters():
    """On Bach within 2 percent; the ways on the laser have their names, and rate units the weights that LIF has."""
    full = settings_of("prediction", "full")["tasks"]

    def size(module, task, way):
        model = nnx.eval_shape(lambda: module.network(full[task] | {"way": way}, nnx.Rngs(0)))
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))

    spiking = size(bach, "bach", "ottt")
    assert all(abs(size(bach, "bach", way) / spiking - 1) < 0.02 for way in ("gru", "lru"))
    assert size(laser, "laser", "rate_rflo") == size(laser, "laser", "rflo")
    assert {*laser.OTHER_UNITS, *bach.RULE_OF} == {*OTHER_UNITS}


def test_ridge_regression_knows_what_came_before_alone():
    series, lags, penalty = np.random.default_rng(0).normal(size=30), 4, 0.7
    found = laser.ridge(series, lags, penalty)
    past = np.array([np.append(np.pad(series, (lags - 1, 0))[at : at + lags], 1) for at in range(29)])
    for at in (1, 10, 28):
        weights = np.linalg.solve(past[:at].T @ past[:at] + penalty * np.eye(5), past[:at].T @ series[1 : at + 1])
        assert found[at] == pytest.approx(past[at] @ weights, abs=1e-9)


def test_a_network_predicts_a_value_before_it_learns_it():
    """Another value changes no prediction before it, and later ones by what the network then learned and saw."""
    config = config_of("prediction", "laser/ottt", settings_of("prediction", "tiny"), scale="tiny")
    series = np.random.default_rng(0).normal(size=21)
    other = np.append(series[:12], [5.0, *series[13:]])
    one, two, still = (
        laser.predictions(config, of, np.array([0]), np.array([rate]))[0]
        for of, rate in ((series, 0.01), (other, 0.01), (series, 0.0))
    )
    assert (one[:12] == two[:12]).all() and (one[15:] != two[15:]).all()
    assert (still[:5] == one[:5]).all() and (still[5:] != one[5:]).all()  # an update after each five steps
    counts = config | {"late": 20, "washout": 0}
    assert laser.measure(counts, series, np.full(20, series[1:].mean()))["late"] == pytest.approx(1)
