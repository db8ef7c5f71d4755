"""Streams: pieces are one sequence, samples are reset, means, checkpoints in the middle."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from slax_rules.loop.stream import _start

import slax_rules as sr
from slax_neurons import LI, LIF, Dropout, connect
from slax_rules.training.run_stream import _advance, _Run
from training.small import optimizer_of

pytestmark = pytest.mark.usefixtures("x64")  # all numbers are float64
T, B, N, C = 20, 3, 6, 4
SAME = 1e-12
SGD, STILL = optax.sgd(0.1, momentum=0.9), optax.sgd(0.0)
DRAWS = np.random.default_rng(0)
INPUTS, LABELS = (DRAWS.random((T, B, N)) < 0.4).astype(np.float64), DRAWS.integers(0, C, (T, B))
FIRST, SECOND = (INPUTS[:5], LABELS[:5]), (INPUTS[5:10], LABELS[5:10])
RESET, NONE = np.array([False, True, False]), np.zeros(B, bool)  # NONE runs the program of RESET, which None does not


def made():
    rngs = nnx.Rngs(0)
    first, second = (nnx.Linear(*sizes, param_dtype=jnp.float64, rngs=rngs) for sizes in ((N, 8), (8, C)))
    return connect([first, LIF(threshold=0.5, param_dtype=jnp.float64), second, LI(param_dtype=jnp.float64)])


OF_OTPE = sr.OTPE()


def stream_of(rule=OF_OTPE, *, window=5, transformation=SGD, loss_fn=sr.cross_entropy, penalties=()):
    model = made()
    optimizer = optimizer_of(model, rule, transformation)
    return sr.start_stream(model, optimizer, loss_fn, (B, N), rule=rule, window=window, penalties=penalties)


def deviation(one, two):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def numbers(stream):
    """Parameters and state of a stream."""

    def plain(leaf):
        return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    return nnx.to_pure_dict(nnx.state(stream.model, nnx.Param)), jax.tree.map(plain, stream.state)


RULES = {
    "bptt": lambda: sr.BPTT(),
    "ostl": lambda: sr.OSTL(),
    "otpe": lambda: sr.OTPE(),
    "parameters": lambda: sr.EProp(route=sr.Adaptive(made(), rngs=nnx.Rngs(1))),
    "uoro": lambda: sr.UORO(rngs=nnx.Rngs(1)),
}


@pytest.mark.parametrize("name", ["bptt", "otpe", "parameters", "uoro"])
def test_pieces_are_one_sequence(name):
    """With pieces of whole windows, whatever their length, rules give what `train_online` gives, penalties of means too."""
    penalties = (sr.firing_rate(0.3, weight=2.0),) if name == "otpe" else ()
    rule = RULES[name]()
    model = made()
    optimizer = optimizer_of(model, rule, SGD)
    options = {"rule": rule, "window": 5, "penalties": penalties}
    expected = sr.train_online(model, optimizer, sr.cross_entropy, jnp.asarray(INPUTS), jnp.asarray(LABELS), **options)
    stream, losses = stream_of(RULES[name](), penalties=penalties), []
    ends = (0, 5, 15, 20) if name == "otpe" else (0, 10, 20)
    for part in itertools.starmap(slice, itertools.pairwise(ends)):
        stream, outputs, found = sr.extend_stream(stream, INPUTS[part], LABELS[part])
        assert outputs.shape == (len(found), B, C)
        losses.append(found)
    if not penalties:
        assert abs(float(jnp.concatenate(losses).mean()) - float(expected)) < SAME
    assert deviation(nnx.state(model, nnx.Param), nnx.state(stream.model, nnx.Param)) < SAME


def test_streams_of_fresh_functions_share_a_program_and_have_rates_of_their_own():
    """One step of SGD is as long as its rate, after another stream and with the same loss, made once more."""

    def step(rate):
        loss_fn = functools.partial(
            lambda outputs, labels, weight: weight * sr.cross_entropy(outputs, labels), weight=2.0
        )
        stream = stream_of(transformation=optax.sgd(rate), loss_fn=loss_fn)
        metrics = {"accuracy": lambda outputs, labels: sr.correct(outputs, labels)}
        (info,) = sr.run_stream(stream, [FIRST], metrics=metrics)
        before, after = (nnx.state(model, nnx.Param) for model in (stream.model, info.stream.model))
        return jax.tree.map(lambda old, new: (new - old) / rate, before, after)

    first, kept = step(0.5), [set(one.compiled.entries) for one in (_start, _advance)]
    assert deviation(first, step(0.125)) < SAME < deviation(first, jax.tree.map(jnp.zeros_like, first))
    assert [set(one.compiled.entries) for one in (_start, _advance)] == kept


def test_a_checkpoint_of_a_stream_describes_its_own_optimizer_and_loss():
    """Not those of another stream whose programs it shares. The rate is only in the first state of its optimizer."""

    def described(rate, loss_fn):
        stream = stream_of(transformation=optax.inject_hyperparams(optax.sgd)(rate), loss_fn=loss_fn)
        settings = _Run(stream, (), 0.5, {}).settings()
        return settings["loss_fn"], settings["optimizer: learning_rate"], stream.program

    def losses():
        def one(outputs, labels):
            return sr.cross_entropy(outputs, labels)

        return one

    def other(outputs, labels):
        return sr.cross_entropy(outputs, labels)

    found = [described(rate, loss_fn) for rate, loss_fn in ((0.5, losses()), (0.125, losses()), (0.5, other))]
    names, rates, programs = zip(*found, strict=True)
    assert rates == (0.5, 0.125, 0.5) and programs[0] == programs[1] != programs[2]
    assert [name.rpartition(".")[2] for name in names] == ["one", "one", "other"]


SCALE = 1.0


def scaled(outputs, labels):
    return SCALE * sr.cross_entropy(outputs, labels)


def test_a_run_trains_with_what_its_loss_reads_now(monkeypatch):
    """After a piece that was learned with another number, in the same program."""

    def loss(stream):
        (info,) = sr.run_stream(stream, [FIRST])
        return info.numbers["loss"]

    stream = stream_of(loss_fn=scaled)
    first = loss(stream)
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert loss(stream) == pytest.approx(3 * first, rel=1e-5)


def test_a_piece_that_is_no_whole_number_of_windows_ends_with_a_shorter_one():
    whole = sr.extend_stream(stream_of(), INPUTS[:7], LABELS[:7]).stream
    cut = sr.extend_stream(sr.extend_stream(stream_of(), *FIRST).stream, INPUTS[5:7], LABELS[5:7]).stream
    assert deviation(numbers(whole), numbers(cut)) < SAME


def test_masked_steps_change_state_and_traces_and_no_parameter():
    after, outputs, losses = sr.extend_stream(stream_of(), *FIRST, mask=np.zeros((5, B), bool))
    assert not losses.any()
    before, now = numbers(stream_of()), numbers(after)
    assert deviation(before[0], now[0]) == 0 and deviation(before[1], now[1]) > 0.1
    ahead, seen = sr.look_ahead(stream_of(), stream_of().state, INPUTS[:5])
    assert deviation(seen, outputs) < SAME
    _, later = sr.look_ahead(stream_of(), ahead, INPUTS[5:10])
    assert deviation(later, sr.extend_stream(after, *SECOND).outputs[:5]) < SAME


def of_convolution(rule):
    """A stream of images, flattened: traces before the convolution have a row for each position."""
    first = nnx.Conv(1, 2, (3, 3), param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    second = nnx.Linear(32, C, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    neurons = [LIF(threshold=0.3, param_dtype=jnp.float64), LI(param_dtype=jnp.float64)]
    model = connect([first, neurons[0], lambda x: x.reshape(x.shape[0], -1), second, neurons[1]])
    return sr.start_stream(model, optimizer_of(model, rule, STILL), sr.cross_entropy, (B, 4, 4, 1), rule=rule)


@pytest.mark.parametrize("name", ["bptt", "otpe", "parameters", "ostl of images", "otpe of images"])
def test_a_sample_that_starts_anew_is_at_rest_without_traces(name):
    """Its state is that of a stream of its own; the others go on as they were."""
    rule, _, images = name.partition(" of ")
    rule = RULES[rule]()
    stream = of_convolution(rule) if images else stream_of(rule, transformation=STILL)
    inputs, labels = FIRST
    inputs = np.random.default_rng(1).random((5, B, 4, 4, 1)) if images else inputs
    before = sr.extend_stream(stream, inputs, labels, reset=NONE).stream
    runs = ((before, RESET), (before, NONE), (stream, NONE))
    ends = [sr.extend_stream(one, inputs, labels, reset=reset).stream for one, reset in runs]
    for mixed, old, new in zip(*(map(np.asarray, jax.tree.leaves(numbers(end)[1])) for end in ends), strict=True):
        axis = next((axis for axis, size in enumerate(mixed.shape) if size and size % B == 0), None)
        assert images or axis is not None
        if axis is None:
            continue
        rows = [np.split(array, B, axis) for array in (mixed, old, new)]  # a sample's rows are one after the other
        for sample, source in enumerate((1, 2, 1)):
            assert np.abs(rows[0][sample] - rows[source][sample]).max() < SAME
        assert np.abs(rows[1][1] - rows[2][1]).max() > 0 or mixed.size < 100


def with_dropout(mask, batch):
    """A stream whose inputs are dropped; nothing is learned."""
    model = made()
    model.modules.insert(0, Dropout(0.5, per=mask, rngs=nnx.Rngs(0)))
    return sr.start_stream(
        model, optimizer_of(model, None, STILL), sr.cross_entropy, (batch, N), rule=sr.OSTL(), window=5
    )


def test_look_ahead_predicts_without_dropout():
    stream = with_dropout("sequence", B)
    predicted = sr.look_ahead(stream, stream.state, INPUTS[:5])[1]
    assert deviation(predicted, sr.look_ahead(stream_of(), stream_of().state, INPUTS[:5])[1]) < SAME
    assert deviation(predicted, sr.extend_stream(stream, *FIRST).outputs) > 0.1


def test_a_sample_that_starts_anew_has_a_new_mask_of_dropout_and_the_others_keep_theirs():
    masks, stream = [], with_dropout("sequence", B)
    for reset in (NONE, ~RESET, RESET, NONE):
        before = nnx.filter_state(stream.online.objects, nnx.RngCount)
        stream = sr.extend_stream(stream, *FIRST, reset=reset).stream
        (mask,) = (leaf for leaf in jax.tree.leaves(stream.state) if leaf.dtype == jnp.bool_)
        masks.append(np.asarray(mask))
    changed = [[bool((new != old).any()) for new, old in zip(*pair, strict=True)] for pair in itertools.pairwise(masks)]
    assert changed == [[True, False, True], [False, True, False], [False] * 3]
    after = nnx.filter_state(stream.online.objects, nnx.RngCount)
    assert jax.tree.leaves(after) and deviation(before, after) == 0  # no reset draws nothing


def test_masks_of_each_step_are_new_after_a_reset_of_one_sample():
    """Their key is of the only sample: a state at rest would draw the same masks again."""
    stream, outputs = with_dropout("step", 1), []
    for _ in range(2):
        stream, found, _ = sr.extend_stream(stream, np.ones((1, 1, N)), np.zeros((1, 1), int), reset=np.array([True]))
        outputs.append(np.asarray(found))
    assert (outputs[0] != outputs[1]).any()


def test_a_reset_under_uoro_is_of_single_samples_while_its_signs_go_on():
    start = stream_of(sr.UORO(rngs=nnx.Rngs(0)), transformation=STILL)
    before = sr.extend_stream(start, *FIRST, reset=NONE).stream
    found, kept = (sr.extend_stream(before, *FIRST, reset=which).stream.state for which in (RESET, NONE))
    assert int(found.influence.step) == int(kept.influence.step) == 10
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(kept), strict=True)
    changed = [np.abs(a - b).reshape(B, -1).max(1) > 0 for a, b in pairs if a.shape[:1] == (B,)]
    assert np.any(changed, axis=0).tolist() == RESET.tolist()


class Clock(nnx.RNNCellBase):
    """A read-out that decays with the time since the start, which is one number for all samples."""

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros(())

    def __call__(self, time, inputs):
        return time + 1, inputs / (1 + time)

    @property
    def num_feature_axes(self):
        return 1


def test_reset_of_a_number_of_all_samples_together_is_refused():
    model = connect([nnx.Linear(N, C, param_dtype=jnp.float64, rngs=nnx.Rngs(0)), Clock()])
    stream = sr.start_stream(model, optimizer_of(model), sr.cross_entropy, (B, N), rule=sr.BPTT())
    with pytest.raises(TypeError, match="BPTT and a model whose state or traces have a number shared across"):
        sr.extend_stream(stream, *FIRST, reset=RESET)


def test_a_mean_over_a_long_stream_stays_a_mean():
    """As after 2^31 steps and samples in float32: the update is the one of a mean that moves no more."""
    stream = sr.extend_stream(stream_of(penalties=(sr.firing_rate(0.3, weight=2.0),)), *FIRST).stream
    means = stream.online.means
    number = jnp.asarray(2.0**31, means.number.dtype)
    aged = dataclasses.replace(stream, online=stream.online._replace(means=means._replace(number=number)))
    for _ in range(3):
        aged = sr.extend_stream(aged, *FIRST).stream
    (before,), (after,) = (jax.tree.leaves(one.online.means.means) for one in (stream, aged))
    assert 0 < deviation(before, after) < 1e-8
    assert float(aged.online.means.number) == 2.0**31 + 3 * 5 * B


# ------------------------------------------------------------------------------------------------- the loop over a source


def pieces(inputs=INPUTS, labels=LABELS, **more):
    return [sr.Piece(inputs[at : at + 5], labels[at : at + 5], **more) for at in range(0, len(inputs), 5)]


def last(iterator):
    *_, found = iterator
    return found


def test_run_is_extension_piece_by_piece_with_weighted_means_and_reads_nothing_ahead():
    draws, expected, values, masks, read = np.random.default_rng(3), stream_of(), [], [], []
    given = [one._replace(mask=draws.random((5, B)) < 0.6) for one in pieces()]
    given[2] = given[2]._replace(reset=RESET)
    for piece in given:
        expected, outputs, losses = sr.extend_stream(expected, *piece[:3], reset=piece.reset)
        values.append((losses, outputs.argmax(axis=-1) == piece.targets))
        masks.append(piece.mask)

    def source():
        for piece in given:
            read.append(piece)
            yield tuple(piece)

    infos = []
    for info in sr.run_stream(stream_of(), source(), metrics={"accuracy": sr.correct}, half_life=7.0):
        infos.append(info)
        assert len(read) == len(infos)
    assert [info.step for info in infos] == [5, 10, 15, 20]
    assert deviation(numbers(infos[-1].stream), numbers(expected)) == 0
    weights = 0.5 ** (np.arange(T - 1, -1, -1) / 7.0)[:, None] * np.concatenate(masks)
    for name, found in zip(("loss", "accuracy"), zip(*values, strict=True), strict=True):
        assert abs(infos[-1].numbers[name] - np.average(np.concatenate(found), weights=weights)) < SAME


def test_no_mean_before_any_step_counts():
    assert last(sr.run_stream(stream_of(), pieces(mask=np.zeros((5, B), bool)))).numbers == {"loss": None}


@pytest.mark.parametrize("wrong", ["inputs", "loss"])
def test_a_run_that_stopped_at_numbers_that_are_not_finite_continues_from_the_piece_before(wrong, tmp_path):
    """Its checkpoint has nothing of that piece."""
    targets = np.eye(C)[LABELS]
    damaged = [np.array(INPUTS), np.array(targets)]
    damaged[wrong == "loss"][12] = np.nan

    def run(inputs, targets, folder):
        return sr.run_stream(
            stream_of(loss_fn=sr.squared_error),
            lambda step: pieces(inputs[step:], targets[step:]),
            checkpoints=sr.Checkpoints(tmp_path / folder, every=1000),
        )

    expected = last(run(INPUTS, targets, "whole"))
    seen = []
    told = "steps 10 to 14: " + (
        r"the inputs are NaN .*at time step 2, sample \d, feature \d of the piece\. .*source gave\.$"
        if wrong == "inputs"
        else "a loss or a gradient is not finite"
    )
    with pytest.raises(FloatingPointError, match=told):
        for info in run(*damaged, "run"):
            seen.append(info.step)
    assert seen == [5, 10]
    found = last(run(INPUTS, targets, "run"))
    assert found.step == expected.step == T
    assert deviation((found.outputs, numbers(found.stream)), (expected.outputs, numbers(expected.stream))) == 0


def test_a_label_out_of_range_is_named():
    labels = np.array(LABELS)
    labels[12, 1] = C
    with pytest.raises(
        FloatingPointError, match=r"steps 10 to 14: .*\. A label of sample 1 is out of range: 4\. Expected 0 to 3"
    ):
        last(sr.run_stream(stream_of(), pieces(labels=labels)))


@pytest.mark.parametrize("rule", ["otpe", "uoro"])
def test_a_run_that_was_stopped_continues_bit_for_bit(rule, tmp_path):
    """At any piece, with a checkpoint every ten steps, and at the end of a loop that is left."""

    def start(stop=T, folder=None):
        checkpoints = None if folder is None else sr.Checkpoints(tmp_path / folder, every=10, keep=9)
        stream = stream_of(RULES[rule](), penalties=(sr.firing_rate(0.3, weight=2.0),))
        source = lambda step: pieces(INPUTS[step:], LABELS[step:])  # noqa: E731
        for info in sr.run_stream(
            stream, source, metrics={"accuracy": sr.correct}, half_life=9.0, checkpoints=checkpoints
        ):
            if info.step == stop:
                break
        return info

    whole = start()
    for stop in (5, 10, 15):
        start(stop, str(stop))
        again = start(folder=str(stop))
        saved = {path.name for path in (tmp_path / str(stop)).iterdir()}
        assert saved == {str(stop), "10", "20"}
        assert again.step == T and again.numbers == whole.numbers
        assert deviation((again.outputs, numbers(again.stream)), (whole.outputs, numbers(whole.stream))) == 0
    with pytest.raises(ValueError, match="belongs to a run with different settings"):
        last(sr.run_stream(stream_of(window=1), pieces(), checkpoints=sr.Checkpoints(tmp_path / "5")))


def test_three_hundred_pieces_keep_as_many_arrays_as_ten():
    counts = {}
    for number, _ in enumerate(sr.run_stream(stream_of(), itertools.repeat(FIRST, 301), half_life=50.0)):
        if number in (10, 300):
            counts[number] = len(jax.live_arrays())
    assert counts[300] <= counts[10]
