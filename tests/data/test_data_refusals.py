"""What is no data, or an option out of its range, is refused by an error that says so: an example of each."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from small_sets import wav

import slax_data as sd
from slax_data.audio.sounds import Sound, read_wav
from slax_data.storage.packed import arrays_of_sets, sets_of_arrays

KEY = random.key(0)
X, Y = np.ones((4, 5, 2)), np.arange(4) % 2
SPIKES = np.zeros((3, 6, 5), bool)
FIRED = SPIKES.copy()
FIRED[0, 2, 1] = FIRED[1, 3, 4] = True
FULL, SHORT = sd.spike_trains(SPIKES[:2], Y[:2]), sd.spike_trains(SPIKES, Y[:3], lengths=np.array([6, 4, 5]))
WHOLE = {"train": FULL, "test": FULL}
STORED = arrays_of_sets(WHOLE)
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


two_spikes = sd.random_manifolds(KEY, n_classes=2, n_units=2, n_spikes=2)
REFUSED = [
    # What any function may say.
    (lambda: sd.check_labels(Y + 0.5, n_classes=3), r"integers of shape \[B\], got float64.*return_inverse=True"),
    (lambda: sd.check_labels(np.array([0, 3]), n_classes=3), r"must lie in 0\.\.2 for n_classes=3, got values from 0 to 3"),
    (lambda: sd.check_labels(np.array([-1, 2]), n_classes=3), r"must lie in 0\.\.2 for n_classes=3, got values from -1 to 2"),
    (lambda: sd.check_labels(Y, n_classes=0), "n_classes got 0, expected an integer of at least 1"),
    (lambda: sd.stored_task(WHOLE, n_classes=3), r"'train' must have all classes 0\.\.2, got none of \[2\]"),
    (lambda: sd.stored_task({"train": FULL}, n_classes=2), r"spikes must have the splits 'train' and 'test'.*'units': 5}}"),
    # Codes and changes of spikes.
    (lambda: sd.latency_encode(LEVELS + 0.5, n_steps=5), r"must lie in \[0, 1\], got values from 0.5 to 1.5. Scale"),
    (lambda: sd.latency_encode(LEVELS * np.nan, n_steps=5), "got 8 NaN in 8. Remove or replace them"),
    (lambda: sd.latency_encode(LEVELS[0], n_steps=5), r"numbers \[B, N\], got float32 of shape \[2\]. Flatten images"),
    (lambda: sd.latency_encode(LEVELS, n_steps=1), "n_steps got 1, expected an integer of at least 2"),
    (lambda: sd.latency_encode(LEVELS, n_steps=5, threshold=1.0), r"threshold got 1.0, expected a number in \[0, 1\)"),
    (lambda: sd.rate_encode(KEY, LEVELS, n_steps=5, max_rate=0.0), r"max_rate got 0.0, expected spikes per step in \(0, 1\]"),
    (lambda: sd.delta_encode(LEVELS[None], threshold=0.0), "threshold got 0.0, expected a finite number above 0"),
    (lambda: sd.delta_encode(LEVELS, threshold=1.0), r"\[T, B, N\] with at least one step, got float32 of shape \[4, 2\]"),
    (lambda: sd.delta_encode(LEVELS[None] / 0, threshold=1.0), "signal must be finite numbers, got 8 NaN or infinities in 8"),
    *((lambda change=change: sd.Augmentation(**change), "expected channels >= 0, delay >= 0, and stretch and drop in")
      for change in ({"channels": -1}, {"delay": -0.5}, {"stretch": 1.0}, {"drop": 1.0})),
    # Events, packed spikes and tasks of them.
    (events(2.0), "before the end of the window, 2, got 1 of 1 at or after it, the last at 2. Give a longer"),
    (events(np.float16(1.4), duration=1.4), r"got 1 of 1 at or after it, the last at 1\.40039"),
    (events(np.nan), "times that are finite, got 1 NaN"),
    (events(-0.5), "times from 0 on, got 1 before, the first at -0.5"),
    (events(unit=3), r"units in 0\.\.2, got units from 3 to 3. .* np\.searchsorted\(ids, units\)"),
    (events(unit=0.5), "units that are integers, got float64 and float64"),
    (events("late"), "times that are numbers and units that are integers, got <U4 and int64"),
    (lambda: sd.bin_events([0.1], [0, 1], n_units=3, n_steps=4, duration=2.0), r"times of shape \[1\] and units of \[2\]"),
    (lambda: sd.bin_events([[0.1]], [[0]], n_units=3, n_steps=4, duration=2.0), r"times of shape \[1, 1\] and units of"),
    (events(duration=np.inf), "duration got inf, expected a time above 0"),
    (lambda: sd.shd(pool=6), "pool got 6, expected a divisor of the 700 units"),
    (lambda: sd.spike_trains(SPIKES, Y), "Got 3 recordings with 4 labels and 3 lengths"),
    (lambda: sd.spike_trains(SPIKES[0], np.arange(6)), r"booleans \[D, T, N\], got bool of shape \[6, 5\]"),
    (lambda: sd.spike_trains(list(SPIKES), Y[:3]), r"one array of booleans \[D, T, N\], got a list"),
    (lambda: sd.spike_trains(SPIKES, Y[:3], lengths=np.array([6, 7, 9])), "2 others of 3, the first of them 7, of recording 1"),
    (lambda: sd.spike_trains(SPIKES, Y[:3], lengths=np.array([6.0] * 3)), r"float64 of shape \[3\]"),
    (lambda: sd.spike_trains(FIRED, Y[:3], lengths=np.array([3, 3, 0])), r"recording 1, .* length is 3 .* at step 3"),
    (lambda: sets_of_arrays({"splits": STORED["splits"]}), "Spikes have the arrays splits, n_units and packed, labels"),
    (lambda: sets_of_arrays(STORED | {"n_units": np.array([5, 5])}), r"and n_units is one number, .* 'n_units': \[2\]"),
    (lambda: sets_of_arrays(STORED | {"n_units": np.array(30)}), r"bytes \[D, T, ceil\(N / 8\)\] .* for n_units=30"),
    (lambda: sd.stored_task(WHOLE | {"test": SHORT}, n_classes=2), r"'test' has 2 recordings of fewer than its 6 steps"),
    (lambda: sd.stored_task(WHOLE, n_classes=2, padding="zeros"), "padding got 'zeros', expected one of: 'mask', 'silence'"),
    (lambda: sd.stored_task(WHOLE, n_classes=2, padding="mask"), "all have the full 6 steps"),
    # Batches.
    (lambda: sd.take_batch(KEY, X, Y, batch_size=5), "batch_size got 5, expected at most the 4 samples"),
    (lambda: sd.take_batch(KEY, X, Y[:3], batch_size=2), r"one row per sample, got shapes \[4, 5, 2\] and \[3\]"),
    (lambda: sd.time_first(jnp.zeros(3)), r"samples and time \[B, T, ...\], got the shape \[3\]"),
    (lambda: sd.padded([]), "at least one of them, got none"),
    (lambda: sd.padded([ONES, np.ones((3, 4), np.float32)]), r"float32\[3, 4\] at 1 and float32\[3, 2\] at 0"),
    (lambda: sd.padded([ONES], n_steps=2), "n_steps got 2, expected at least the 3 steps of the longest sequence"),
    (lambda: sd.prefetched([], 0), "size got 0, expected an integer of at least 1"),
    # Any indexable set, images, NeuroBench's sets.
    (of([], n_classes=2), "train gives no samples, got 0 of them"),
    (of((X, Y[:3]), n_classes=2), "a target for each sample, got 4 samples, 3 targets"),
    (of([(np.float32(3), 0)], n_classes=1), r"train must give samples \[T, ...\], got numbers. Give a transform"),
    (of((X[:, :0], Y), n_classes=2), r"of at least one step, got the shapes \[\(0, 2\)\]"),
    (of([(np.ones((2, 1)), 0), (np.ones((2, 3)), 1)], n_classes=2), r"different shapes: \[\(1,\), \(3,\)\] in a step"),
    (of((X, Y), (X[:, :, :1], Y), n_classes=2), r"data must have the splits .*'shape of a step': \(1,\)"),
    (of((X, Y)), "train has targets of int64, expected n_classes"),
    (of((X, Y + 0.5), n_classes=2), "train has real targets, got n_classes=2. Leave it out"),
    (of((X * np.nan, Y), n_classes=2), "The samples of train must be finite numbers, got 10 NaN"),
    (of((X, Y + np.inf)), "The targets of train must be finite"),
    (of((X, Y), n_classes=2, per_step=True), r"targets are not \[T, ...\], one for each step"),
    (of([(X[0], Y[:3]), (X[1], Y[:2])], n_classes=2), "targets of different shapes"),
    (of((X, Y), n_classes=2, n_steps=4), "n_steps got 4, expected at least 5, the steps of the longest sample"),
    (of((X, X), per_step=True, padding="silence"), "'silence' got per_step=True: .* Give padding='mask'"),
    (of((np.full((1, 1, 1), 2**63, np.uint64), Y[:1]), n_classes=1), "from 9223372036854775808 .* real numbers: values"),
    (of((np.full((1, 1, 1), -(2**31) - 1), Y[:1]), n_classes=1), "train has integers from -2147483649"),
    (images(labels=Y[:3]), "'train' has 4 images and 3 labels"),
    (images(code="rows"), "code got 'rows', expected one of: 'latency', 'rate'"),
    (lambda: sd.neurobench_arrays([(ONES, np.ones(1)), (ONES, np.ones(2))]), r"different shapes: \[\(1,\), \(2,\)\]"),
    (nb(code="cochlea"), r"Sounds must have one channel, \[D, L, 1\], got \[4, 5, 2\]"),
    (nb(code="cochlea", n_steps=0), "n_steps got 0, expected an integer of at least 1"),
    # Sounds.
    (lambda: sd.Cochlea(lowest=4000), "frequencies from 4000 to 3600"),
    (lambda: sd.Cochlea(level=float("nan")), "level=nan, expected a number of dB"),
    (lambda: sd.Cochlea(tau=0), "tau=0, expected a number above 0"),
    (lambda: sd.encode_audio(SOUND, rate=8000, n_steps=33), "4000 samples for 33 steps, expected a multiple"),
    (lambda: sd.encode_audio(SOUND, rate=4000, n_steps=50), r"3600.0 Hz for sounds of 4000 Hz.*Cochlea\(highest=1800\)"),
    (lambda: sd.encode_audio(SOUND.astype(int), rate=8000, n_steps=50), "sounds of int64, expected floats"),
    (lambda: sd.encode_recordings([Sound(SOUND[0], 8000)], Y[:1], n_steps=9000), "9000 steps in 1.0 s are shorter than"),
    (lambda: sd.encode_recordings([Sound(SOUND[0], hz) for hz in (8000, 9000)], Y[:2], n_steps=5), "one sampling rate, got"),
    (lambda: read_wav(wav(Y, channels=2), "a.wav"), "a.wav has 2 channels of 16 bit, expected one of 16 bit"),
    (lambda: read_wav(wav(Y)[:-4], "a.wav"), "a.wav has 14 samples of the 16 that it announces, at 8000 Hz"),
    (lambda: read_wav(b"ID3\3" + wav(Y), "a.wav"), "a.wav is not a PCM .wav file"),
    (lambda: sd.spoken_digits(split_by="digit"), "split_by got 'digit', expected one of: 'recording', 'speaker'"),
    # Manifolds and the Mackey-Glass series.
    (lambda: sd.random_manifolds(KEY, alpha=float("inf")), "alpha got inf, expected a finite number above 0"),
    (lambda: sd.randman(KEY, two_spikes, n_steps=5, batch_size=5, code="rate"), "n_spikes=2.*n_spikes=1, or use code='time'"),
    (upstream(batch_size=16), "batch_size got 16, expected at most the 15 samples of a draw"),
    (lambda: sd.mackey_glass(5, tau=0.0), "tau got 0.0, expected a number > 0"),
    (lambda: sd.mackey_glass(5, start=np.nan), "start got nan, expected a number >= 0"),
    (lambda: sd.mackey_glass_windows(np.ones(9), n_steps=5), "got 9 points, expected at least 11 for one sequence"),
    (lambda: sd.mackey_glass_windows(np.ones((9, 1)), n_steps=2), r"series must have the shape \[P\], got \[9, 1\]"),
    (lambda: sd.smape(jnp.ones(3), jnp.ones((3, 1))), r"predictions of shape \[3\] for targets of shape \[3, 1\]"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "told"), REFUSED)
def test_it_is_refused(call, told, no_shape_checks):
    with pytest.raises(ValueError, match=told):
        call()
