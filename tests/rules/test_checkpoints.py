"""Checkpoints: a run that was killed and started again is the run that was never killed, bit for bit."""

import json
import os
import re
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

from slax_neurons import LI, LIF, connect
from slax_rules import cross_entropy, ostl
from slax_rules.callbacks import Every
from slax_rules.checkpoints import Checkpoints
from slax_rules.fit import fit
from slax_rules.sampling import Sampler
from slax_rules.stopping import EarlyStopping

T, B, N, C = 6, 4, 5, 3
HIDDEN = 64  # so that numbers fill most of the files
MOMENTUM = optax.sgd(0.1, momentum=0.9)  # one object, so that all runs are one program


class Killed(Exception):
    pass


def sample(key):
    return jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float32), jnp.arange(B) % C


def made(hidden=HIDDEN, transformation=MOMENTUM):
    rngs = nnx.Rngs(0)
    model = connect([nnx.Linear(N, hidden, rngs=rngs), LIF(threshold=0.5), nnx.Linear(hidden, C, rngs=rngs), LI()])
    return model, nnx.Optimizer(model, transformation, wrt=nnx.Param)


def run(
    directory,
    *,
    rule=lambda model: model,
    die_at=None,
    nodes=None,
    seed=1,
    every=2,
    keep=3,
    evaluate_every=3,
    **options,
):
    """Trains; returns all numbers of the run."""

    def die(view):
        if view.step == die_at:
            raise Killed

    model, optimizer = nodes or made()
    history = fit(
        rule(model),
        optimizer,
        cross_entropy,
        Sampler(sample, jax.random.key(seed), steps=4),
        epochs=2,
        callbacks=[Every(1, die), Every(3, lambda view: {"kernel": view.model.modules[0].kernel[...].sum()})],
        held_out=[sample(jax.random.key(2))],
        evaluate_every=evaluate_every,
        early_stopping=EarlyStopping(restore_best=True),
        checkpoints=Checkpoints(directory, every=every, keep=keep),
        **options,
    )
    arrays = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(nnx.state((model, optimizer)))]
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


def process(program, *arguments, killed=False, **environment):
    """Runs a program beside this file; returns what it printed."""
    environment |= os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, Path(__file__).with_name(program), *arguments]
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr
    return done.stdout


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


@pytest.mark.parametrize("die_at", range(1, 9))
def test_a_run_that_stops_at_any_step_goes_on_from_the_checkpoint_before(die_at, finished, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "run", die_at=die_at)
    assert steps(tmp_path / "run") == list(range(2, die_at, 2))[-3:]
    assert run(tmp_path / "run") == finished[0]


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
                f"step 28 in .* is damaged: {reason}.* Delete the folder .*/28 to go on from step 24", outcome
            )
            refused.append((item, kind, "it is not what was saved" in outcome))
    assert ("arrays", "other bit", True) in refused  # in the numbers themselves, whose files have no checksum
    refused = [what[:2] for what in refused]
    for kind in ("shorter", "other bit", "gone"):
        assert refused.count(("run", kind)) == 1 and refused.count(("arrays", kind)) >= 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"nodes": "wider"}, r"model/modules/0/bias: float32\[64\] saved, float32\[65\] here"),
        ({"nodes": "adamax"}, r"optimizer/opt_state/0/count: nothing saved, int32\[\] here"),
        ({"rule": ostl}, "model: Connect saved, Ruled under OSTL here"),
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
    with pytest.raises(ValueError, match=r"batches\(0\) gave 1 batches, expected the 2"):
        fit(*made(), cross_entropy, batches(1), checkpoints=checkpoints)


def _raise_killed(view):
    raise Killed


def test_numbers_below_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="every=0, keep=3"):
        Checkpoints(tmp_path, every=0)
