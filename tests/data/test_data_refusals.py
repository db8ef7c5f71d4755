"""What is no data, or an option out of its range, is refused by an error that says so: an example of each."""

import jax.numpy as jnp
import numpy as np
import pytest

import slax_data as sd

X, Y = np.ones((4, 5, 2)), np.arange(4) % 2
SPIKES = np.zeros((3, 6, 5), bool)
FIRED = SPIKES.copy()
FIRED[0, 2, 1] = FIRED[1, 3, 4] = True
FULL, SHORT = sd.spike_trains(SPIKES[:2], Y[:2]), sd.spike_trains(SPIKES, Y[:3], lengths=np.array([6, 4, 5]))
WHOLE = {"train": FULL, "test": FULL}
LEVELS = jnp.linspace(0, 1, 8).reshape(4, 2)
SOUND = np.zeros((1, 4000), np.float32)


def events(time=0.1, unit=0, **options):
    return lambda: sd.bin_events([time], [unit], **dict(n_units=3, n_steps=4, duration=2.0) | options)


def of(train, test=None, **options):
    return lambda: sd.indexed_task({"train": train, "test": train if test is None else test}, **options)


REFUSED = [
    (lambda: sd.check_labels(Y + 0.5, n_classes=3), r"float64 and shape \[4\], expected integers \[B\].*return_inverse=True"),
    (lambda: sd.stored_task(WHOLE | {"test": (X, Y)}, n_classes=2), r"'steps': 5, 'shape of a step': \(2,\), 'values': 'real'"),
    (lambda: sd.stored_task({"train": (X, np.eye(2, dtype=int)[Y])}, n_classes=2), r"int32 and shape \[4, 2\].*labels.argmax"),
    (lambda: sd.latency_encode(LEVELS + 0.5, n_steps=5), r"Got intensities from 0.5 to 1.5, expected \[0, 1\]. Scale"),
    (lambda: sd.Augmentation(drop=1.0), "expected channels >= 0, delay >= 0, and stretch and drop in"),
    (events(2.0), "Got 1 of 1 times at or after the end of the window, 2, the last at 2. Give a longer"),
    (lambda: sd.bin_events(np.arange(10) / 1e3, np.zeros(10, int), n_units=3, n_steps=4, duration=2e3),
     "Got 10 times up to 0.009 for a duration of 2000, .* Give both in the same unit"),
    (events(unit=3), r"Got units from 3 to 3, expected 0\.\.2. .* np\.searchsorted\(ids, units\)"),
    (lambda: sd.spike_trains(FIRED, Y[:3], lengths=np.array([3, 3, 0])), r"recording 1, .* length is 3 .* at step 3"),
    (lambda: sd.stored_task(WHOLE | {"test": SHORT}, n_classes=2), "Got 2 recordings of fewer than 6 steps in .*'test'"),
    (lambda: sd.stored_task({"train": (FIRED, Y[:3], [2, 4, 6])}, n_classes=2, padding="zeros"),
     "padding got 'zeros', expected one of: 'mask', 'silence'"),
    (of((X, X), per_step=True, padding="silence"), "Got padding='silence' and per_step=True, .* Give padding='mask'"),
    (of((np.full((1, 1, 1), 2**63, np.uint64), Y[:1]), n_classes=1), "'train': Got integers from 92233.* real numbers: values"),
    (of((X * np.nan, Y), n_classes=2), "Split 'train': Got 40 NaN or infinities in 40 values of recordings"),
    (lambda: sd.encode_audio(SOUND, rate=4000, n_steps=50), r"3600.0 Hz for sounds of 4000 Hz.*Cochlea\(highest=1800\)"),
    (lambda: sd.latency_encode(LEVELS * np.nan, n_steps=5), r"Got intensities from nan to nan, expected \[0, 1\]. Scale"),
    (of((X, Y[:3]), n_classes=2), "Got 4 samples and 3 targets in train, expected one for each"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "told"), REFUSED)
def test_it_is_refused(call, told, no_shape_checks):
    with pytest.raises((TypeError, ValueError, UserWarning), match=told):
        call()
