"""A sweep with a directory trains each run once: one that was killed continues, and one of another kind is refused."""

import os

import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import LI, LIF, Dropout, connect, sigmoid
from slax_rules.train.sweep_training import Training
from training import small

pytestmark = pytest.mark.usefixtures("standard_promotion")
RULES = {"bptt": sr.BPTT(), "a/b, c": sr.OTTT()}


def make_model(rngs, width=6, decay=0.9, scale=1.0, dropout=0.0, **options):
    init = nnx.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
    first = nnx.Linear(5, width, kernel_init=init, rngs=rngs)
    dropped = [Dropout(dropout, rngs=rngs)] if dropout else []
    return connect([first, LIF(decay=decay, **options), *dropped, nnx.Linear(width, 3, rngs=rngs), LI()])


def clipped(norm):
    """Optimizers of the same arrays."""
    return lambda rate: optax.chain(optax.clip_by_global_norm(norm), optax.adam(rate))


CLIPPED = clipped(1.0)  # one object: another one would be another program


def batches(seed, count=3):
    rng = np.random.default_rng(seed)
    return [((rng.random((7, 4, 5)) < 0.4).astype(np.float32), rng.integers(0, 3, 4)) for _ in range(count)]


def run(
    directory=None, *, make_model=make_model, optimizer=CLIPPED, loss_fn=sr.cross_entropy, batches=batches, **changes
):
    given = {"rules": RULES, "rates": [0.1], "seeds": 2, "progress": False}
    given |= {"validation": batches_of(100), "test": batches_of(200)}
    return sr.sweep(make_model, optimizer, loss_fn, batches, directory=directory, **given | changes)


def batches_of(first):
    return lambda seed: batches(first + seed, 1)


@pytest.fixture
def trained(monkeypatch):
    """The (rule, rate, seed) of the runs that are trained."""
    found, train = [], Training.train

    def spied(self, objects, rule, point, seed):
        found.append((rule, point["rate"], seed))
        return train(self, objects, rule, point, seed)

    monkeypatch.setattr(Training, "train", spied)
    return found


@pytest.fixture(scope="module")
def finished(standard_promotion, tmp_path_factory):
    """A sweep that ended, and its directory, which tests leave as it is."""
    directory = tmp_path_factory.mktemp("finished")
    return run(directory), directory


def numbers(found):
    """All numbers of a sweep, as text and bytes."""
    runs = [run for trials in found.trials.values() for of_point in trials for run in of_point]
    arrays = [array for run in runs for step in run.steps for array in small.numbers(*run.network(step))]
    texts = [repr([run.rule, run.point, run.seed, run.not_finite, run.validation, run.test]) for run in runs]
    return [*texts, *(array.tobytes() for array in [*arrays, *(run.losses for run in runs)]), repr(found.rows())]


def noisy(directory=None):
    """Eight runs with the random numbers of Dropout and of DECOLLE."""
    rules = {"bptt": sr.BPTT(), "decolle": sr.RULES["decolle"].make}
    return run(directory, rules=rules, rates=[0.01, 0.1], settings={"dropout": [0.2]}, evaluate_at=(0, 2))


def test_a_killed_sweep_continues_as_if_it_had_never_been_killed(tmp_path, monkeypatch):
    """While the third of eight runs gets its name."""
    whole, written, replace = noisy(), [], os.replace

    def killed(*names):
        written.append(names)
        if len(written) == 3:
            raise small.Killed
        replace(*names)

    with monkeypatch.context() as patch, pytest.raises(small.Killed):
        patch.setattr(os, "replace", killed)
        noisy(tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    assert numbers(noisy(tmp_path)) == numbers(whole)


def test_a_finished_sweep_is_read_and_the_same(finished, trained):
    """Also by a call with other scores, which need no training."""
    whole, directory = finished
    found = [run(directory), run(directory, metric=mean_loss, mode="min")]
    assert not trained and numbers(found[0]) == numbers(whole) == numbers(run())
    np.testing.assert_array_equal(found[1].test("bptt"), run(metric=mean_loss, mode="min").test("bptt"))


def test_more_rules_rates_settings_and_seeds_train_the_missing_runs_alone(tmp_path, trained):
    run(tmp_path, rules={"bptt": sr.BPTT()}, seeds=[1])
    assert trained == [("bptt", 0.1, 1)]
    run(tmp_path, seeds=2, rates=[0.1, 0.01])
    new = [("bptt", 0.01, 0), ("bptt", 0.01, 1), ("bptt", 0.1, 0)]
    new += [("a/b, c", rate, seed) for rate in (0.01, 0.1) for seed in (0, 1)]
    assert trained[1:] == new
    run(tmp_path, settings={"width": [6]})  # a setting that is named is another point
    assert len(trained) == 8 + 4
    run(tmp_path, settings={"width": list(np.array([7, 6]))})
    assert len(trained) == 12 + 4


def mean_loss(outputs, labels):
    return sr.cross_entropy(outputs, labels).mean()


def mean_square(outputs, labels):
    return (outputs**2).mean(axis=-1)


OTHERS = {  # and what the message says of them
    "model": ({"make_model": lambda rngs: make_model(rngs, width=8)}, r"modules/0/kernel: float32\[5, 6\] saved"),
    "surrogate": ({"make_model": lambda rngs: make_model(rngs, spike_fn=sigmoid(3.0))}, r"spike_fn: .*_sigmoid.* here"),
    "loss": ({"loss_fn": mean_square}, "loss: slax_rules.losses.cross_entropy saved, .*mean_square here"),
    "optimizer": ({"optimizer": clipped(0.5)}, "norms of the optimizer's first updates"),
    "weights": ({"make_model": lambda rngs: make_model(rngs, scale=0.5)}, "weights at the start"),
    "data": ({"batches": lambda seed: batches(seed + (seed == 1))}, "last batch: .*digest"),  # of one seed
    "update": ({"update": "online", "window": 2}, "update: offline saved, online here; window: None saved, 2 here"),
    "rule": ({"rules": {"bptt": sr.BPTT(remat=True)}}, r"rule: BPTT\(remat=False\) saved, BPTT\(remat=True\) here"),
    "evaluated": ({"evaluate_at": (2,)}, r"evaluate_at: \[\] saved, \[2\] here"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_directory_of_another_sweep_is_refused_before_any_training(name, finished, trained):
    """Also where the first rule is new."""
    changes, said = OTHERS[name]
    rules = {"new": sr.SLTT()} | changes.get("rules", RULES)
    before = sorted(finished[1].iterdir())
    with pytest.raises(ValueError, match=f"(?s)from another sweep: .*{said}.* use another directory"):
        run(finished[1], **changes | {"rules": rules})
    assert not trained and sorted(finished[1].iterdir()) == before
