"""Laws of the steps that events are put in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slax_data import bin_events
from slax_data.encoding.events import event_trains
from slax_data.storage.packed import unpacked

N_UNITS = 3
WINDOW = dict(n_units=N_UNITS, n_steps=4, duration=2.0)
EVENTS = st.lists(st.tuples(st.floats(0, 3), st.integers(0, N_UNITS - 1)), max_size=12)


def binned(events, **options):
    times, units = (np.array(part) for part in zip(*events, strict=True)) if events else (np.zeros(0), np.zeros(0, int))
    return bin_events(times, units, **WINDOW | options)


@given(EVENTS, st.integers(1, 9), st.floats(0.1, 3))
def test_a_unit_spikes_in_the_steps_that_hold_its_events(events, n_steps, duration):
    spikes = binned(events, n_steps=n_steps, duration=duration, outside="drop")
    assert spikes.shape == (n_steps, N_UNITS) and spikes.dtype == bool
    ends = [*(k * duration / n_steps for k in range(1, n_steps)), duration]
    begins = [0.0, *ends[:-1]]
    for step, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        for unit in range(N_UNITS):
            assert spikes[step, unit] == any(u == unit and begin <= time < end for time, u in events)


@given(EVENTS, st.randoms())
def test_order_and_repetition_change_nothing(events, chance):
    shuffled = events * 2
    chance.shuffle(shuffled)
    np.testing.assert_array_equal(binned(shuffled, outside="drop"), binned(events, outside="drop"))


@given(EVENTS)
def test_events_in_finer_steps_are_in_the_coarse_steps_that_hold_these(events):
    fine, coarse = (binned(events, n_steps=n, outside="drop") for n in (8, 4))
    np.testing.assert_array_equal(fine.reshape(4, 2, N_UNITS).any(axis=1), coarse)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint16])
def test_events_at_an_edge_are_in_the_step_that_begins_there(dtype):
    spikes = bin_events(np.arange(5, dtype=dtype), np.arange(5, dtype=np.uint16), n_units=5, n_steps=5, duration=5.0)
    np.testing.assert_array_equal(spikes, np.eye(5, dtype=bool))
    spikes = bin_events(np.arange(100) * 1.4 / 100, np.zeros(100, int), n_units=1, n_steps=100, duration=1.4)
    assert spikes.all()


def test_the_last_moment_before_the_end_is_in_the_last_step():
    for n_steps in range(1, 60):
        for duration in (0.1, 0.3, 1.4, 7.0):
            spikes = bin_events(
                np.array([np.nextafter(duration, 0)]), np.array([0]), n_units=1, n_steps=n_steps, duration=duration
            )
            assert np.flatnonzero(spikes).tolist() == [n_steps - 1]


def test_a_window_that_a_coarse_type_cannot_hold_is_not_rounded_to_it():
    time = np.array([1.4], np.float16)  # 1.4004
    with pytest.raises(ValueError, match=r"got 1 of 1 at or after it, the last at 1\.40039"):
        bin_events(time, np.array([0]), n_units=1, n_steps=10, duration=1.4)
    assert bin_events(time, np.array([0]), n_units=1, n_steps=10, duration=1.4005)[-1, 0]


def test_only_what_is_after_the_window_is_dropped():
    events = [(0.1, 0), (2.0, 1), (5.0, 2)]
    with pytest.raises(
        ValueError, match=r"before the end of the window, 2, got 2 of 3 at or after it, the last at 5. Give a longer"
    ):
        binned(events)
    np.testing.assert_array_equal(binned(events, outside="drop"), binned([(0.1, 0)]))
    assert not binned([]).any()


@given(EVENTS)
def test_lists_are_binned_like_arrays(events):
    times, units = [time for time, _ in events], [unit for _, unit in events]
    spikes = bin_events(times, units, **WINDOW, outside="drop")
    np.testing.assert_array_equal(spikes, binned(events, outside="drop"))


def test_ids_of_units_become_their_places_among_the_sorted_ids():
    """As the error of units out of range says."""
    recordings = [([0.1, 0.7], [907, 12]), ([1.9], [340])]
    with pytest.raises(ValueError, match=r"np\.searchsorted\(ids, units\), with the sorted ids of all recordings"):
        bin_events(*recordings[0], **WINDOW)
    ids = np.unique(np.concatenate([units for _, units in recordings]))
    found = [bin_events(times, np.searchsorted(ids, units), **WINDOW) for times, units in recordings]
    assert [np.argwhere(one).tolist() for one in found] == [[[0, 2], [1, 0]], [[3, 1]]]


@pytest.mark.parametrize("nothing", [np.array([]), np.zeros(0, int), np.array([], object), [], ()])
def test_a_recording_without_events_is_silent_whatever_its_type(nothing):
    spikes = bin_events(nothing, nothing, **WINDOW)
    assert spikes.shape == (4, N_UNITS) and spikes.dtype == bool and not spikes.any()


@pytest.mark.parametrize("outside", ["error", "drop"])
@pytest.mark.parametrize(
    ("times", "units", "told"),
    [
        (np.array([0.1, np.nan]), np.array([0, 1]), "times that are finite, got 1 NaN or infinite ones of 2"),
        (np.array([np.inf, np.nan]), np.array([0, 1]), "got 2 NaN or infinite ones of 2"),
        (np.array([0.1, -0.2, -1]), np.array([0, 1, 1]), "times from 0 on, got 2 before, the first at -1"),
        (
            np.array([0.1, 0.2]),
            np.array([0, 3]),
            r"in 0\.\.2, got units from 0 to 3\. Ids .* by np\.searchsorted\(ids, units\)",
        ),
        ([0.1, 0.2], [0, 3], r"units in 0\.\.2, got units from 0 to 3"),
        ([0.1, 0.2], [0], r"times of shape \[2\] and units of \[1\]"),
        (np.array([0.1, 0.2]), np.array([-1, 2]), r"units in 0\.\.2, got units from -1 to 2"),
        (np.array([0.1, 0.2]), np.array([0.0, 1.0]), "units that are integers, got float64 and float64"),
        (np.array([0.1, 0.2]), np.array([True, False]), "units that are integers, got float64 and bool"),
        (np.array(["a"]), np.array([0]), "times that are numbers"),
        (np.array([0.1, 0.2]), np.array([0]), r"times of shape \[2\] and units of \[1\]"),
        (np.zeros((2, 1)), np.zeros((2, 1), int), r"times of shape \[2, 1\]"),
    ],
    ids=[
        "nan",
        "inf",
        "negative",
        "unit 3",
        "list",
        "short list",
        "unit -1",
        "float",
        "bool",
        "text",
        "lengths",
        "axes",
    ],
)
def test_bad_events_are_errors_and_never_dropped(times, units, told, outside):
    with pytest.raises(ValueError, match=told):
        bin_events(times, units, **WINDOW, outside=outside)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n_steps": 0}, "n_steps got 0"),
        ({"n_units": 0}, "n_units got 0"),
        ({"duration": 0.0}, "duration got 0.0, expected a time above 0"),
        ({"duration": float("nan")}, "duration got nan"),
        ({"duration": float("inf")}, "duration got inf"),
        ({"outside": "clip"}, "outside got 'clip', expected one of: 'drop', 'error'"),
    ],
)
def test_bad_options_are_errors(options, told):
    with pytest.raises(ValueError, match=told):
        binned([(0.1, 0)], **options)


def test_a_set_packs_what_its_recordings_have():
    rasters = np.random.default_rng(0).random((4, 6, 11)) < 0.2
    rasters[1, 4:] = False
    rasters[1, 3, 0] = True
    rasters[2] = False
    found = event_trains(iter(rasters), np.array([0, 1, 1, 0]), name="test")
    np.testing.assert_array_equal(unpacked(found.packed, found.n_units), rasters)
    assert found.labels.tolist() == [0, 1, 1, 0] and found.n_units == 11
    assert found.lengths.tolist()[1:3] == [4, 0]


RASTERS = np.zeros((2, 6, 11), bool)


@pytest.mark.parametrize(
    ("recordings", "labels", "told"),
    [
        ([], [], "words has no recordings, got 0 labels"),
        ([], [0, 1], "words has no recordings, got 2 labels"),
        (RASTERS, [0], "Got 2 recordings with 1 labels and 2 lengths"),
        (RASTERS, [0.0, 1.0], "labels must be integers"),
        (RASTERS.astype(np.float32), [0, 1], r"spikes must be booleans \[T, N\], got float32 of shape \[6, 11\]"),
        (RASTERS[..., None], [0, 1], r"booleans \[T, N\], got bool of shape \[6, 11, 1\]"),
        (RASTERS[:, :0], [0, 1], r"booleans \[T, N\], got bool of shape \[0, 11\]"),
        ([RASTERS[0], RASTERS[1, :5]], [0, 1], r"of words must have one shape, got \[5, 11\] after \[6, 11\]"),
        ([RASTERS[0], RASTERS[1, :, :9]], [0, 1], r"must have one shape, got \[6, 9\] after \[6, 11\]"),
    ],
)
def test_recordings_that_are_no_set_are_errors(recordings, labels, told, no_shape_checks):
    with pytest.raises(ValueError, match=told):
        event_trains(iter(recordings), np.array(labels), name="words")
