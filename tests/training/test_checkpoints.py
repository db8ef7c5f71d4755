"""Checkpoints: a run that was killed and started again is the run that was never killed, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from slax_rules.loop.entry import Program
from slax_rules.loop.split import split

import slax_rules as sr
from slax_neurons import ALIF, LIF, Dropout, Trainable, connect
from slax_rules.training.run_identity import compared_data, describe_batch, describe_run
from training.small import BATCHES, SAMPLER, Killed, batch, killed_at, made, numbers, optimizer_of, same

PLAIN = sr.BPTT()


def run(directory, *, rule=PLAIN, die_at=None, nodes=None, evaluate_every=3, **more):
    """Trains; returns all numbers of the run."""
    model, optimizer = nodes or made()
    looks = [killed_at(die_at), sr.Every(3, lambda info: {"kernel": info.model.modules[0].kernel[...].sum()})]
    options = {"rule": rule, "epochs": 2, "callbacks": looks, "held_out": [batch(2)], "evaluate_every": evaluate_every}
    options |= {"early_stopping": sr.EarlyStopping(patience=9, restore_best=True)} | more
    where = sr.Checkpoints(directory, every=2)
    history = sr.fit(model, optimizer, sr.cross_entropy, SAMPLER, checkpoints=where, **options)
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
    """SIGKILL while a checkpoint is written."""
    killed = (tmp_path / "killed", tmp_path / "killed.txt")
    process(4, *killed, killed=True)
    assert list((tmp_path / "killed").glob(".*.part"))
    process(0, *killed, tmp_path / "whole", tmp_path / "whole.txt")
    assert (tmp_path / "killed.txt").read_text() == (tmp_path / "whole.txt").read_text()
    assert not list((tmp_path / "killed").glob(".*.part"))


RULES = {
    "plain": lambda model: PLAIN,
    "random numbers": lambda model: sr.UORO(rngs=nnx.Rngs(7)),
    "parameters": lambda model: sr.EProp(route=sr.Adaptive(model, rngs=nnx.Rngs(7))),
}


@pytest.mark.parametrize(
    "kind, die_at", [*(("plain", at) for at in (1, 2, 5, 8)), ("random numbers", 6), ("parameters", 6)]
)
def test_a_run_that_stops_at_any_step_goes_on_from_the_checkpoint_before(kind, die_at, tmp_path):
    """With random streams and feedback weights of a rule too, which change in training."""

    def start(directory, **options):
        model, _ = made()
        rule = RULES[kind](model)
        before = numbers(rule)
        found = run(tmp_path / directory, nodes=(model, optimizer_of(model, rule)), rule=rule, **options)
        assert not before or not same(before, numbers(rule))
        return found

    whole = start("whole")
    with pytest.raises(Killed):
        start("run", die_at=die_at)
    assert steps(tmp_path / "run") == list(range(2, die_at, 2))[-3:]
    assert start("run") == whole


def test_a_finished_run_is_returned_as_it_was_and_the_newest_are_kept(finished, directory):
    assert run(directory) == finished[0]
    assert steps(directory) == [4, 6, 8]
    with pytest.raises(ValueError, match=r"held_out: float32\[6, 4, 5\], int32\[4\], digest \w+ saved"):
        run(directory, held_out=[batch(3)])


class Shuffled:
    """Batches in an order from its own random numbers, another one each time."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __iter__(self):
        return iter([BATCHES[index] for index in self.rng.permutation(len(BATCHES))])


def test_the_first_batch_is_compared_as_on_a_device_and_read_once():
    inputs, labels = (np.asarray(leaf) for leaf in BATCHES[0])
    assert describe_batch((inputs.astype(float), labels.astype(int))) == describe_batch(BATCHES[0])
    _, epochs = compared_data(Shuffled(), None, 0)
    assert all(map(same, epochs(0), Shuffled()))


def test_settings_that_were_saved_are_those_of_the_same_run():
    """As JSON, in which NaN is not equal to itself."""
    model, optimizer = made()
    floor = np.nan
    loss_fn = lambda outputs, labels: jnp.fmax(sr.cross_entropy(outputs, labels), floor)  # noqa: E731
    program = Program(split((model, PLAIN, optimizer))[0], loss_fn, "offline", None, None)
    settings = describe_run(program, model, PLAIN, optimizer.tx)
    assert json.loads(json.dumps(settings)) == settings and "nan" in settings.values()


class Late(ThreadPoolExecutor):
    """Writes a checkpoint when it is waited for, as late as can be."""

    def submit(self, write, *arguments):
        pending = Future()
        pending.result = lambda: write(*arguments)
        return pending


@pytest.mark.parametrize("late", [False, True])
def test_evaluation_at_the_end_of_an_epoch_is_made_once(late, tmp_path, monkeypatch):
    """The last checkpoint is of the last step, and older than the evaluation after it, even if it is written after that."""
    if late:
        monkeypatch.setattr("slax_rules.training.checkpoints.ThreadPoolExecutor", Late)
    whole = run(tmp_path / "whole", evaluate_every=None)
    assert [record["step"] for record in whole[2] if "loss" in record] == [4, 8]
    with pytest.raises(Killed):
        run(tmp_path / "run", evaluate_every=None, die_at=5)
    assert run(tmp_path / "run", evaluate_every=None) == whole
    assert run(tmp_path / "run", evaluate_every=None) == whole


@pytest.mark.parametrize("place", [None, 0.1, 0.5, 0.9, 0.99])
def test_a_damaged_checkpoint_is_refused_or_nothing_was_lost(place, finished, directory):
    """It ends in the middle, or has a wrong bit."""
    newest = directory / "8"
    content = newest.read_bytes()
    at = int(len(content) * (place or 0.5))
    newest.write_bytes(content[:at] + (bytes([content[at] ^ 1]) + content[at + 1 :] if place else b""))
    try:
        assert run(directory) == finished[0]
    except ValueError as error:
        text = str(error)
        assert f"The checkpoint of step 8 in {directory} is damaged" in text or "belongs to a run" in text
    else:
        assert place
    newest.unlink()
    assert run(directory) == finished[0]


@pytest.mark.parametrize("folder", ["", "8"])
def test_weights_of_a_checkpoint_are_loaded(folder, directory):
    model, other = made()[0], made()
    sr.load_weights(directory / folder, model)
    sr.fit(*other, sr.cross_entropy, SAMPLER, epochs=2)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(other[0]))


def test_a_run_says_from_where_it_resumes_and_refuses_another_split(tmp_path, monkeypatch, capsys):
    """A generator, whose first batch is compared and not lost; and a loader that shuffles by itself."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def resumed(batches, folder="run", **options):
        nodes = made()
        where = sr.Checkpoints(f"~/{folder}", every=2, changed=options.pop("changed", ()))
        history = sr.fit(*nodes, sr.cross_entropy, batches, checkpoints=where, **options)
        return [history.losses, *numbers(*nodes)], history.resumed_from

    whole, step = resumed(iter(BATCHES), "whole")
    assert step is None and "resumed" not in capsys.readouterr().err
    with pytest.raises(Killed):
        resumed(iter(BATCHES), callbacks=[killed_at(3)])
    with pytest.raises(ValueError, match=r"data: first batch: float32\[6, 4, 5\], int32\[4\], digest \w+ saved"):
        resumed(iter(BATCHES[::-1]))
    ours, step = resumed(iter(BATCHES))
    assert same(ours, whole) and step == 2
    assert f"fit resumed from step 2 of {tmp_path / 'run'}\n" in capsys.readouterr().err
    assert resumed(iter(BATCHES[::-1]), changed=["data"])[1] == 4
    draws = np.random.default_rng(0)
    steps = [resumed(lambda epoch: [batch(draws.integers(99))], "own", epochs=epochs)[1] for epochs in (1, 2)]
    assert steps == [None, 1]


class Own(LIF):
    def integrate(self, carry, inputs):
        return super().integrate(carry, 2 * inputs)


def test_a_run_is_another_one_once_a_method_of_its_neuron_was_edited(tmp_path, monkeypatch):
    def run():
        return sr.fit(*made(modules=[Own()]), sr.cross_entropy, BATCHES, checkpoints=sr.Checkpoints(tmp_path, every=2))

    assert run().resumed_from is None and run().resumed_from == 4
    monkeypatch.setattr(Own, "integrate", lambda self, carry, inputs: carry + inputs)
    with pytest.raises(ValueError, match=r"options: \S+\.Own: .* saved, .* changed=\['options'\]"):
        run()


def no_room(*arguments, **arrays):
    raise OSError(28, "No space left on device")


def test_checkpoints_that_cannot_be_written_end_the_run_and_hide_no_other_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"Checkpoints could not be written to .*: Not a directory\. Make it writable, or"
    ):
        run(tmp_path / "file" / "run")
    monkeypatch.setattr(np, "savez", no_room)
    with pytest.raises(OSError, match=r"A checkpoint could not .*2: No space left on device. It takes up to"):
        run(tmp_path / "run")
    with pytest.raises(Killed) as raised:
        run(tmp_path / "run", die_at=3)
    assert "A checkpoint could not be written" in raised.value.__notes__[0]
    assert not list((tmp_path / "run").iterdir())


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
    sr.save_weights(tmp_path / "weights", model)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    sr.load_weights(tmp_path / "weights", other)
    ours, theirs = (nnx.state(one, nnx.Not(nnx.RngState)) for one in (other, model))
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(jnp.float32), jnp.dtype(dtype)}
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    np.testing.assert_array_equal(jax.random.key_data(other.modules[2].rngs.key[...]), key)


def test_what_fits_is_loaded_and_told_and_the_rest_stays(tmp_path):
    """Into half precision, with another read-out and a trained decay, from a stack that has a norm more."""
    rngs = nnx.Rngs(0)
    saved = connect([nnx.Linear(5, 6, rngs=rngs), LIF(), nnx.Linear(6, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)])
    sr.save_weights(tmp_path / "weights", saved)
    first, second = (nnx.Linear(*sizes, rngs=rngs, param_dtype=jnp.float16) for sizes in ((5, 6), (6, 4)))
    model = connect([first, LIF(decay=Trainable(0.5)), second])
    rest = numbers(*model.modules[1:])
    found = sr.load_weights(tmp_path / "weights", model, strict=False)
    assert found.loaded == ["0 Linear/bias", "0 Linear/kernel"] and found.missing == ["1 LIF/decay/unconstrained"]
    assert (
        found.different[1] == "2 Linear/kernel: float32[6, 3] saved, float16[6, 4] here" and len(found.different) == 2
    )
    assert sorted(path.rpartition("/")[2] for path in found.unexpected) == ["bias", "mean", "scale", "var"]
    theirs = np.asarray(saved.modules[0].kernel[...])
    assert same(numbers(*model.modules[1:]), rest) and same([first.kernel[...]], [theirs.astype(np.float16)])


def test_damaged_weights_are_refused_or_nothing_was_lost(tmp_path):
    """A bit in a hundred places of the file, and every tenth of its length: never other numbers, and always a ValueError."""
    saved, path = made()[0], tmp_path / "weights"
    sr.save_weights(path, saved)
    content = path.read_bytes()
    places = np.random.default_rng(0).integers(0, len(content), 100)
    files = [content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :] for i in map(int, places)]
    files += [content[: len(content) * tenth // 10] for tenth in range(10)]
    refused = 0
    for content in files:
        path.write_bytes(content)
        model, _ = made()
        model.modules[0].kernel[...] *= 2
        before = numbers(model)
        try:
            sr.load_weights(path, model)
            assert same(numbers(model), numbers(saved))
        except ValueError as error:
            assert "damaged" in str(error) or "do not match this model" in str(error)
            assert same(numbers(model), before)
            refused += 1
    assert refused > 50
