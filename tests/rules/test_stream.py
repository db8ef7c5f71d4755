"""Streams: pieces are one sequence, samples start anew, gaps, late labels, means, checkpoints in the middle."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from kinds_of_rules import of_each_kind
from slax_neurons import LI, LIF, Dropout, RunningNorm, connect
from slax_rules import (
    BPTT,
    OSTL,
    OTPE,
    RULES,
    UORO,
    Checkpoints,
    Piece,
    SequenceLoss,
    correct,
    cross_entropy,
    extend_stream,
    firing_rate,
    fptt,
    look_ahead,
    run_stream,
    squared_error,
    start_stream,
    train_online,
)

T, B, N, C = 20, 3, 6, 4
SAME = 1e-12
NAMES = [name for name in of_each_kind() if "online" in RULES[name].updates]


@pytest.fixture(autouse=True)
def _x64(x64):
    """All numbers are float64."""


def data(steps=T, batch=B):
    draws = np.random.default_rng(0)
    return (draws.random((steps, batch, N)) < 0.4).astype(np.float64), draws.integers(0, C, (steps, batch))


def trained(inputs, labels, rule=None, transformation=None, penalties=()):
    """A model after `train_online`, and the loss."""
    rule = OTPE() if rule is None else rule
    model, optimizer = made(transformation, rule)
    batch = jnp.asarray(inputs), jnp.asarray(labels)
    return model, train_online(model, optimizer, cross_entropy, *batch, rule=rule, window=5, penalties=penalties)


def made(transformation=None, rule=None):
    rngs = nnx.Rngs(0)
    first, second = (nnx.Linear(*sizes, param_dtype=jnp.float64, rngs=rngs) for sizes in ((N, 8), (8, C)))
    model = connect([first, LIF(threshold=0.5, param_dtype=jnp.float64), second, LI(param_dtype=jnp.float64)])
    learns = rule is not None and jax.tree.leaves(nnx.state(rule, nnx.Param))
    trained = (model, rule) if learns else model
    return model, nnx.Optimizer(trained, transformation or optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)


def stream_of(rule=None, batch=B, window=5, **options):
    rule = OTPE() if rule is None else rule
    model, optimizer = made(options.pop("transformation", None), rule)
    return start_stream(model, optimizer, cross_entropy, (batch, N), rule=rule, window=window, **options)


def deviation(one, two):
    return max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True))


def numbers(stream):
    """Parameters and state of a stream."""
    rule = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, stream.state)
    return nnx.to_pure_dict(nnx.state(stream.model, nnx.Param)), rule


def is_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("name", NAMES)
def test_pieces_are_one_sequence(name):
    """With pieces of whole windows, whatever their length, all rules give what `train_online` gives."""
    inputs, labels = data()
    transformation = fptt(optax.sgd(0.1, momentum=0.9)) if name == "fptt" else None
    rule = RULES[name].make(rngs=nnx.Rngs(1), model=made()[0])
    model, expected = trained(inputs, labels, rule, transformation)
    again = RULES[name].make(rngs=nnx.Rngs(1), model=made()[0])
    stream = stream_of(again, transformation=transformation)
    losses = []
    for first, last in ((0, 5), (5, 15), (15, 20)):
        stream, outputs, found = extend_stream(stream, inputs[first:last], labels[first:last])
        assert outputs.shape == (last - first, B, C)
        losses.append(found)
    assert abs(float(jnp.concatenate(losses).mean()) - float(expected)) < SAME
    assert deviation(nnx.state(model, nnx.Param), nnx.state(stream.model, nnx.Param)) < SAME


def test_a_piece_that_is_no_whole_number_of_windows_ends_with_a_shorter_one():
    inputs, labels = data(7)
    whole = extend_stream(stream_of(), inputs, labels).stream
    cut = extend_stream(extend_stream(stream_of(), inputs[:5], labels[:5]).stream, inputs[5:], labels[5:]).stream
    assert deviation(numbers(whole), numbers(cut)) < SAME


def test_penalty_of_a_mean_refers_to_all_steps_so_far():
    inputs, labels = data()
    penalties = (firing_rate(0.3, weight=2.0),)
    model, _ = trained(inputs, labels, penalties=penalties)
    stream = stream_of(penalties=penalties)
    for first in range(0, T, 10):
        stream = extend_stream(stream, inputs[first : first + 10], labels[first : first + 10]).stream
    assert deviation(nnx.state(model, nnx.Param), nnx.state(stream.model, nnx.Param)) < SAME


def test_masked_steps_change_state_and_traces_and_no_parameter():
    inputs, labels = data(5)
    stream = stream_of()
    after, _, losses = extend_stream(stream, inputs, labels, mask=np.zeros((5, B), bool))
    assert not losses.any()
    assert deviation(numbers(stream)[0], numbers(after)[0]) == 0
    assert deviation(numbers(stream)[1], numbers(after)[1]) > 0.1


@pytest.mark.parametrize("name", [name for name in NAMES if name != "uoro"])
def test_a_sample_that_starts_anew_is_at_rest_without_traces(name):
    """The others go on as they were: after a reset, the gradient of a masked loss of each is that of streams of their own."""
    inputs, labels = data(5)
    rule = RULES[name].make(rngs=nnx.Rngs(1), model=made()[0])
    fixed = stream_of(rule, transformation=optax.sgd(0.0))
    before = extend_stream(fixed, inputs, labels).stream
    reset = np.array([False, True, False])
    runs = ((before, reset), (before, None), (fixed, None))
    ends = [extend_stream(stream, inputs, labels, reset=which).stream for stream, which in runs]
    found, kept, fresh = (numbers(stream)[1] for stream in ends)

    def check(mixed, old, new):
        axis = next(axis for axis, size in enumerate(mixed.shape) if size == B)
        for sample, source in enumerate((old, new, old)):
            difference = jnp.take(mixed, sample, axis) - jnp.take(source, sample, axis)
            assert jnp.abs(difference).max() < SAME

    jax.tree.map(check, found, kept, fresh)


def with_dropout(mask, batch):
    """A stream whose inputs are dropped; nothing is learned."""
    model, _ = made()
    model.modules.insert(0, Dropout(0.5, mask=mask, rngs=nnx.Rngs(0)))
    optimizer = nnx.Optimizer(model, optax.sgd(0.0), wrt=nnx.Param)
    return start_stream(model, optimizer, cross_entropy, (batch, N), rule=OSTL(), window=5)


def test_a_sample_that_starts_anew_has_a_new_mask_of_dropout_and_the_others_keep_theirs():
    inputs, labels = data(5)
    masks = []
    stream = with_dropout("sequence", B)
    for reset in (None, np.array([False, True, True]), np.array([False, True, False]), np.zeros(B, bool)):
        stream = extend_stream(stream, inputs, labels, reset=reset).stream
        (mask,) = (leaf for leaf in jax.tree.leaves(stream.state) if leaf.dtype == jnp.bool_)
        masks.append(np.asarray(mask))
    changed = [[bool((new != old).any()) for new, old in zip(*pair, strict=True)] for pair in itertools.pairwise(masks)]
    assert changed == [[False, True, True], [False, True, False], [False] * 3]
    assert (masks[2][1] != masks[0][1]).any()  # nor is it the mask of the start
    after = [extend_stream(stream, inputs, labels, reset=reset).stream for reset in (None, np.zeros(B, bool))]
    counts = [nnx.filter_state(one.online.objects, nnx.RngCount) for one in after]
    assert jax.tree.leaves(counts[0]) and deviation(*counts) == 0  # no reset draws nothing


@pytest.mark.parametrize("batch", [1, B])
def test_masks_of_each_step_go_on_after_a_reset(batch):
    """The key of the masks is of all samples: with one sample it is drawn anew, with several it continues."""
    inputs, labels = np.ones((5, batch, N)), np.zeros((5, batch), int)
    stream = with_dropout("step", batch)
    reset = np.ones(batch, bool)
    reset[1:-1] = False
    outputs = []
    for _ in range(3):
        stream, found, _ = extend_stream(stream, inputs, labels, reset=reset)
        outputs.append(np.asarray(found[:, 0]))  # a sample that starts anew each time
    for one, other in itertools.combinations(outputs, 2):
        assert (one != other).any()


def test_uoro_draws_anew_after_each_reset():
    inputs, labels = data(5, 1)
    stream = stream_of(UORO(rngs=nnx.Rngs(0)), batch=1, transformation=optax.sgd(0.0))
    ends = []
    for reset in (None, np.ones(1, bool), np.ones(1, bool)):
        stream = extend_stream(stream, inputs, labels, reset=reset).stream
        ends.append([np.asarray(leaf) for leaf in jax.tree.leaves(numbers(stream)[1])])
    for one, other in itertools.combinations(ends, 2):
        assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_a_mean_over_a_long_stream_stays_a_mean():
    """As after 2^31 steps and samples in float32: the update is the one of a mean that moves no more."""
    inputs, labels = (array.astype(kind) for array, kind in zip(data(5), (np.float64, int), strict=True))
    stream = extend_stream(stream_of(penalties=(firing_rate(0.3, weight=2.0),)), inputs, labels).stream
    means = stream.online.means
    number = jnp.asarray(2.0**31, means.number.dtype)
    aged = dataclasses.replace(stream, online=stream.online._replace(means=means._replace(number=number)))
    for _ in range(3):
        aged = extend_stream(aged, inputs, labels).stream
    (before,), (after,) = (jax.tree.leaves(one.online.means.means) for one in (stream, aged))
    assert 0 < deviation(before, after) < 1e-8
    assert float(aged.online.means.number) == 2.0**31 + 3 * 5 * B
    assert deviation(nnx.state(stream.model, nnx.Param), nnx.state(aged.model, nnx.Param)) < 1


def test_look_ahead_refuses_wrong_shapes():
    stream = stream_of()
    with pytest.raises(ValueError, match=r"look_ahead got inputs of shape \[5, 3, 7\], expected \[L, 3, 6\]"):
        look_ahead(stream, stream.state, np.zeros((5, B, 7)))
    with pytest.raises(ValueError, match=r"Got inputs of shape \[3, 6\], expected \[T, B, features"):
        look_ahead(stream, stream.state, np.zeros((B, N)))
    with pytest.raises(ValueError, match=r"look_ahead got reset as bool\[2\], expected bool\[3\]"):
        look_ahead(stream, stream.state, np.zeros((5, B, N)), reset=np.zeros(2, bool))


def test_a_reset_under_uoro_is_of_single_samples_while_its_signs_go_on():
    inputs, labels = data(5)
    before = extend_stream(stream_of(UORO(rngs=nnx.Rngs(0)), transformation=optax.sgd(0.0)), inputs, labels).stream
    reset = np.array([False, True, False])
    found, kept = (extend_stream(before, inputs, labels, reset=which).stream.state for which in (reset, None))
    assert int(found.influence.step) == int(kept.influence.step) == 10
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(kept), strict=True)
    changed = [jnp.abs(a - b).reshape(B, -1).max(1) > 0 for a, b in pairs if a.shape[:1] == (B,)]
    assert jnp.any(jnp.stack(changed), axis=0).tolist() == [False, True, False]


class Clock(nnx.RNNCellBase):
    """A read-out that decays with the time since the start, which is one number for all samples."""

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros(())

    def __call__(self, time, inputs):
        return time + 1, inputs / (1 + time)

    @property
    def num_feature_axes(self):
        return 1


@pytest.mark.parametrize("batch", [1, B])
def test_reset_of_a_number_of_all_samples_together_is_refused_but_for_one_sample(batch):
    model = connect([nnx.Linear(N, C, param_dtype=jnp.float64, rngs=nnx.Rngs(0)), Clock()])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    stream = start_stream(model, optimizer, cross_entropy, (batch, N), rule=BPTT())
    inputs, labels = data(5, batch)
    stream = extend_stream(stream, inputs, labels).stream
    if batch > 1:
        with pytest.raises(TypeError, match="BPTT and a model with a number of all samples together in its state"):
            extend_stream(stream, inputs, labels, reset=np.ones(batch, bool))
    else:
        (time,) = jax.tree.leaves(extend_stream(stream, inputs, labels, reset=np.ones(1, bool)).stream.state)
        assert float(time) == 5


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"inputs": np.ones((5, B + 1, N))}, ValueError, r"expected \[L, 3, 6\]"),
        ({"targets": np.zeros(B, int)}, ValueError, "targets"),
        ({"mask": np.ones((4, B), bool)}, ValueError, "mask"),
        ({"reset": np.ones(B + 1, bool)}, ValueError, r"expected bool\[3\]"),
        ({"reset": np.ones(B)}, ValueError, r"expected bool\[3\]"),
    ],
)
def test_wrong_shapes_are_refused(change, error, match):
    inputs, labels = data(5)
    given = {"inputs": inputs, "targets": labels} | change
    with pytest.raises(error, match=match):
        extend_stream(stream_of(), given.pop("inputs"), given.pop("targets"), **given)


def test_a_start_that_cannot_work_is_refused():
    model, optimizer = made()
    with pytest.raises(ValueError, match="window=0"):
        start_stream(model, optimizer, cross_entropy, (B, N), rule=OTPE(), window=0)
    with pytest.raises(TypeError, match="start_stream got a SequenceLoss"):
        start_stream(model, optimizer, SequenceLoss(lambda y, t: y.sum((0, 2))), (B, N), rule=OTPE())
    norm = connect([RunningNorm(nnx.Linear(N, C, rngs=nnx.Rngs(0))), LI()])
    with pytest.raises(TypeError, match="end of a sequence"):
        start_stream(norm, nnx.Optimizer(norm, optax.sgd(0.1), wrt=nnx.Param), cross_entropy, (B, N), rule=BPTT())


# The loop over a source.


def pieces(inputs, labels, length=5, **more):
    return [
        Piece(inputs[first : first + length], labels[first : first + length], **more)
        for first in range(0, len(inputs), length)
    ]


def last(iterator):
    found = None
    for found in iterator:  # noqa: B007
        pass
    return found


def test_run_is_extension_piece_by_piece_with_weighted_means():
    inputs, labels = data()
    expected, losses, right = stream_of(), [], []
    for piece in pieces(inputs, labels):
        expected, outputs, found = extend_stream(expected, piece.inputs, piece.targets)
        losses.append(found)
        right.append(outputs.argmax(axis=-1) == piece.targets)
    infos = list(run_stream(stream_of(), pieces(inputs, labels), metrics={"accuracy": correct}, half_life=7.0))
    assert [info.step for info in infos] == [5, 10, 15, 20]
    assert deviation(numbers(infos[-1].stream), numbers(expected)) == 0
    weights = 0.5 ** (np.arange(T - 1, -1, -1) / 7.0)
    for name, values in (("loss", losses), ("accuracy", right)):
        mean = np.average(np.concatenate(values).mean(axis=1), weights=weights)
        assert abs(infos[-1].numbers[name] - mean) < SAME


def test_means_count_only_what_the_mask_counts():
    inputs, labels = data()
    mask = np.zeros((5, B), bool)
    infos = list(run_stream(stream_of(), pieces(inputs, labels, mask=mask)))
    assert infos[-1].numbers == {"loss": None}


def test_nothing_is_read_ahead():
    """So that a source which can wait is as fast as the model."""
    inputs, labels = data()
    read = []

    def source():
        for piece in pieces(inputs, labels):
            read.append(piece)
            yield piece

    for number, _ in enumerate(run_stream(stream_of(), source())):
        assert len(read) == number + 1


def test_a_short_gap_is_filled_with_zeros_and_a_long_one_starts_anew():
    inputs, labels = data()
    silent = np.array(inputs)
    silent[5:12] = 0
    counted = np.ones((T, B), bool)
    counted[5:12] = False
    expected = stream_of(window=1)
    for first, end in ((0, 5), (5, 12), (12, 20)):
        expected = extend_stream(expected, silent[first:end], labels[first:end], mask=counted[first:end]).stream
    around = [Piece(inputs[:5], labels[:5]), Piece(inputs[12:], labels[12:], start=12)]
    found = last(run_stream(stream_of(window=1), around, max_gap=7))
    assert found.step == T
    assert deviation(numbers(found.stream), numbers(expected)) < SAME
    anew = extend_stream(stream_of(window=1), inputs[:5], labels[:5]).stream
    anew = extend_stream(anew, inputs[12:], labels[12:], reset=np.ones(B, bool)).stream
    found = last(run_stream(stream_of(window=1), around, max_gap=6))
    assert found.step == T
    assert deviation(numbers(found.stream), numbers(anew)) < SAME


def late(inputs, labels, delay, length=5):
    """Pieces without targets, each of which comes some pieces later."""
    starts = range(0, len(inputs), length)
    for number, start in enumerate([*starts, *[None] * delay]):
        if number >= delay:
            first = starts[number - delay]
            yield Piece(targets=labels[first : first + length], start=first)
        if start is not None:
            yield Piece(inputs[start : start + length])


def test_late_targets_teach_the_same_and_predictions_do_not_wait():
    inputs, labels = data(40)
    expected = last(run_stream(stream_of(), pieces(inputs, labels)))
    infos = list(run_stream(stream_of(), late(inputs, labels, delay=2), max_delay=15))
    assert [info.step for info in infos] == list(range(5, 41, 5))
    # The last targets come after the last piece, so what was learned then is in the checkpoint alone: see below.
    model, _ = trained(inputs[:30], labels[:30])
    assert deviation(nnx.state(model, nnx.Param), nnx.state(infos[-1].stream.model, nnx.Param)) < SAME
    assert abs(infos[-1].numbers["loss"] - expected.numbers["loss"]) > 0
    first = extend_stream(stream_of(), inputs[:5], labels[:5])
    assert deviation(infos[0].outputs, first.outputs) < SAME


def test_targets_that_are_too_late_are_ignored():
    inputs, labels = data(30)
    known = np.ones((30, B), bool)
    known[5:10] = False

    def source():
        yield Piece(inputs[:5], labels[:5])
        yield Piece(inputs[5:10])
        for first in range(10, 30, 5):
            yield Piece(inputs[first : first + 5], labels[first : first + 5])
        yield Piece(targets=labels[5:10], start=5)

    expected = stream_of()
    for first in range(0, 30, 5):
        part = slice(first, first + 5)
        expected = extend_stream(expected, inputs[part], labels[part], mask=known[part]).stream
    found = last(run_stream(stream_of(), source(), max_delay=10))
    assert deviation(numbers(found.stream), numbers(expected)) < SAME


def test_late_targets_of_a_part_of_a_piece_teach_where_they_count():
    inputs, labels = data(5)
    mask = np.zeros((5, B), bool)
    mask[2:4, 1] = True
    expected = extend_stream(stream_of(), inputs, labels, mask=mask).stream
    only = np.array([[False, True, False]] * 2)
    silent = Piece(np.zeros((4, B, N)), np.zeros((4, B), int), np.zeros((4, B), bool))
    source = [Piece(inputs), Piece(None, labels[2:4], only, start=2), silent]
    expected = extend_stream(expected, silent.inputs, silent.targets, mask=silent.mask).stream
    found = last(run_stream(stream_of(), source, max_delay=4))
    assert deviation(numbers(found.stream), numbers(expected)) < SAME


@pytest.mark.parametrize(
    ("source", "options", "match"),
    [
        ([Piece(data(5)[0])], {}, "no targets before they were needed"),
        (pieces(*data(5), start=3) + pieces(*data(5), start=3), {}, "starts at step 3, expected 8 or later"),
        ([(data(5)[0], data(5)[1][:4])], {}, "expected one per step and sample"),
        ([(data(5)[0], data(5)[1]), (data(5)[0], np.ones((5, B, 2)))], {}, r"of int64\[L, B\]"),
        ([(np.ones((5, N)), np.ones(5))], {}, r"expected \[L, B, features"),
        ([], {"half_life": 0.0}, "half_life=0.0"),
        ([], {"max_gap": -1}, "max_gap=-1"),
    ],
)
def test_sources_that_cannot_be_read_are_refused(source, options, match):
    with pytest.raises(ValueError, match=match):
        last(run_stream(stream_of(), source, **options))


def test_other_things_than_pieces_are_refused():
    with pytest.raises(TypeError, match="gave dict, expected a Piece"):
        last(run_stream(stream_of(), [{"inputs": 1}]))
    with pytest.raises(TypeError, match=r"gave start=5\.0, expected an integer"):
        last(run_stream(stream_of(), [Piece(*data(5), start=5.0)]))
    with pytest.raises(TypeError, match="metrics that are not functions"):
        run_stream(stream_of(), [], metrics={"loss": correct})


def test_numbers_that_are_not_finite_stop_the_run_before_they_are_learned():
    inputs, labels = data(10)
    bad = np.array(inputs)
    bad[7, 1, 2] = np.nan
    run = run_stream(stream_of(), pieces(bad, labels))
    good = next(run)
    with pytest.raises(FloatingPointError, match="inputs that are not finite in steps 5 to 9"):
        next(run)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(numbers(good.stream)))


@pytest.mark.parametrize("max_delay", [0, 7])
@pytest.mark.parametrize("wrong", ["inputs", "loss"])
def test_a_run_that_stopped_at_numbers_that_are_not_finite_continues_from_the_piece_before(max_delay, wrong, tmp_path):
    """Its checkpoint has nothing of that piece, neither in the state that learns nor in the one that predicts."""
    inputs, labels = data()
    targets = jax.nn.one_hot(labels, C, dtype=jnp.float64)
    damaged = [np.array(inputs), np.array(targets)]
    damaged[wrong == "loss"][12] = np.nan

    def pieces(inputs, targets):
        return lambda step: ((inputs[at : at + 5], targets[at : at + 5]) for at in range(step, T, 5))

    def run(source, folder):
        model, optimizer = made()
        stream = start_stream(model, optimizer, squared_error, (B, N), rule=OTPE(), window=5)
        return run_stream(stream, source, max_delay=max_delay, checkpoints=Checkpoints(folder, every=1000))

    *_, expected = run(pieces(inputs, targets), tmp_path / "whole")
    seen = []
    with pytest.raises(FloatingPointError, match="not finite"):
        for info in run(pieces(*damaged), tmp_path / "run"):
            seen.append(info.step)
    assert seen == [5, 10]
    *_, found = run(pieces(inputs, targets), tmp_path / "run")
    assert found.step == expected.step == T
    assert deviation(found.outputs, expected.outputs) == 0
    assert deviation(numbers(found.stream), numbers(expected.stream)) == 0


def test_a_run_that_was_stopped_continues_bit_for_bit(tmp_path):
    """In the middle of the stream, with targets still to come, at any piece."""
    inputs, labels = data(60)

    def source(step, end=60):
        for first in range(step, end, 5):
            if first >= 10:
                yield Piece(targets=labels[first - 10 : first - 5], start=first - 10)
            reset = np.array([first == 30, False, False])
            yield Piece(inputs[first : first + 5], start=first, reset=reset)

    options = {"max_delay": 20, "metrics": {"accuracy": correct}, "half_life": 20.0}
    whole = last(run_stream(stream_of(), source, **options))
    for stop in (5, 25, 35):
        checkpoints = Checkpoints(tmp_path / str(stop), every=10)
        last(run_stream(stream_of(), lambda step, stop=stop: source(step, stop), checkpoints=checkpoints, **options))
        again = last(run_stream(stream_of(), source, checkpoints=checkpoints, **options))
        assert again.step == whole.step
        assert deviation(numbers(again.stream), numbers(whole.stream)) == 0
        assert again.numbers == whole.numbers
        assert deviation(again.outputs, whole.outputs) == 0


def test_a_loop_that_is_left_saves_what_it_had(tmp_path):
    inputs, labels = data(20)
    checkpoints = Checkpoints(tmp_path / "run", every=1000)
    for info in run_stream(stream_of(), pieces(inputs, labels), checkpoints=checkpoints):
        if info.step == 10:
            break
    del info

    def rest(step):
        assert step == 10
        return pieces(inputs[step:], labels[step:])

    again = last(run_stream(stream_of(), rest, checkpoints=checkpoints))
    assert deviation(numbers(again.stream), numbers(last(run_stream(stream_of(), pieces(inputs, labels))).stream)) == 0


def test_a_checkpoint_of_another_stream_is_refused(tmp_path):
    inputs, labels = data(10)
    checkpoints = Checkpoints(tmp_path / "run", every=5)
    last(run_stream(stream_of(), pieces(inputs, labels), checkpoints=checkpoints))
    with pytest.raises(ValueError, match="of another run, with other settings"):
        last(run_stream(stream_of(window=1), pieces(inputs, labels), checkpoints=checkpoints))


def test_a_thousand_pieces_keep_as_many_arrays_as_ten():
    inputs, labels = data(5)
    run = run_stream(stream_of(), itertools.repeat(Piece(inputs, labels)), half_life=50.0)
    counts = {}
    for number, _ in enumerate(run):
        if number in (10, 1000):
            counts[number] = len(jax.live_arrays())
        if number == 1000:
            break
    assert counts[1000] <= counts[10]
