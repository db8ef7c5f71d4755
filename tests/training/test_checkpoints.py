"""Checkpoints: a run that was killed and started again is the run that was never killed, bit for bit."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import ALIF, LIF, Dropout, Trainable, connect
from training.small import BATCHES, SAMPLER, Killed, Shuffled, batch, killed_at, made, numbers, optimizer_of, same

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


RULES = {
    "plain": lambda model: PLAIN,
    "random numbers": lambda model: sr.UORO(rngs=nnx.Rngs(7)),
    "parameters": lambda model: sr.EProp(route=sr.Adaptive(model, rngs=nnx.Rngs(7))),
}


STOPS = [("plain", 1), ("plain", 2), ("plain", 5), ("random numbers", 6), ("parameters", 8)]


@pytest.mark.parametrize("kind, die_at", STOPS)
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
    left_over = tmp_path / "run/.9.1.part"  # by a process that was killed while it wrote
    left_over.touch()
    assert start("run") == whole and not left_over.exists()


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


@pytest.mark.parametrize("folder", ["", "8"])
def test_weights_of_a_checkpoint_are_loaded(folder, directory):
    model, other = made()[0], made()
    sr.load_weights(directory / folder, model)
    sr.fit(*other, sr.cross_entropy, SAMPLER, epochs=2)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(other[0]))


SOURCES = {  # of batches, and the same with other data
    "list": (lambda: BATCHES, lambda: BATCHES[::-1]),
    "iterator": (lambda: iter(BATCHES), lambda: iter(BATCHES[::-1])),
    "function": (lambda: lambda epoch: iter(BATCHES), lambda: lambda epoch: iter(BATCHES[1:] + BATCHES[:1])),
    "sampler": (lambda: SAMPLER, lambda: sr.Sampler(SAMPLER.sample, jax.random.key(3), 4)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_run_says_from_where_it_resumes_and_refuses_other_data(kind, tmp_path, monkeypatch, capsys):
    """In the middle of an epoch and after the last one; no batch of an iterator is lost."""
    monkeypatch.setenv("HOME", str(tmp_path))
    same_data, other_data = SOURCES[kind]

    def resumed(batches, folder="run", **options):
        nodes = made()
        where = sr.Checkpoints(f"~/{folder}", every=2, allow_changes=options.pop("allow_changes", False))
        history = sr.fit(*nodes, sr.cross_entropy, batches, checkpoints=where, **options)
        return [history.losses, *numbers(*nodes)], history.resumed_from

    whole, step = resumed(same_data(), "whole")
    assert step is None and "resumed" not in capsys.readouterr().err
    with pytest.raises(Killed):
        resumed(same_data(), callbacks=[killed_at(3)])
    with pytest.raises(
        ValueError, match=r"last batch: float32\[6, 4, 5\], int32\[4\], digest \w+ saved, .*allow_changes=True"
    ):
        resumed(other_data())
    ours, step = resumed(same_data())
    assert same(ours, whole) and step == 2
    assert f"fit resumed from step 2 of {tmp_path / 'run'}\n" in capsys.readouterr().err
    with pytest.raises(ValueError, match="last batch"):
        resumed(other_data())
    assert resumed(other_data(), allow_changes=True)[1] == 4


def test_a_loader_that_shuffles_is_not_compared(tmp_path):
    for step, epochs in ((None, 1), (4, 2)):
        history = sr.fit(
            *made(), sr.cross_entropy, Shuffled(BATCHES), epochs=epochs, checkpoints=sr.Checkpoints(tmp_path)
        )
        assert history.resumed_from == step


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
    assert found["loaded"] == ["0 Linear/bias", "0 Linear/kernel"] and found["missing"] == ["1 LIF/decay/unconstrained"]
    _, kernel = found["different"]
    assert kernel == "2 Linear/kernel: float32[6, 3] saved, float16[6, 4] here"
    assert sorted(path.rpartition("/")[2] for path in found["unexpected"]) == ["bias", "mean", "scale", "var"]
    theirs = np.asarray(saved.modules[0].kernel[...])
    assert same(numbers(*model.modules[1:]), rest) and same([first.kernel[...]], [theirs.astype(np.float16)])


def rewritten(path, make, name):
    """The file at `path` with one member changed by `make`, or its bytes."""
    if name is None:
        path.write_bytes(make(path.read_bytes()))
        return
    with np.load(path) as archive:
        found = dict(archive)
    with path.open("wb") as file:  # whatever its suffix
        np.savez(file, **found | {name: make(found[name])})


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


KERNEL = "modules/0/kernel"
FOREIGN = {  # a member of a file, what another tool may make of it, and what is told
    "big endian": (KERNEL, lambda kernel: kernel.astype(">f4"), ">f4"),
    "transposed": (KERNEL, lambda kernel: kernel.T, r"\[6, 5\]"),
    "not finite": (KERNEL, lambda kernel: kernel * np.nan, "NaN in 0 Linear/kernel"),
    "no description": ("about", lambda about: np.array("[]"), ""),
    "half": (None, lambda content: content[: len(content) // 2], ""),
    **{f"bit of byte {at}": (None, functools.partial(flipped, at=at), "") for at in (-1500, -1000)},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_as_described_is_refused(kind, tmp_path):
    name, make, told = FOREIGN[kind]
    sr.save_weights(tmp_path / "weights", made()[0])
    rewritten(tmp_path / "weights", make, name)
    model, _ = made()
    before = numbers(model)
    with pytest.raises(
        ValueError, match=f"is damaged, or holds no weights: .*{told}.*Expected a file that save_weights"
    ):
        sr.load_weights(tmp_path / "weights", model)
    assert same(numbers(model), before)


def test_a_checkpoint_with_a_foreign_array_is_refused(directory):
    rewritten(directory / "8", lambda kernel: kernel.astype(">f4"), f"model/{KERNEL}")
    with pytest.raises(ValueError, match=r"checkpoint of step 8 .* is damaged: .*>f4"):
        run(directory)
