"""Checkpoints: a run that was killed and started again is the run that was never killed, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import ALIF, LI, LIF, Dropout, Trainable, connect
from slax_rules import (
    BPTT,
    OSTL,
    UORO,
    Adaptive,
    Checkpoints,
    EarlyStopping,
    EProp,
    Every,
    Sampler,
    accuracy,
    cross_entropy,
    evaluate,
    fit,
    load_weights,
    save_weights,
)
from slax_rules.training.weights import differences
from training import small
from training.small import MOMENTUM, C, Killed, N, batch, made, numbers, sample

PLAIN = BPTT()


def run(
    directory, *, rule=PLAIN, die_at=None, nodes=None, seed=1, every=2, keep=3, evaluate_every=3, best=None, **more
):
    """Trains; returns all numbers of the run."""

    def die(info):
        if info.step == die_at:
            raise Killed

    model, optimizer = nodes or made()
    history = fit(
        model,
        optimizer,
        cross_entropy,
        Sampler(sample, jax.random.key(seed), steps=4),
        rule=rule,
        epochs=2,
        callbacks=[Every(1, die), Every(3, lambda info: {"kernel": info.model.modules[0].kernel[...].sum()})],
        held_out=[batch(2)],
        evaluate_every=evaluate_every,
        early_stopping=EarlyStopping(patience=9, restore_best=True),
        checkpoints=Checkpoints(directory, every=every, keep=keep, best=best),
        **more,
    )
    arrays = [array.tolist() for array in numbers(model, rule, optimizer)]
    return arrays, history.losses.tolist(), history.records, history.best_step


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was never killed, and its directory, to be copied."""
    directory = tmp_path_factory.mktemp("finished")
    return run(directory), directory


@pytest.fixture
def directory(finished, tmp_path):
    return shutil.copytree(finished[1], tmp_path / "run")


def steps(directory):
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def process(*arguments, killed=False):
    """Runs killed_run.py."""
    command = [sys.executable, Path(__file__).with_name("killed_run.py"), *arguments]
    done = subprocess.run(list(map(str, command)), env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr


def test_a_killed_process_goes_on_as_if_it_had_never_been_killed(tmp_path):
    """SIGKILL while a checkpoint is written, then between two of them."""
    killed = (tmp_path / "killed", tmp_path / "killed.txt")
    process(*killed, "writing", 4, killed=True)
    assert list((tmp_path / "killed").glob(".*.part"))
    process(*killed, "step", 11, killed=True)
    process(*killed, "never", 0, tmp_path / "whole", tmp_path / "whole.txt")
    assert (tmp_path / "killed.txt").read_text() == (tmp_path / "whole.txt").read_text()
    assert not list((tmp_path / "killed").glob(".*.part"))


@pytest.mark.parametrize("die_at", [1, 2, 5, 8])
def test_a_run_that_stops_at_any_step_goes_on_from_the_checkpoint_before(die_at, finished, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "run", die_at=die_at)
    assert steps(tmp_path / "run") == list(range(2, die_at, 2))[-3:]
    assert run(tmp_path / "run") == finished[0]


@pytest.mark.parametrize("kind", ["random numbers", "parameters"])
def test_the_numbers_of_a_rule_go_on_too(kind, tmp_path):
    """A random stream and feedback weights: they change in training, and a run that was killed ends with the same ones."""

    def start(directory, **options):
        model, optimizer = made()
        rule = UORO(rngs=nnx.Rngs(7)) if kind == "random numbers" else EProp(route=Adaptive(model, rngs=nnx.Rngs(7)))
        if kind == "parameters":
            optimizer = nnx.Optimizer((model, rule), MOMENTUM, wrt=nnx.Param)
        before = numbers(rule)
        found = run(tmp_path / directory, nodes=(model, optimizer), rule=rule, **options)
        assert any((one != two).any() for one, two in zip(before, numbers(rule), strict=True))
        return found

    whole = start("whole")
    with pytest.raises(Killed):
        start("run", die_at=6)
    assert steps(tmp_path / "run") == [2, 4]
    assert start("run") == whole


def test_a_finished_run_is_returned_as_it_was_and_the_newest_are_kept(finished, directory):
    assert run(directory) == finished[0]
    assert steps(directory) == [4, 6, 8]


def test_evaluation_at_the_end_of_an_epoch_is_made_once(tmp_path):
    """The last checkpoint is of the last step, and older than the evaluation after it."""
    whole = run(tmp_path / "whole", evaluate_every=None)
    assert [record["step"] for record in whole[2] if "loss" in record] == [4, 8]
    with pytest.raises(Killed):
        run(tmp_path / "run", evaluate_every=None, die_at=5)
    assert run(tmp_path / "run", evaluate_every=None) == whole
    assert run(tmp_path / "run", evaluate_every=None) == whole


def damaged(content, kind):
    at = int(len(content) * kind) if isinstance(kind, float) else len(content) // 2
    return content[:at] + (b"" if kind == "shorter" else bytes([content[at] ^ 1]) + content[at + 1 :])


@pytest.mark.parametrize("kind", ["shorter", 0.1, 0.3, 0.6, 0.9, 0.99])
def test_a_damaged_checkpoint_is_refused_or_nothing_was_lost(kind, finished, directory):
    newest = directory / "8"
    newest.write_bytes(damaged(newest.read_bytes(), kind))
    try:
        assert run(directory) == finished[0]
    except ValueError as error:
        text = str(error)
        assert f"The checkpoint of step 8 in {directory} is damaged" in text or "is of another run" in text
    else:
        assert kind != "shorter"
    newest.unlink()
    assert run(directory) == finished[0]


def test_a_checkpoint_under_the_name_of_another_step_is_refused(directory):
    (directory / "8").rename(directory / "99")
    with pytest.raises(
        ValueError, match=r"step 99 in .* is damaged: it was saved as that of step 8\. .*/99 to continue"
    ):
        run(directory)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"nodes": "wider"}, r"model/modules/0/bias: float32\[6\] saved, float32\[7\] here"),
        ({"nodes": "adamax"}, r"optimizer/opt_state/0/count: nothing saved, int32\[\] here"),
        ({"rule": OSTL()}, r"rule: BPTT\(remat=False\) saved, OSTL\(route=Symmetric\(\), recurrence=False\) here"),
        ({"seed": 3}, r"key: \[0, 1\] saved, \[0, 3\] here"),
        ({"window": 2}, "window: None saved, 2 here"),
        ({"update": "online"}, "update: offline saved, online here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_says_what_differs(options, message, directory):
    nodes = {"wider": lambda: made(hidden=7), "adamax": lambda: made(optax.adamax(0.1)), None: made}
    with pytest.raises(ValueError, match=message):
        run(directory, **options | {"nodes": nodes[options.get("nodes")]()})


def test_weights_of_the_best_evaluation_are_beside_the_checkpoints(tmp_path):
    """Killed and gone on with; loaded into a plain model, which then makes the numbers of that evaluation."""
    options = {"best": "loss", "evaluate_every": 1, "metrics": {"accuracy": accuracy}}
    jumps = optax.sgd(2.0)
    with pytest.raises(Killed):
        run(tmp_path, nodes=made(jumps), die_at=7, **options)
    records = run(tmp_path, nodes=made(jumps), **options)[2]
    losses = np.array([record["loss"] for record in records if "loss" in record])
    assert 0 < losses.argmin() < len(losses) - 1  # neither the first nor the last
    model, _ = made()
    load_weights(tmp_path / "best", model)
    assert evaluate(model, cross_entropy, [batch(2)])["loss"] == losses.min()


@pytest.mark.parametrize("folder", ["", "8"])
def test_weights_of_a_checkpoint_are_loaded(folder, directory):
    model, other = made()[0], made()
    load_weights(directory / folder, model)
    fit(*other, cross_entropy, Sampler(sample, jax.random.key(1), steps=4), epochs=2)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(other[0]))


def test_a_best_that_cannot_be_compared_is_an_error(tmp_path):
    """As in early stopping: NaN would stay the best for ever, or be passed over in silence."""
    nan = {"error": lambda outputs, labels: jnp.nan * outputs.sum()}
    checkpoints = Checkpoints(tmp_path, best="error", mode="min")
    with pytest.raises(ValueError, match="Checkpoints got NaN for 'error' at step 4, expected a comparable number"):
        fit(*made(), cross_entropy, small.BATCHES, held_out=[batch(2)], metrics=nan, checkpoints=checkpoints)


def test_checkpoints_that_cannot_be_written_end_the_run_and_hide_no_other_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"Checkpoints could not be written to .*: Not a directory\. Make it writable, or"
    ):
        run(tmp_path / "file" / "run")

    def full(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(
        OSError, match=r"A checkpoint could not be written to .*2: No space left on device. It takes up to"
    ):
        run(tmp_path / "run")
    with pytest.raises(Killed) as raised:
        run(tmp_path / "run", die_at=3)
    assert "A checkpoint could not be written" in raised.value.__notes__[0]
    monkeypatch.undo()
    assert steps(tmp_path / "run") == [] and not list((tmp_path / "run").glob(".*"))


# --------------------------------------------------------------------------------------------------------------- weights


def all_kinds(seed, dtype=jnp.float32):
    """A model with each kind of variable: nested, over an edge, statistics, constants, a random stream, half precision."""
    rngs = nnx.Rngs(seed)
    synapse = nnx.Linear(6, 6, rngs=rngs, param_dtype=dtype)
    inner = connect([synapse, ALIF(beta=Trainable(1.0 + seed), param_dtype=dtype)], {0: [1]}, rngs=rngs)
    decay = np.linspace(0.5, 0.9, 6) - seed / 10
    return connect([nnx.BatchNorm(6, rngs=rngs), inner, Dropout(0.1, rngs=rngs), LIF(decay=decay, param_dtype=dtype)])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_saved_weights_are_those_that_are_loaded(dtype, tmp_path):
    model, other = all_kinds(0, dtype), all_kinds(1, dtype)
    key = np.asarray(jax.random.key_data(other.modules[2].rngs.key[...]))
    model.modules[0].mean[...] += 0.5
    save_weights(tmp_path / "weights", model)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    load_weights(tmp_path / "weights", other)
    kept = nnx.Not(nnx.RngState)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(other, kept))} == {
        jnp.dtype(jnp.float32),
        jnp.dtype(dtype),
    }
    jax.tree.map(np.testing.assert_array_equal, nnx.state(other, kept), nnx.state(model, kept))
    np.testing.assert_array_equal(jax.random.key_data(other.modules[2].rngs.key[...]), key)


def test_saved_decays_and_thresholds_win_unless_they_are_fixed_numbers(tmp_path):
    def pair(decay, thresholds, number):
        trained = LIF(decay=Trainable(decay), threshold=jnp.array(thresholds))
        return connect([trained, LIF(decay=number, threshold=number)])

    save_weights(tmp_path / "weights", pair(0.5, [1.0, 2.0], 0.6))
    other = pair(0.9, [0.3, 0.4], 0.7)
    load_weights(tmp_path / "weights", other)
    x, (trained, fixed) = jnp.zeros(2), other.modules
    np.testing.assert_allclose(trained.decay(x), 0.5, rtol=1e-6)
    np.testing.assert_array_equal(trained.threshold(x), [1.0, 2.0])
    np.testing.assert_allclose([fixed.decay(x), fixed.threshold(x)], 0.7, rtol=1e-6)


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda: made(hidden=7)[0], r"0 Linear/bias: float32\[6\] saved, float32\[7\] here"),
        (lambda: made(dtype=jnp.float16)[0], r"0 Linear/bias: float32\[6\] saved, float16\[6\] here"),
        (
            lambda: connect([nnx.Linear(N, 6, rngs=nnx.Rngs(0)), ALIF(), nnx.Linear(6, C, rngs=nnx.Rngs(0)), LI()]),
            "1 ALIF: LIF saved, ALIF here",
        ),
        (lambda: nnx.Linear(N, 6, rngs=nnx.Rngs(0)), "model: Connect saved, Linear here"),
    ],
)
def test_weights_of_another_model_are_refused_and_the_model_stays(other, message, tmp_path):
    save_weights(tmp_path / "weights", made()[0])
    model = other()
    before = numbers(model)
    with pytest.raises(ValueError, match=f"are of another model: .*{message}"):
        load_weights(tmp_path / "weights", model)
    assert small.same(numbers(model), before)


def test_eight_differences_are_told():
    eight, nine = ({str(number): 1 for number in range(count)} for count in (8, 9))
    assert "more" not in differences(eight, {}) and differences(nine, {}).endswith("; and 1 more")


def test_weights_that_are_not_there_or_something_else_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="weights, which does not exist"):
        load_weights(tmp_path / "weights", made()[0])
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none\. Make it first"):
        save_weights(tmp_path / "none" / "weights", made()[0])
    (tmp_path / "text").write_text("not weights")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("text", "arrays.npz", "array.npy"):
        told = f"{name} is damaged, or holds no weights: .* Expected a file that save_weights wrote"
        with pytest.raises(ValueError, match=told):
            load_weights(tmp_path / name, made()[0])
    with pytest.raises(ValueError, match="holds no checkpoint, expected one that fit wrote"):
        load_weights(tmp_path, made()[0])


def test_damaged_weights_are_refused_or_nothing_was_lost(tmp_path):
    """A bit in a hundred places of the file, and every tenth of its length: never other numbers, and always a ValueError."""
    saved, path = made()[0], tmp_path / "weights"
    save_weights(path, saved)
    content = path.read_bytes()
    places = np.random.default_rng(0).integers(0, len(content), 100)
    files = [content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :] for i in map(int, places)]
    files += [content[: len(content) * tenth // 10] for tenth in range(10)]
    refused = 0
    for content in files:
        path.write_bytes(content)
        model, _ = made()
        model.modules[0].kernel[...] *= 2
        try:
            load_weights(path, model)
            assert small.same(numbers(model), numbers(saved))
        except ValueError as error:
            assert "damaged" in str(error) or "of another model" in str(error)
            refused += 1
    assert refused > 50


def test_weights_that_fail_to_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    save_weights(tmp_path / "weights", made()[0])
    before = (tmp_path / "weights").read_bytes()

    def full(*arguments, **arrays):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"The weights could not be written to .*: No space left on device"):
        save_weights(tmp_path / "weights", made()[0])
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("weights", before)]
