"""Checkpoints: a run that was killed and started again is the run that was never killed, bit for bit."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from slax_rules.training.progress import Progress

from covering import EVERY
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
    predict,
    save_weights,
)

T, B, N, C = 6, 4, 5, 3
HIDDEN = 64  # so that numbers fill most of the files
MOMENTUM = optax.sgd(0.1, momentum=0.9)  # one object, so that all runs are one program
PLAIN = BPTT()


class Killed(Exception):
    pass


def sample(key):
    return jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float32), jnp.arange(B) % C


def as_numbers(leaf):
    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def made(hidden=HIDDEN, transformation=MOMENTUM, dtype=jnp.float32):
    rngs = nnx.Rngs(0)
    model = connect(
        [
            nnx.Linear(N, hidden, rngs=rngs, param_dtype=dtype),
            LIF(threshold=0.5),
            nnx.Linear(hidden, C, rngs=rngs, param_dtype=dtype),
            LI(),
        ]
    )
    return model, nnx.Optimizer(model, transformation, wrt=nnx.Param)


def with_random_numbers():
    """A rule that draws, and an optimizer of the model alone."""
    return made(), UORO(rngs=nnx.Rngs(7))


def with_parameters():
    """A rule whose own parameters are trained with those of the model."""
    model, _ = made()
    rule = EProp(route=Adaptive(model, rngs=nnx.Rngs(7)))
    return (model, nnx.Optimizer((model, rule), MOMENTUM, wrt=nnx.Param)), rule


def run(
    directory,
    *,
    restore_best=True,
    rule=PLAIN,
    die_at=None,
    nodes=None,
    seed=1,
    every=2,
    keep=3,
    evaluate_every=3,
    **options,
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
        held_out=[sample(jax.random.key(2))],
        evaluate_every=evaluate_every,
        early_stopping=EarlyStopping(restore_best=restore_best),
        checkpoints=Checkpoints(directory, every=every, keep=keep),
        **options,
    )
    arrays = [np.asarray(as_numbers(leaf)).tolist() for leaf in jax.tree.leaves(nnx.state((model, rule, optimizer)))]
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


def process(program, *arguments, killed=False, limit=None, **environment):
    """Runs a program beside this file; returns what it printed, or said if it failed at a limit on the size of files."""
    environment |= os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    prefix = [] if limit is None else [sys.executable, Path(__file__).parents[1] / "limited.py", limit]
    command = [*prefix, sys.executable, Path(__file__).with_name(program), *arguments]
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == (-signal.SIGKILL if killed else 0 if limit is None else 1), done.stderr
    return done.stdout if limit is None else done.stderr


def test_a_killed_process_goes_on_as_if_it_had_never_been_killed(tmp_path):
    """SIGKILL between checkpoints, while one is written, and while an old one is deleted."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def start(name, when, step):
        process("killed_run.py", tmp_path / name, tmp_path / f"{name}.txt", when, step, killed=when != "never", **cache)

    start("whole", "never", 0)
    start("killed", "writing", 4)
    assert any("tmp" in path.name for path in (tmp_path / "killed").iterdir())
    start("killed", "step", 11)
    start("killed", "deleting", 12)
    assert not (tmp_path / "killed" / "4" / "_CHECKPOINT_METADATA").exists()
    start("killed", "never", 0)
    assert (tmp_path / "killed.txt").read_text() == (tmp_path / "whole.txt").read_text()


def test_a_full_disk_is_told_in_a_few_lines_and_the_run_goes_on_once_there_is_room(tmp_path):
    """Files of more than 4 kB cannot be written, as on a full disk. The message says which, how large, and what to do."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    process("killed_run.py", tmp_path / "whole", tmp_path / "whole.txt", "never", 0, **cache)
    process("killed_run.py", tmp_path / "run", tmp_path / "run.txt", "step", 9, killed=True, **cache)
    assert 4 in steps(tmp_path / "run")  # it was complete when the checkpoint of step 8 was begun
    # Without compiled programs in files: XLA says a line about each that it reads, and about each that it cannot write.
    said = process("killed_run.py", tmp_path / "run", tmp_path / "run.txt", "never", 0, limit=4096)
    assert len(said.splitlines()) < 50, said
    told = (
        rf"OSError: \[Errno 27\] (A checkpoint|The weights) could not be written to {tmp_path}/run\S*: File too large\. "
        r"It takes up to 0\.0[1-9] MB, and \d+\.\d\d MB are free there\. Make room, or take another folder, and start again\."
    )
    # It is the last line, but for what zipfile says with NumPy 2.0 about the archive that is not closed.
    own = said.partition("Exception ignored in: <function ZipFile.__del__")[0]
    assert re.fullmatch(told, own.splitlines()[-1]), said
    process("killed_run.py", tmp_path / "run", tmp_path / "run.txt", "never", 0, **cache)
    assert (tmp_path / "run.txt").read_text() == (tmp_path / "whole.txt").read_text()


@pytest.mark.parametrize("folder", ["", "/arrays.orbax-checkpoint-tmp", "/run.orbax-checkpoint-tmp"])
def test_a_disk_that_becomes_read_only_leaves_no_thread_that_waits(folder, tmp_path, monkeypatch):
    """Orbax's threads waited for a folder that could not be made, for which reason the program did not end for minutes."""
    mkdir, before = os.mkdir, set(threading.enumerate())

    def read_only(path, *args, **options):
        if str(path).endswith(f"/6.orbax-checkpoint-tmp{folder}"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return mkdir(path, *args, **options)

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(OSError, match=r"could not be written to .*: Read-only file system\. Make it writable"):
        run(tmp_path)
    waits = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    for thread in waits:
        thread.join(timeout=10.0)
    assert not [thread.name for thread in waits if thread.is_alive()]


def test_checkpoints_that_cannot_be_written_hide_no_other_error(tmp_path, monkeypatch):
    """An error of the user's own, while the last checkpoint is not written: that one is a note on it."""

    def full(self):
        raise OSError(28, "No space left on device")

    def fails():
        with Checkpoints(tmp_path).open({}) as store:
            monkeypatch.setattr(type(store.manager), "close", full)
            raise Killed

    with pytest.raises(Killed) as raised:
        fails()
    assert "A checkpoint could not be written" in raised.value.__notes__[0]


@pytest.mark.parametrize("die_at", range(1, 9) if EVERY else (1, 2, 5, 8))
def test_a_run_that_stops_at_any_step_goes_on_from_the_checkpoint_before(die_at, finished, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "run", die_at=die_at)
    assert steps(tmp_path / "run") == list(range(2, die_at, 2))[-3:]
    assert run(tmp_path / "run") == finished[0]


@pytest.mark.parametrize("make", [with_random_numbers, with_parameters])
def test_the_numbers_of_a_rule_go_on_too(make, tmp_path):
    """A random stream and feedback weights: they change in training, and a run that was killed ends with the same ones."""

    def start(directory, **options):
        nodes, rule = make()
        before = [np.asarray(as_numbers(leaf)) for leaf in jax.tree.leaves(nnx.state(rule))]
        numbers = run(tmp_path / directory, nodes=nodes, rule=rule, **options)
        after = [np.asarray(as_numbers(leaf)) for leaf in jax.tree.leaves(nnx.state(rule))]
        assert any((one != two).any() for one, two in zip(before, after, strict=True))
        return numbers

    whole = start("whole")
    with pytest.raises(Killed):
        start("run", die_at=6)
    assert steps(tmp_path / "run") == [2, 4]
    assert start("run") == whole


def test_a_finished_run_is_returned_as_it_was(finished, directory):
    assert run(directory) == finished[0]


def test_evaluation_at_the_end_of_an_epoch_is_made_once(tmp_path):
    """The last checkpoint is of the last step, and older than the evaluation after it."""
    whole = run(tmp_path / "whole", evaluate_every=None)
    assert [record["step"] for record in whole[2] if "loss" in record] == [4, 8]
    with pytest.raises(Killed):
        run(tmp_path / "run", evaluate_every=None, die_at=5)
    assert run(tmp_path / "run", evaluate_every=None) == whole
    assert run(tmp_path / "run", evaluate_every=None) == whole


def test_the_newest_are_kept(finished):
    assert steps(finished[1]) == [4, 6, 8]


def test_a_damaged_checkpoint_is_not_taken_for_a_whole_one(tmp_path):
    """Each file of the newest one in turn: it is refused, or nothing was lost, as by orbax's notes to itself."""
    printed = process("damaged_run.py", tmp_path / "run")
    refused = []
    for item, kind, outcome in json.loads(printed):
        if outcome != "same":
            reason = f"(orbax cannot read its {item}|it is not what was saved)"
            assert re.search(
                f"step 28 in .* is damaged: {reason}.* Delete the folder .*/28 to continue from step 24", outcome
            )
            refused.append((item, kind, "it is not what was saved" in outcome))
    assert ("arrays", "other bit", True) in refused  # in the numbers themselves, whose files have no checksum
    refused = [what[:2] for what in refused]
    for kind in ("shorter", "other bit", "gone"):
        assert refused.count(("run", kind)) == 1 and refused.count(("arrays", kind)) >= 2


def test_a_checkpoint_under_the_name_of_another_step_is_refused(directory):
    (directory / "8").rename(directory / "99")
    with pytest.raises(
        ValueError, match=r"step 99 in .* is damaged: it was saved as that of step 8. .*/99 to continue from"
    ):
        run(directory)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"nodes": "wider"}, r"model/modules/0/bias: float32\[64\] saved, float32\[65\] here"),
        ({"nodes": "adamax"}, r"optimizer/opt_state/0/count: nothing saved, int32\[\] here"),
        ({"rule": OSTL()}, r"rule: BPTT\(remat=False\) saved, OSTL\(route=Symmetric\(\), recurrence=False\) here"),
        ({"seed": 3}, r"key: \[0, 1\] saved, \[0, 3\] here"),
        ({"window": 2}, "window: None saved, 2 here"),
        ({"update": "online"}, "update: offline saved, online here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_says_what_differs(options, message, directory):
    nodes = {"wider": lambda: made(hidden=65), "adamax": lambda: made(transformation=optax.adamax(0.1)), None: made}
    with pytest.raises(ValueError, match=message):
        run(directory, **options | {"nodes": nodes[options.get("nodes")]()})


def test_batches_that_are_fewer_than_before_are_refused(tmp_path):
    def batches(number):
        return lambda epoch: [sample(jax.random.key(i)) for i in range(number)]

    checkpoints = Checkpoints(tmp_path / "run", every=2)
    with pytest.raises(Killed):
        fit(*made(), cross_entropy, batches(4), checkpoints=checkpoints, callbacks=[Every(3, _raise_killed)])
    with pytest.raises(ValueError, match="Epoch 0 gave 1 batches, expected the 2"):
        fit(*made(), cross_entropy, batches(1), checkpoints=checkpoints)


def _raise_killed(info):
    raise Killed


def test_numbers_below_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="every=0, keep=3"):
        Checkpoints(tmp_path, every=0)


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got mode=None for the metric 'error', expected \"min\" if less is better"):
        Checkpoints(tmp_path, best="error")


def test_weights_of_the_best_evaluation_are_beside_the_checkpoints(tmp_path):
    """Killed and gone on with, under a rule; loaded into a plain model, which then makes the numbers of that evaluation."""
    held_out = [sample(jax.random.key(2))]

    def start(die_at):
        model, optimizer = made(transformation=optax.sgd(2.0))
        return fit(
            model,
            optimizer,
            cross_entropy,
            Sampler(sample, jax.random.key(1), steps=4),
            rule=OSTL(),
            epochs=3,
            held_out=held_out,
            metrics={"accuracy": accuracy},
            evaluate_every=1,
            callbacks=[Every(1, lambda info: _raise_killed(info) if info.step == die_at else None)],
            checkpoints=Checkpoints(tmp_path / "run", every=2, keep=1, best="loss"),
        )

    with pytest.raises(Killed):
        start(7)
    history = start(None)
    losses = history.series("loss")[1]
    assert 0 < losses.argmin() < len(losses) - 1  # neither the first nor the last
    model, _ = made(transformation=optax.adam(1.0))
    load_weights(tmp_path / "run" / "best", model)
    assert evaluate(model, cross_entropy, held_out)["loss"] == losses.min()
    assert predict(model, held_out[0][0]).shape == (T, B, C)


@pytest.mark.parametrize("numbers", [[np.nan, 0.5, 0.4], [0.5, np.nan, 0.4]])
def test_a_best_that_cannot_be_compared_is_an_error(numbers, tmp_path):
    """As in early stopping: NaN would stay the best for ever, or be passed over in silence."""
    checkpoints, (model, _) = Checkpoints(tmp_path, best="error", mode="min"), made()
    progress = Progress(7, 0, 0)
    with pytest.raises(ValueError, match="Checkpoints got NaN for 'error' at step 7, expected a comparable number"):
        for number in numbers:
            progress = checkpoints.save_best(model, {"error": number}, progress)


@pytest.mark.parametrize("folder", ["8", "."])
def test_weights_of_a_checkpoint_are_loaded_without_its_rule_and_its_optimizer(folder, finished, directory):
    model, _ = made(transformation=optax.adam(1.0))
    load_weights(directory / folder, model)
    other, optimizer = made()
    run(directory, nodes=(other, optimizer), restore_best=False)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(other))
    for name in sorted((directory / "8").glob("arrays/**/*")):
        if name.is_file() and name.stat().st_size > 1000:
            name.write_bytes(name.read_bytes()[:-100])
    with pytest.raises(ValueError, match="8 is damaged: it is not what was saved"):
        load_weights(directory / folder, model)


def all_kinds(seed, dtype=jnp.float32):
    """A model with each kind of variable: nested, over an edge, statistics, constants, a random stream, half precision."""
    rngs = nnx.Rngs(seed)
    inner = connect(
        [nnx.Linear(6, 6, rngs=rngs, param_dtype=dtype), ALIF(beta=Trainable(1.0 + seed), param_dtype=dtype)],
        {0: [1]},
        rngs=rngs,
    )
    decay = np.linspace(0.5, 0.9, 6) - seed / 10
    return connect([nnx.BatchNorm(6, rngs=rngs), inner, Dropout(0.1, rngs=rngs), LIF(decay=decay, param_dtype=dtype)])


def test_saved_decays_and_thresholds_win_unless_they_are_fixed_numbers(tmp_path):
    def made(decay, thresholds, number):
        trained = LIF(decay=Trainable(decay), threshold=jnp.array(thresholds))
        return connect([trained, LIF(decay=number, threshold=number)])

    save_weights(tmp_path / "weights", made(0.5, [1.0, 2.0], 0.6))
    other = made(0.9, [0.3, 0.4], 0.7)
    load_weights(tmp_path / "weights", other)
    x = jnp.zeros(2)
    trained, fixed = other.modules
    np.testing.assert_allclose(trained.decay(x), 0.5, rtol=1e-6)
    np.testing.assert_array_equal(trained.threshold(x), [1.0, 2.0])
    np.testing.assert_allclose([fixed.decay(x), fixed.threshold(x)], 0.7, rtol=1e-6)


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


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda: made(65)[0], r"0 Linear/bias: float32\[64\] saved, float32\[65\] here"),
        (lambda: made(dtype=jnp.float16)[0], r"0 Linear/bias: float32\[64\] saved, float16\[64\] here"),
        (
            lambda: connect([nnx.Linear(N, 64, rngs=nnx.Rngs(0)), ALIF(), nnx.Linear(64, C, rngs=nnx.Rngs(0)), LI()]),
            "1 ALIF: LIF saved, ALIF here",
        ),
        (lambda: nnx.Linear(N, 64, rngs=nnx.Rngs(0)), "model: Connect saved, Linear here"),
    ],
)
def test_weights_of_another_model_are_refused_and_the_model_stays(other, message, tmp_path):
    save_weights(tmp_path / "weights", made()[0])
    model = other()
    before = jax.tree.map(np.asarray, nnx.state(model))
    with pytest.raises(ValueError, match=f"are of another model: .*{message}"):
        load_weights(tmp_path / "weights", model)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), before)


def test_weights_that_are_not_there_or_something_else_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="weights, which does not exist"):
        load_weights(tmp_path / "weights", made()[0])
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none\. Make it first"):
        save_weights(tmp_path / "none" / "weights", made()[0])
    (tmp_path / "text").write_text("not weights")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    for name in ("text", "arrays.npz"):
        with pytest.raises(
            ValueError, match=f"{name} is damaged, or holds no weights: .* Expected a file that save_weights wrote"
        ):
            load_weights(tmp_path / name, made()[0])
    with pytest.raises(ValueError, match="is not a checkpoint, expected a file that save_weights wrote"):
        load_weights(tmp_path, made()[0])


def test_damaged_weights_are_refused_or_nothing_was_lost(tmp_path):
    """A bit in a hundred places of the file, and every tenth of its length: never other numbers, and always a ValueError."""
    saved, path = made(8)[0], tmp_path / "weights"
    save_weights(path, saved)
    content = path.read_bytes()
    places = np.random.default_rng(0).integers(0, len(content), 100)
    damaged = [content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :] for i in map(int, places)]
    damaged += [content[: len(content) * tenth // 10] for tenth in range(10)]
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        model = connect(
            [nnx.Linear(N, 8, rngs=nnx.Rngs(1)), LIF(threshold=0.5), nnx.Linear(8, C, rngs=nnx.Rngs(1)), LI()]
        )
        try:
            load_weights(path, model)
            jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(saved))
        except ValueError as error:
            assert "damaged" in str(error)
            refused += 1
    assert refused > 50


def test_weights_that_fail_to_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    save_weights(tmp_path / "weights", made(8)[0])
    before = (tmp_path / "weights").read_bytes()

    def full(*arguments, **arrays):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(tmp_path / "weights", made(8)[0])
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("weights", before)]


def test_orbax_is_imported_for_checkpoints_alone_and_tqdm_for_a_bar(tmp_path):
    """Whoever has JAX, Flax, Optax and NumPy alone can train, and save weights."""
    program = f"""
import sys
for name in ("orbax", "orbax.checkpoint", "tqdm", "tqdm.auto"):
    sys.modules[name] = None  # as if it were not installed
import jax.numpy as jnp, optax
from flax import nnx
from slax_neurons import LI, connect
from slax_rules import cross_entropy, fit, load_weights, save_weights
model = connect([nnx.Linear(3, 2, rngs=nnx.Rngs(0)), LI()])
optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
batches = [(jnp.ones((5, 4, 3)), jnp.zeros(4, jnp.int32))]
fit(model, optimizer, cross_entropy, batches)
save_weights({str(tmp_path / "weights")!r}, model)
load_weights({str(tmp_path / "weights")!r}, model)
try:
    fit(model, optimizer, cross_entropy, batches, progress=True)
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "fit got progress=True, which needs tqdm. Install it: pip install tqdm."
