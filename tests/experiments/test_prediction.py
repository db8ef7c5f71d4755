"""The experiment on prediction: what is predicted from what, and the baselines and numbers of its figure."""

import numpy as np
import pytest
from experiment_files import as_written, config_of, tables

from experiments.pipeline.job import settings_of
from experiments.pipeline.spikes import chorale_keys
from experiments.prediction import bach, laser


def config(job):
    return config_of("prediction", job, settings_of("prediction", "tiny"), scale="tiny")


def pieces(tmp_path, lengths):
    """Random pieces, as data/raw has them, and what the experiment makes of them."""
    rolls = [np.random.default_rng(length).random((length, 88)) < 0.1 for length in lengths]
    keys, counts = np.packbits(np.concatenate(rolls), axis=1), np.array(lengths, np.int32)
    stored = {
        f"{split}_{name}": of
        for split in ("train", "validation", "test")
        for name, of in (("keys", keys), ("lengths", counts))
    }
    np.savez(tmp_path / "bach.npz", **stored)
    return rolls, bach.whole(chorale_keys(tmp_path / "bach.npz")["test"])


def test_the_next_keys_are_to_be_predicted_in_whole_pieces_and_in_samples(tmp_path):
    rolls, whole = pieces(tmp_path, [9, 4, 6])
    for piece, roll in enumerate(rolls):
        inputs, targets, mask = (of[:, piece] for of in whole)
        assert (inputs[mask] == roll[:-1]).all() and (targets[mask] == roll[1:]).all()
    inputs, targets, mask = bach.cut(whole, 3)
    assert inputs.shape == (3, 6, 88) and (inputs[1:][mask[1:]] == targets[:-1][mask[1:]]).all()  # 3 + 1 + 2 samples
    both = (
        sorted(map(bytes, np.packbits(of[counts] > 0, axis=1)))
        for of, counts in ((targets, mask), (whole[1], whole[2]))
    )
    assert next(both) == next(both)


def test_baselines_of_bach_are_the_entropies_of_what_they_count(tmp_path):
    """On the pieces that they were counted in, the mean error is the entropy of the shares."""
    _, whole = pieces(tmp_path, [9, 4, 6])
    inputs, targets, mask = whole
    entropy = lambda p: -(p * np.log(p) + (1 - p) * np.log1p(-p))
    before, after = inputs[mask] > 0, targets[mask]
    shares = np.where(before, after[before].mean(), after[~before].mean())
    found = {name: of.sum() / mask.sum() for name, of in bach.counted(whole, whole).items()}
    assert found["persistence"] == pytest.approx(entropy(shares).sum(axis=1).mean(), rel=1e-5)
    rates = after.mean(axis=0)[after.any(axis=0)]
    assert entropy(rates).sum() < found["frequencies"] < entropy(rates).sum() + 88 / mask.sum()


def test_ridge_regression_knows_what_came_before_alone():
    series, lags, penalty = np.random.default_rng(0).normal(size=30), 4, 0.7
    found = laser.ridge(series, lags, penalty)
    past = [np.append(np.pad(series, (lags - 1, 0))[at : at + lags], 1) for at in range(29)]
    for at in (0, 10, 28):
        X, y = np.array(past[:at]).reshape(-1, 5), series[1 : at + 1]
        assert found[at] == pytest.approx(past[at] @ np.linalg.solve(X.T @ X + penalty * np.eye(5), X.T @ y), abs=1e-9)


def test_a_network_predicts_a_value_before_it_learns_it():
    """Another value changes no prediction of its window, and those of the next one."""
    series = np.random.default_rng(0).normal(size=21)
    other = np.append(series[:12], [5.0, *series[13:]])
    one, two = (
        laser.predictions(config("laser/ottt"), of, np.array([0]), np.array([0.01]))[0] for of in (series, other)
    )
    assert (one[:12] == two[:12]).all() and one[12] != two[12] and (one[15:] != two[15:]).all()
    still = laser.predictions(config("laser/ottt"), series, np.array([0]), np.array([0.0]))[0]
    assert (still[:5] == one[:5]).all() and (still[5:] != one[5:]).any()


def test_numbers_are_means_over_steps_and_nmse_is_1_for_the_mean(tmp_path):
    results = [as_written(config("bach/gru"), {"steps": [10, 30], "nats": {"offline": [[20.0, 30.0], [40.0, 60.0]]}})]
    results += [as_written(config("bach/counted"), {"steps": [10, 30], "nats": {"frequencies": [[20.0, 40.0]]}})]
    rows = {row["way"]: row for row in tables("prediction", results, tmp_path)["prediction"] if row["task"] == "bach"}
    assert rows["gru"]["values"] == "1.25 2.5" and rows["frequencies"]["values"] == "1.5 1.5"
    series = np.random.default_rng(0).normal(size=801)
    counts = config("laser/ottt") | {"late": 800, "washout": 0}
    assert laser.measure(counts, series, np.full(800, series[1:].mean()))["nmse"] == pytest.approx(1)
