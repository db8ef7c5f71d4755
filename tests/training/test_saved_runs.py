"""A sweep with a directory trains each run once: one that was killed continues, and one of another kind is refused."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import LI, LIF, Dropout, connect, sigmoid
from slax_rules.train.sweep_training import Training
from training import small

RULES = {"bptt": sr.BPTT(), "a/b, c": sr.OTTT()}


def make_model(rngs, width=6, decay=0.9, scale=1.0, dropout=0.0, **options):
    init = nnx.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
    first = nnx.Linear(5, width, kernel_init=init, rngs=rngs)
    dropped = [Dropout(dropout, rngs=rngs)] if dropout else []
    return connect([first, LIF(decay=decay, **options), *dropped, nnx.Linear(width, 3, rngs=rngs), LI()])


def clipped(norm, decay=0.0, **options):
    """Optimizers of the same arrays."""
    return lambda rate: optax.chain(
        optax.clip_by_global_norm(norm), optax.add_decayed_weights(decay), optax.adam(rate, **options)
    )


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


@pytest.fixture(autouse=True, scope="module")
def _promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


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
def finished(_promotion, tmp_path_factory):
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


KILLED = """
import os, signal, sys
from training import test_saved_runs
written, replace = [], os.replace

def killed(*names):
    written.append(names)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)

os.replace = killed
test_saved_runs.noisy(sys.argv[1])
"""


def test_a_killed_sweep_continues_as_if_it_had_never_been_killed(tmp_path):
    """SIGKILL while the third of eight runs has its temporary name."""
    command = [sys.executable, "-c", KILLED, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL, done.stderr
    (part,) = tmp_path.glob(".*.part")
    assert len(list(tmp_path.glob("*.npz"))) == 2
    os.utime(part, (time.time() - 3601,) * 2)  # older than any that a process still writes
    assert numbers(noisy(tmp_path)) == numbers(noisy()) and not part.exists()


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


def test_numbers_of_numpy_jax_and_python_are_the_same_run(tmp_path, trained):
    one = {"rules": {"bptt": sr.BPTT()}, "seeds": 1}
    first = run(tmp_path, rates=[1], evaluate_at=np.array([2, 1, 1]), settings={"width": jnp.array([6])}, **one)
    run(tmp_path, rates=jnp.array([1.0]), evaluate_at=(1, 2, 3), settings={"width": [6]}, **one)  # 3 is the end
    assert len(trained) == 1 and first.chosen == {"bptt": {"rate": 1.0, "width": 6}}
    assert [type(value) for value in first.chosen["bptt"].values()] == [float, int]
    assert first.best["bptt"][0].steps == (1, 2, 3)


def test_two_processes_may_finish_the_same_run(tmp_path, monkeypatch, trained):
    """The second trains and writes all runs while the first writes its first one, and then the first reads the other."""
    synced, sync = [], os.fsync

    def other():
        with jax.numpy_dtype_promotion("standard"):
            synced.append(run(tmp_path, rules={"bptt": sr.BPTT()}))

    def fsync(file):
        if not synced:
            synced.append(None)
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            assert len(list(tmp_path.glob(".*.part"))) == 1  # that of the first
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    found = run(tmp_path, rules={"bptt": sr.BPTT()})
    assert trained == [("bptt", 0.1, 0), ("bptt", 0.1, 0), ("bptt", 0.1, 1)]
    assert numbers(found) == numbers(synced[1]) and len(list(tmp_path.iterdir())) == 2


def mean_loss(outputs, labels):
    return sr.cross_entropy(outputs, labels).mean()


def mean_square(outputs, labels):
    return (outputs**2).mean(axis=-1)


OTHERS = {  # and what the message says of them
    "model": ({"make_model": lambda rngs: make_model(rngs, width=8)}, r"modules/0/kernel: float32\[5, 6\] saved"),
    "option": ({"make_model": lambda rngs: make_model(rngs, decay=0.8)}, "decay"),
    "surrogate": (
        {"make_model": lambda rngs: make_model(rngs, spike_fn=sigmoid(3.0))},
        r"spike_fn: Surrogate\(derivative=slax_neurons.surrogates._fast_sigmoid, options=\[25.0\]\) saved, "
        r"Surrogate\(derivative=slax_neurons.surrogates._sigmoid, options=\[3.0\]\) here",
    ),
    "loss": ({"loss_fn": mean_square}, "loss: slax_rules.losses.cross_entropy saved, .*mean_square here"),
    **{
        name: ({"optimizer": other}, "norms of the optimizer's first updates")
        for name, other in (("clipping", clipped(0.5)), ("decay", clipped(1.0, 1e-4)), ("b2", clipped(1.0, b2=0.99)))
    },
    "weights": ({"make_model": lambda rngs: make_model(rngs, scale=0.5)}, "weights at the start"),
    "number of batches": ({"batches": lambda seed: batches(seed, 5)}, "batches: 3 saved, 5 here"),
    "data": ({"batches": lambda seed: batches(seed + (seed == 1))}, "last batch: .*digest"),  # of one seed
    "update": ({"update": "online", "window": 2}, "update: offline saved, online here; window: None saved, 2 here"),
    "rule": ({"rules": {"bptt": sr.BPTT(remat=True)}}, r"rule: BPTT\(remat=False\) saved, BPTT\(remat=True\) here"),
    "optimizer": ({"optimizer": optax.sgd}, "optimizer/opt_state/.*nothing here"),
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


def test_the_order_of_a_loader_is_not_compared_but_the_number_of_its_batches_is(tmp_path, trained):
    one = {"rules": {"bptt": sr.BPTT()}, "seeds": 1, "batches": small.Shuffled(batches(0))}
    first, second = run(tmp_path, **one), run(tmp_path, **one)
    np.testing.assert_array_equal(first.best["bptt"][0].losses, second.best["bptt"][0].losses)
    assert len(trained) == 1


def test_of_a_sampler_the_last_batch_alone_is_drawn_and_compared(tmp_path, monkeypatch):
    def sample(key):
        return jax.random.bernoulli(key, 0.4, (7, 4, 5)).astype(jnp.float32), jnp.arange(4) % 3

    drawn, batch = [], sr.Sampler.batch
    one = {"rules": {"bptt": sr.BPTT()}, "batches": sr.Sampler(sample, jax.random.key(0), 3)}
    run(tmp_path, **one)
    monkeypatch.setattr(sr.Sampler, "batch", lambda self, *at: drawn.append(at) or batch(self, *at))
    run(tmp_path, **one)
    assert drawn == [(0, 2), (1, 2)]
    with pytest.raises(ValueError, match=r"last batch: .*digest"):
        run(tmp_path, **one | {"batches": sr.Sampler(sample, jax.random.key(1), 3)})


def test_settings_without_a_name_and_folders_that_cannot_be_written_to_are_refused(tmp_path):
    with pytest.raises(TypeError, match="expected numbers and strings"):
        run(tmp_path, settings={"decay": [lambda: 0.9]})
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"The runs of sweep could not be written to .*: Not a directory"):
        run(tmp_path / "file" / "runs")
