"""What is no data, or an option out of its range, is refused by an error that says so: an example of each."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from small_sets import wav

import slax_data as sd
from slax_data.audio.sounds import Sound, read_wav
from slax_data.storage.packed import sets_of_arrays

KEY = random.key(0)
X, Y = np.ones((4, 5, 2)), np.arange(4) % 2
SPIKES = np.zeros((3, 6, 5), bool)
FIRED = SPIKES.copy()
FIRED[0, 2, 1] = FIRED[1, 3, 4] = True
FULL, SHORT = sd.spike_trains(SPIKES[:2], Y[:2]), sd.spike_trains(SPIKES, Y[:3], lengths=np.array([6, 4, 5]))
WHOLE = {"train": FULL, "test": FULL}
LEVELS = jnp.linspace(0, 1, 8).reshape(4, 2)
ONES = np.ones((3, 2), np.float32)
SOUND = np.zeros((1, 4000), np.float32)
FRAMES = sd.neurobench_arrays(list(zip(X, Y, strict=True)))


def events(time=0.1, unit=0, **options):
    return lambda: sd.bin_events([time], [unit], **dict(n_units=3, n_steps=4, duration=2.0) | options)


def of(train, test=None, **options):
    return lambda: sd.indexed_task({"train": train, "test": train if test is None else test}, **options)


def images(levels=LEVELS, labels=Y, **options):
    return lambda: sd.image_task(KEY, dict.fromkeys(WHOLE, (levels, labels)), n_classes=2, **options)


def nb(train=FRAMES, test=FRAMES, **options):
    return lambda: sd.neurobench_task(KEY, {"train": train, "test": test}, **{"n_classes": 2} | options)


def upstream(**options):
    return lambda: sd.upstream_randman(KEY, KEY, n_classes=3, samples_per_class=5, **options)


REFUSED = [
    # What any function may say.
    (lambda: sd.check_labels(Y + 0.5, n_classes=3), r"float64 and shape \[4\], expected integers \[B\].*return_inverse=True"),
    (lambda: sd.check_labels(np.array([0, 3]), n_classes=3), r"Got labels from 0 to 3, expected 0\.\.2 for n_classes=3"),
    (lambda: sd.check_labels(np.array([-1, 2]), n_classes=3), r"Got labels from -1 to 2, expected 0\.\.2 .*inside, y, 0\)"),
    (lambda: sd.check_labels(Y, n_classes=0), "n_classes got 0, expected an integer of at least 1"),
    (lambda: sd.stored_task(WHOLE, n_classes=3), r"Got no sample of the classes \[2\] in train, test, expected all of 0\.\.2"),
    (lambda: sd.stored_task({"test": FULL}, n_classes=2), r"in the splits {'test': {'steps': 6, .*}, expected a split 'train'"),
    (lambda: sd.stored_task(WHOLE | {"test": (X, Y)}, n_classes=2), r"'steps': 5, 'shape of a step': \(2,\), 'values': 'real'"),
    (lambda: sd.stored_task({"train": (X, Y)}), "Got targets that are integers and no n_classes, expected their number"),
    (lambda: sd.stored_task({"train": (X, np.eye(2, dtype=int)[Y])}, n_classes=2), r"int32 and shape \[4, 2\].*labels.argmax"),
    (lambda: sd.stored_task({"train": (X, Y)}, n_classes=2, per_step=True), r"targets of shape \[4\] in the split"),
    (lambda: sd.stored_task({"train": (X, X), "test": (X, X[:, 1:])}, per_step=True), r"shape \[4, 4, 2\] in the split 'test'"),
    (lambda: sd.stored_task({"train": (X, X[:, :, 0].astype(int))}, n_classes=2), r"shape \[4, 5\], .* give per_step=True"),
    *((lambda given=given: sd.stored_task({"train": given}), f"Got {told} in the split 'train', expected SpikeTrains, ")
      for given, told in ((X, "ndarray"), ((X,), "1 parts"), ((X, Y, Y, Y), "4 parts"))),
    # Codes and changes of spikes.
    (lambda: sd.latency_encode(LEVELS + 0.5, n_steps=5), r"Got intensities from 0.5 to 1.5, expected \[0, 1\]. Scale"),
    (lambda: sd.latency_encode(LEVELS * np.nan, n_steps=5), "Got 8 NaN in 8 intensities, expected .* Remove or replace"),
    (lambda: sd.latency_encode(LEVELS[0], n_steps=5), r"float32 and shape \[2\], expected floating-point numbers \[B, ...\]"),
    (lambda: sd.latency_encode(LEVELS, n_steps=1), "n_steps got 1, expected an integer of at least 2"),
    (lambda: sd.latency_encode(LEVELS, n_steps=5, threshold=1.0), r"threshold got 1.0, expected a number in \[0, 1\)"),
    (lambda: sd.rate_encode(KEY, LEVELS, n_steps=5, max_rate=0.0), r"max_rate got 0.0, expected spikes per step in \(0, 1\]"),
    (lambda: sd.delta_encode(LEVELS[None], threshold=0.0), "threshold got 0.0, expected a finite number above 0"),
    (lambda: sd.delta_encode(LEVELS, threshold=1.0), r"signal of float32 and shape \[4, 2\], expected .* \[T, B, ..., N\]"),
    (lambda: sd.delta_encode(LEVELS[None] / 0, threshold=1.0), "Got 8 NaN or infinities in 8 values of signal"),
    *((lambda change=change: sd.Augmentation(**change), "expected channels >= 0, delay >= 0, and stretch and drop in")
      for change in ({"channels": -1}, {"delay": -0.5}, {"stretch": 1.0}, {"drop": 1.0})),
    # Events, packed spikes and tasks of them.
    (events(2.0), "Got 1 of 1 times at or after the end of the window, 2, the last at 2, .* Give a longer"),
    (events(np.float16(1.4), duration=1.4), r"Got 1 of 1 times .* the last at 1\.40039"),
    (events(np.nan), "Got 1 NaN or infinite times of 1"),
    (events(-0.5), "Got 1 negative times, the first at -0.5, expected times from 0"),
    (lambda: sd.bin_events(np.arange(10) / 1e3, np.zeros(10, int), n_units=3, n_steps=4, duration=2e3),
     "Got 10 times up to 0.009 for a duration of 2000, .* Give both in the same unit"),
    (events(unit=3), r"Got units from 3 to 3, expected 0\.\.2. .* np\.searchsorted\(ids, units\)"),
    (events(unit=0.5), "Got times of float64 and units of float64, expected .* units that are integers"),
    (lambda: sd.bin_events([0.1], [0, 1], n_units=3, n_steps=4, duration=2.0), r"times of shape \[1\] and units of \[2\]"),
    (lambda: sd.bin_events([[0.1]], [[0]], n_units=3, n_steps=4, duration=2.0), r"times of shape \[1, 1\] and units of"),
    (events(duration=np.inf), "duration got inf, expected a finite time above 0"),
    (lambda: sd.shd(pool=6), "pool got 6, expected a divisor of the 700 units"),
    (lambda: sd.spike_trains(SPIKES, Y), "Got 3 recordings, 4 targets and 3 lengths, expected as many"),
    (lambda: sd.spike_trains(SPIKES[0], np.arange(6)), r"recordings of bool and shape \[6, 5\], expected numbers"),
    (lambda: sd.spike_trains(list(SPIKES), Y[:3]), r"Got recordings as a list, expected one array \[D, T, ...\]"),
    (lambda: sd.spike_trains(SPIKES, Y[:3], lengths=np.array([6, 7, 9])), "2 of 3 are out of range, the first of them 7"),
    (lambda: sd.spike_trains(SPIKES, Y[:3], lengths=np.array([6.0] * 3)), r"Got lengths of float64 and shape \[3\]"),
    (lambda: sd.spike_trains(FIRED, Y[:3], lengths=np.array([3, 3, 0])), r"recording 1, .* length is 3 .* at step 3"),
    (lambda: sets_of_arrays({"x": X, "y": Y}), "Got the arrays x, y, expected n_units, splits, .* Make them with"),
    (lambda: sd.stored_task(WHOLE | {"test": SHORT}, n_classes=2), "Got 2 recordings of fewer than 6 steps in .*'test'"),
    (lambda: sd.stored_task({"train": (FIRED, Y[:3], [2, 4, 6])}, n_classes=2, padding="zeros"),
     "padding got 'zeros', expected one of: 'mask', 'silence'"),
    (lambda: sd.stored_task(WHOLE, n_classes=2, padding="mask"), "all have the full 6 steps"),
    (lambda: sd.stored_task((FIRED, Y[:3]), n_classes=2), "stored_task got a tuple, expected a dict of splits"),
    (lambda: sd.image_task(KEY, [], n_classes=2, n_steps=2), "image_task got a list, expected a dict of splits"),
    (lambda: sd.indexed_task([]), "indexed_task got a list, expected a dict of splits"),
    (lambda: sd.make_task("digits", 0), r"got key=0, expected a random key. Make one: jax.random.key\(0\)"),
    (lambda: sd.encode_audio(np.zeros(40, np.float32), rate=8000, n_steps=2), r"shape \[40\], expected .*: sound\[None\]"),
    # Batches.
    (lambda: sd.take_batch(KEY, X, Y, batch_size=5), "batch_size got 5, expected at most the 4 samples"),
    (lambda: sd.take_batch(KEY, X, Y[:3], batch_size=2), r"Got inputs of shape \[4, 5, 2\] and labels of \[3\]"),
    (lambda: sd.time_first(jnp.zeros(3)), r"time_first got the shape \[3\], expected samples and time"),
    (lambda: sd.padded([[[1.0, 2.0]]]), "Got a list as sequence 0, expected an array"),
    (lambda: sd.padded([]), "Got no sequences, expected"),
    (lambda: sd.padded([ONES, np.ones((3, 4), np.float32)]), r"float32\[3, 4\] at 1 and float32\[3, 2\] at 0"),
    (lambda: sd.padded([ONES], n_steps=2), "n_steps got 2, expected at least the 3 steps of the longest sequence"),
    (lambda: sd.prefetched([], 0), "size got 0, expected an integer of at least 1"),
    # Any indexable set, images, NeuroBench's sets.
    (of([], n_classes=2), "Got no samples of train, which has 0"),
    (of((X, Y[:3]), n_classes=2), "Got 4 samples and 3 targets in train, expected one for each"),
    (of([(np.float32(3), 0)], n_classes=1), r"Got numbers as samples in train, expected \[T, ...\]. Give a transform"),
    (of((X[:, :0], Y), n_classes=2), r"Got samples of the shapes \[\(0, 2\)\] in train"),
    (of([(np.ones((2, 1)), 0), (np.ones((2, 3)), 1)], n_classes=2), r"different shapes in train, \[\(1,\), \(3,\)\] in a step"),
    (of((X, Y), (X[:, :, :1], Y), n_classes=2), r"Got recordings in the splits .*'shape of a step': \(1,\)"),
    (of((X, Y + 0.5), n_classes=2), "Got n_classes=2 and targets that are real numbers, .* Leave n_classes out"),
    (of((X * np.nan, Y), n_classes=2), "Split 'train': Got 40 NaN or infinities in 40 values of recordings"),
    (of((X, Y + np.inf)), "Split 'train': Got 4 NaN or infinities in 4 values of targets"),
    (of((X, Y), n_classes=2, per_step=True), r"a target in train that is not \[T, ...\], expected one for each"),
    (of([(X[0], Y[:3]), (X[1], Y[:2])], n_classes=2), "Got targets of different shapes in train"),
    (of((X, Y), n_classes=2, n_steps=4), "n_steps got 4, expected at least 5, the steps of the longest sample"),
    (of((X, X), per_step=True, padding="silence"), "Got padding='silence' and per_step=True, .* Give padding='mask'"),
    (of((np.full((1, 1, 1), 2**63, np.uint64), Y[:1]), n_classes=1), "'train': Got integers from 92233.* real numbers: values"),
    (of((np.full((1, 1, 1), -(2**31) - 1), Y[:1]), n_classes=1), "Split 'train': Got integers from -2147483649"),
    (images(labels=Y[:3]), "Got 4 images and 3 labels in the split 'train'"),
    (images(code="rows"), "code got 'rows', expected one of: 'latency', 'rate'"),
    (lambda: sd.neurobench_arrays([(ONES, np.ones(1)), (ONES, np.ones(2))]), r"different shapes in list, \[\(1,\), \(2,\)\]"),
    (nb(code="cochlea"), r"Got sounds of shape \[4, 5, 2\], expected one channel"),
    (nb(code="cochlea", n_steps=0), "n_steps got 0, expected an integer of at least 1"),
    # Sounds.
    (lambda: sd.Cochlea(lowest=4000), "frequencies from 4000 to 3600"),
    (lambda: sd.Cochlea(level=float("nan")), "level=nan, expected a number of dB"),
    (lambda: sd.Cochlea(tau=0), "tau=0, expected a number above 0"),
    (lambda: sd.encode_audio(SOUND, rate=8000, n_steps=33), "4000 samples for 33 steps, expected a multiple"),
    (lambda: sd.encode_audio(SOUND, rate=4000, n_steps=50), r"3600.0 Hz for sounds of 4000 Hz.*Cochlea\(highest=1800\)"),
    (lambda: sd.encode_audio(SOUND.astype(int), rate=8000, n_steps=50), "sounds of int64, expected floats"),
    (lambda: sd.encode_recordings([Sound(SOUND[0], 8000)], Y[:1], n_steps=9000), "Got 9000 steps in 1.0 s, which are shorter"),
    (lambda: sd.encode_recordings([Sound(SOUND[0], hz) for hz in (8000, 9000)], Y[:2], n_steps=5), r"of \[8000, 9000\] Hz"),
    (lambda: read_wav(wav(Y, channels=2), "a.wav"), "Got 2 channels of 16 bit in a.wav, expected one of 16"),
    (lambda: read_wav(wav(Y)[:-4], "a.wav"), "Got 14 samples in a.wav at 8000 Hz, expected the 16 that"),
    (lambda: read_wav(b"ID3\3" + wav(Y), "a.wav"), "Got a.wav, expected a complete PCM .wav file"),
    (lambda: sd.spoken_digits(split_by="digit"), "split_by got 'digit', expected one of: 'other_speaker', 'rec"),
    # Manifolds and the Mackey-Glass series.
    (lambda: sd.random_manifolds(KEY, alpha=float("inf")), "alpha got inf, expected a finite number above 0"),
    (upstream(batch_size=16), "batch_size got 16, expected at most the 15 samples of a draw"),
    (lambda: sd.mackey_glass(5, tau=0.0), "tau got 0.0, expected a number > 0"),
    (lambda: sd.mackey_glass(5, start=np.nan), "start got nan, expected a number >= 0"),
    (lambda: sd.mackey_glass_windows(np.ones(9), n_steps=5), "Got a series of 9 points, expected at least 11"),
    (lambda: sd.mackey_glass_windows(np.ones((9, 1)), n_steps=2), r"Got a series of shape \[9, 1\], expected \[P\]"),
    (lambda: sd.smape(jnp.ones(3), jnp.ones((3, 1))), r"predictions of shape \[3\] for targets of shape \[3, 1\]"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "told"), REFUSED)
def test_it_is_refused(call, told, no_shape_checks):
    with pytest.raises((TypeError, ValueError, UserWarning), match=told):
        call()
