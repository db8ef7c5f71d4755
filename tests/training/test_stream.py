"""Streams: pieces are one sequence, and samples are reset; the loop over a source, and its checkpoints."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import LI, LIF, Dropout, connect
from training import small
from training.small import C, N, optimizer_of

pytestmark = pytest.mark.usefixtures("x64")  # all numbers are float64
T, B = 20, 3
SAME = 1e-12
SGD, STILL = optax.sgd(0.1, momentum=0.9), optax.sgd(0.0)
DRAWS = np.random.default_rng(0)
INPUTS, LABELS = (DRAWS.random((T, B, N)) < 0.4).astype(np.float64), DRAWS.integers(0, C, (T, B))
FIRST, SECOND = (INPUTS[:5], LABELS[:5]), (INPUTS[5:10], LABELS[5:10])
RESET, NONE = np.array([False, True, False]), np.zeros(B, bool)  # NONE runs the program of RESET, which None does not


def made():
    return small.made(dtype=jnp.float64)[0]


OF_OTPE = sr.OTPE()


def stream_of(rule=OF_OTPE, *, window=5, transformation=SGD, penalties=()):
    model = made()
    optimizer = optimizer_of(model, rule, transformation)
    return sr.start_stream(model, optimizer, sr.cross_entropy, (B, N), rule=rule, window=window, penalties=penalties)


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


@pytest.mark.parametrize("name", ["otpe", "parameters", "uoro"])
def test_pieces_are_one_sequence(name):
    """With pieces of whole windows, rules give what `train_online` gives, with penalties of means in a window too."""
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


def test_a_piece_may_end_with_a_shorter_window():
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


@pytest.mark.parametrize("name", ["bptt", "parameters", "ostl of images", "otpe of images"])
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
    optimizer = optimizer_of(model, None, STILL)
    return sr.start_stream(model, optimizer, sr.cross_entropy, (batch, N), rule=sr.OSTL(), window=5)


def test_look_ahead_predicts_without_dropout():
    stream = with_dropout("sequence", B)
    predicted = sr.look_ahead(stream, stream.state, INPUTS[:5])[1]
    assert deviation(predicted, sr.look_ahead(stream_of(), stream_of().state, INPUTS[:5])[1]) < SAME
    assert deviation(predicted, sr.extend_stream(stream, *FIRST).outputs) > 0.1


def test_a_reset_sample_alone_has_a_new_mask_of_dropout():
    masks, stream = [], with_dropout("sequence", B)
    for reset in (NONE, ~RESET, RESET, NONE):
        before = nnx.filter_state(stream.objects, nnx.RngCount)
        stream = sr.extend_stream(stream, *FIRST, reset=reset).stream
        (mask,) = (leaf for leaf in jax.tree.leaves(stream.state) if leaf.dtype == jnp.bool_)
        masks.append(np.asarray(mask))
    changed = [[bool((new != old).any()) for new, old in zip(*pair, strict=True)] for pair in itertools.pairwise(masks)]
    assert changed == [[True, False, True], [False, True, False], [False] * 3]
    after = nnx.filter_state(stream.objects, nnx.RngCount)
    assert jax.tree.leaves(after) and deviation(before, after) == 0  # no reset draws nothing


def test_masks_of_each_step_are_new_after_a_reset_of_one_sample():
    """Their key is of the only sample: a state at rest would draw the same masks again."""
    stream, outputs = with_dropout("step", 1), []
    for _ in range(5):
        reset = np.array([True])
        stream, found, _ = sr.extend_stream(stream, np.full((1, 1, N), 2.0), np.zeros((1, 1), int), reset=reset)
        outputs.append(np.asarray(found))
    assert np.ptp(outputs, axis=0).any()


def test_a_reset_under_uoro_is_of_single_samples():
    start = stream_of(sr.UORO(rngs=nnx.Rngs(0)), transformation=STILL)
    before = sr.extend_stream(start, *FIRST, reset=NONE).stream
    found, kept = (sr.extend_stream(before, *FIRST, reset=which).stream.state for which in (RESET, NONE))
    assert int(found.traces.step) == int(kept.traces.step) == 10
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(kept), strict=True)
    changed = [np.abs(a - b).reshape(B, -1).max(1) > 0 for a, b in pairs if a.shape[:1] == (B,)]
    assert np.any(changed, axis=0).tolist() == RESET.tolist()


class Clock(LI):
    """A read-out with the time since the start, which is one number for all samples, in its carry."""

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros(())

    def __call__(self, time, inputs):
        return time + 1, inputs / (1 + time)


def test_reset_of_a_number_of_all_samples_together_is_refused():
    model = connect([nnx.Linear(N, C, param_dtype=jnp.float64, rngs=nnx.Rngs(0)), Clock(param_dtype=jnp.float64)])
    stream = sr.start_stream(model, optimizer_of(model), sr.cross_entropy, (B, N), rule=sr.BPTT(), window=1)
    with pytest.raises(TypeError, match="that samples share"):
        sr.extend_stream(stream, *FIRST, reset=RESET)


# ------------------------------------------------------------------------------------------------------- a loop over a source


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


def test_a_run_that_stopped_at_numbers_that_are_not_finite_continues_from_the_piece_before(tmp_path):
    """Its checkpoint has nothing of that piece."""
    damaged, seen = np.where(np.arange(T)[:, None, None] == 12, np.nan, INPUTS), []

    def run(inputs, folder):
        where = sr.Checkpoints(tmp_path / folder, every=1000)
        return sr.run_stream(stream_of(), lambda step: pieces(inputs[step:], LABELS[step:]), checkpoints=where)

    expected = last(run(INPUTS, "whole"))
    with pytest.raises(FloatingPointError, match=r"steps 10 to 14: the inputs are NaN .*at time step 2"):
        for info in run(damaged, "run"):
            seen.append(info.step)
    assert seen == [5, 10]
    found = last(run(INPUTS, "run"))
    assert found.step == expected.step == T
    assert deviation((found.outputs, numbers(found.stream)), (expected.outputs, numbers(expected.stream))) == 0


def test_a_run_that_was_stopped_continues_bit_for_bit(tmp_path):
    """At any piece, with a checkpoint every ten steps, and at the end of a loop that is left. UORO has traces and draws."""

    def start(stop=T, folder=None):
        checkpoints = None if folder is None else sr.Checkpoints(tmp_path / folder, every=10, keep=9)
        stream = stream_of(RULES["uoro"]())
        source = lambda step: pieces(INPUTS[step:], LABELS[step:])  # noqa: E731
        options = {"metrics": {"accuracy": sr.correct}, "half_life": 9.0, "checkpoints": checkpoints}
        for info in sr.run_stream(stream, source, **options):
            if info.step == stop:
                break
        return info

    whole = start()
    for stop in (5, 10):
        start(stop, str(stop))
        again = start(folder=str(stop))
        saved = {path.name for path in (tmp_path / str(stop)).iterdir()}
        assert saved == {str(stop), "10", "20"}
        assert again.step == T and again.numbers == whole.numbers
        assert deviation((again.outputs, numbers(again.stream)), (whole.outputs, numbers(whole.stream))) == 0
    listed = {"source": pieces(), "checkpoints": sr.Checkpoints(tmp_path / "list")}
    last(sr.run_stream(stream_of(), **listed))
    with pytest.raises(TypeError, match="resumes at step 20 of a list, expected a function"):
        last(sr.run_stream(stream_of(), **listed))
    with pytest.raises(ValueError, match="belongs to a run with different settings"):
        last(sr.run_stream(stream_of(window=1), pieces(), checkpoints=sr.Checkpoints(tmp_path / "5")))
