"""Files of events and lines from a connection as pieces of a stream."""

import io
import itertools
import json
import socket
import threading

import numpy as np
import pytest

from slax_data import bin_events, event_pieces, read_events, read_lines, step_line

N = 6


def events(number=500, seed=0):
    draws = np.random.default_rng(seed)
    return np.sort(draws.random(number)) * 10, draws.integers(0, N, number)


def written(path, times, units, header=""):
    path.write_text(header + "".join(f"{float(time)!r},{unit}\n" for time, unit in zip(times, units, strict=True)))
    return path


@pytest.mark.parametrize("block", [1, 7, 500, 10_000])
@pytest.mark.parametrize("length", [1, 3, 50, 64])
def test_a_file_of_events_is_its_recording_in_pieces(tmp_path, block, length):
    times, units = events()
    path = written(tmp_path / "events.csv", times, units, "time,unit\n")
    pieces = list(event_pieces(read_events(path, block=block), n_units=N, step=0.2, length=length))
    assert [piece.start for piece in pieces] == list(range(0, len(pieces) * length, length))
    assert all(piece.inputs.shape == (length, 1, N) and piece.inputs.dtype == np.float32 for piece in pieces)
    found = np.concatenate([piece.inputs[:, 0] for piece in pieces])
    expected = bin_events(times, units, n_units=N, n_steps=50, duration=10.0)
    assert (found[:50] == expected).all() and not found[50:].any()


@pytest.mark.parametrize(("step", "duration"), [(0.05, 2.0), (0.001, 2.0)])
def test_events_at_the_edges_of_steps_are_where_bin_events_puts_them(step, duration):
    n_steps = round(duration / step)
    numbers = np.arange(1, n_steps)
    for times in (numbers * step, numbers * duration / n_steps):  # 3 * 0.05 > 6 / 40 = 0.15, and 0.15 / 0.05 < 3
        [piece] = event_pieces([(times, np.zeros(len(times), int))], n_units=1, step=step, length=n_steps)
        expected = bin_events(times, np.zeros(len(times), int), n_units=1, n_steps=n_steps, duration=duration)
        assert (piece.inputs[:, 0] == expected).all()
        assert expected[:, 0].tolist() == [False] + [True] * (n_steps - 1)


def test_a_time_before_an_edge_by_more_than_rounding_is_in_the_step_before():
    [piece] = event_pieces([(np.array([0.15 - 1e-12]), np.array([0]))], n_units=1, step=0.05, length=4)
    assert np.flatnonzero(piece.inputs).tolist() == [2]


def test_blocks_without_events_change_nothing():
    times, units = events()
    nothing = (np.zeros(0), np.zeros(0, int))
    blocks = [nothing, (times[:200], units[:200]), nothing, (times[200:], units[200:]), nothing]
    one = list(event_pieces(blocks, n_units=N, step=0.2, length=3))
    other = list(event_pieces([(times, units)], n_units=N, step=0.2, length=3))
    assert [piece.start for piece in one] == [piece.start for piece in other]
    assert all((a.inputs == b.inputs).all() for a, b in zip(one, other, strict=True))


def test_hdf5_and_text_give_the_same_blocks(tmp_path):
    h5py = pytest.importorskip("h5py")
    times, units = events(20)
    with h5py.File(tmp_path / "events.h5", "w") as file:
        file["times"], file["units"] = times, units
    one = list(read_events(tmp_path / "events.h5", block=7))
    two = list(read_events(written(tmp_path / "events.csv", times, units), block=7))
    assert [len(block[0]) for block in one] == [7, 7, 6]
    for (times, units), (others, same) in zip(one, two, strict=True):
        assert (times == others).all() and (units == same).all()


def test_a_file_is_read_as_far_as_it_is_needed(tmp_path):
    """A file of ten million lines would not fit; here the line that cannot be read is never reached."""
    times, units = events(100)
    path = written(tmp_path / "events.csv", times, units)
    path.write_text(path.read_text() + "no,line\n")
    first = next(event_pieces(read_events(path, block=10), n_units=N, step=0.1))
    assert first.start == 0
    with pytest.raises(ValueError, match=r"Line 101 of .*events.csv is 'no,line', expected a time and a unit"):
        list(read_events(path, block=10))


@pytest.mark.parametrize(
    ("times", "units", "match"),
    [
        ([0.5, 0.2], [0, 1], "in the order of their times.*got 0.2"),
        ([-0.5, 0.2], [0, 1], "got -0.5"),
        ([0.5, np.nan], [0, 1], "got nan"),
        ([0.5, 0.6], [0, N], r"units in 0..5, got units from 0 to 6"),
        ([0.5, 0.6], [0.0, 1.0], "integer unit"),
        ([0.5], [0, 1], "a time and an integer unit each"),
    ],
)
def test_events_that_are_no_stream_are_refused(times, units, match):
    with pytest.raises(ValueError, match=match):
        list(event_pieces([(np.array(times), np.array(units))], n_units=N, step=1.0))


def test_order_is_checked_across_blocks():
    blocks = [(np.array([0.5]), np.array([0])), (np.array([0.4]), np.array([0]))]
    with pytest.raises(ValueError, match=r"got 0.4 after 0.5"):
        list(event_pieces(blocks, n_units=N, step=1.0))


def test_a_file_that_is_missing_or_something_else_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with pytest.raises(FileNotFoundError, match="expected a file of events"):
        read_events(tmp_path / "none.csv")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["spikes"] = np.zeros(3)
    with pytest.raises(ValueError, match="has spikes, expected the datasets times and units at its top"):
        list(read_events(tmp_path / "other.h5"))
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for number in range(500):
            file[f"{number:03}"] = np.zeros(3)
    with pytest.raises(ValueError, match="has 000, 001, 002, 003, 004 and 495 more, expected the datasets"):
        list(read_events(tmp_path / "many.h5"))


def as_lines(*lines):
    return io.BytesIO(b"".join(lines))


def test_lines_are_steps_in_pieces():
    lines = [step_line([[step], [0, 5]], targets=[step % 3, 1]) for step in range(5)]
    first, second = read_lines(as_lines(*lines), batch=2, n_units=N, length=3)
    assert first.inputs.shape == (3, 2, N) and second.inputs.shape == (2, 2, N)
    found = np.concatenate([first.inputs, second.inputs])
    expected = np.zeros((5, 2, N))
    expected[range(5), 0, range(5)] = expected[:, 1, [0, 5]] = 1
    assert (found == expected).all()
    assert np.concatenate([first.targets, second.targets]).tolist() == [[step % 3, 1] for step in range(5)]
    assert first.targets.dtype == np.int32 and first[2:] == (None, None, None)


def test_resets_numbers_late_targets_and_masks_begin_a_piece():
    lines = [
        step_line([[0]], targets=[1]),
        step_line([[1]], targets=[1], reset=[True]),
        step_line([[2]], targets=[1]),
        step_line([[3]], targets=[1], start=9),
        step_line(targets=[2], start=1),
        step_line([[4]]),
        step_line([[5]], targets=[0.5], mask=[False]),
    ]
    pieces = list(read_lines(as_lines(*lines), n_units=N, length=10))
    assert [None if piece.inputs is None else len(piece.inputs) for piece in pieces] == [1, 2, 1, None, 1, 1]
    assert pieces[1].reset.tolist() == [True] and pieces[0].reset is None
    assert [piece.start for piece in pieces] == [None, None, 9, 1, None, None]
    assert pieces[3].targets.tolist() == [[2]] and pieces[4].targets is None
    assert pieces[5].mask.tolist() == [[False]] and pieces[5].targets.dtype == np.float32


@pytest.mark.parametrize(
    ("targets", "dtype"),
    [
        ([1], np.int32),
        ([0.5], np.float32),
        ([[1]], np.float32),
        ([[0.5]], np.float32),
        ([[1, 2]], np.float32),
        ([[1, 0.5]], np.float32),
    ],
)
def test_an_integer_is_a_label_and_the_numbers_of_a_list_are_floats_however_they_are_written(targets, dtype):
    [piece] = read_lines(as_lines(step_line([[0]], targets=targets)), n_units=N)
    assert piece.targets.dtype == dtype and piece.targets.tolist() == [targets]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (b"hello\n", "is not JSON: 'hello'"),
        (b"[" * 100_000 + b"\n", "is not JSON"),
        (b"[1]\n", "is not an object"),
        (b"{}\n", "is not an object"),
        (b'{"units": [[0]], "label": 1}\n', "fields among units, targets, mask, reset, start"),
        (b'{"units": [[0], [1]]}\n', "has units that are not a list of 1"),
        (b'{"units": [[6]]}\n', "units that are not integers in 0..5"),
        (b'{"units": [[-1]]}\n', "units that are not integers in 0..5"),
        (b'{"units": [[true]]}\n', "units that are not integers in 0..5"),
        (b'{"units": [[0.5]]}\n', "units that are not integers in 0..5"),
        (b'{"units": [[0]], "targets": [NaN]}\n', "targets that are not finite"),
        (b'{"units": [[0]], "targets": ["a"]}\n', "targets that are not finite"),
        (b'{"units": [[0]], "targets": [[1, 2], [1]]}\n', "not a list of 1"),
        (b'{"units": [[0]], "mask": [1]}\n', "mask that is not true or false"),
        (b'{"units": [[0]], "start": -1}\n', "start that is not a number of a step"),
        (b'{"units": [[0]], "start": true}\n', "start that is not a number of a step"),
        (b'{"targets": [1]}\n', "has no units, and is no targets with the start"),
        (b'{"units": [[' + b"0," * 600_000 + b"0]]}\n", "is longer than 1048576 bytes"),
    ],
)
def test_a_line_that_is_no_step_is_named(line, match):
    lines = as_lines(step_line([[0]]), line)
    with pytest.raises(ValueError, match=rf"Line 2 of a stream .*{match}"):
        list(read_lines(lines, n_units=N))


def test_targets_of_different_shapes_are_refused():
    line = json.dumps({"units": [[0], [1]], "targets": [[1, 2], [1]]}).encode() + b"\n"
    with pytest.raises(ValueError, match="Line 1 of a stream has targets of different shapes"):
        list(read_lines(as_lines(line), batch=2, n_units=N))


def test_a_sender_over_tcp_waits_for_a_model_that_is_slower():
    """Of many megabytes, no more than the buffers of the system hold are sent before they are read."""
    sent = itertools.count()
    server = socket.create_server(("127.0.0.1", 0))
    line = step_line([[0]]).rstrip(b"\n").ljust(20_000) + b"\n"
    total = 2000  # lines, 40 MB

    def send():
        connection, _ = server.accept()
        with connection:
            for _ in range(total):
                connection.sendall(line)
                next(sent)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with socket.create_connection(server.getsockname()) as connection, connection.makefile("rb") as lines:
        pieces = read_lines(lines, n_units=N)
        next(pieces)
        sender.join(timeout=1.0)
        assert sender.is_alive() and next(sent) < total / 2
        assert 1 + sum(1 for _ in pieces) == total
    sender.join(timeout=10.0)
    server.close()
