# /// script
# requires-python = ">=3.11"
# dependencies = ["neurobench[mackey-glass]==2.3.0", "scipy", "slax-data"]
#
# [tool.uv]
# # What reading these sets does not need, of what NeuroBench asks for.
# override-dependencies = [
#     "llvmlite; sys_platform == 'none'",
#     "numba; sys_platform == 'none'",
#     "snntorch; sys_platform == 'none'",
#     "tonic; sys_platform == 'none'",
#     "torchaudio; sys_platform == 'none'",
# ]
#
# [tool.uv.sources]
# slax-data = { path = "../../../packages/slax-data", editable = true }
# ///
"""Classes of NeuroBench, on small files of their formats, give the arrays of those files, and a task of spikes.

Other classes of theirs need more than a small file: SpeechCommands and MSWC need ffmpeg, WISDM a version of Lightning that
needs an old setuptools, Gen4DetectionDataLoader a library that is not on PyPI.
"""

import sys
import tempfile
from pathlib import Path

import jax
import neurobench.datasets as nb
import numpy as np

from slax_data import neurobench_arrays, neurobench_task

sys.path.insert(0, str(Path(__file__).parents[2] / "data"))
from contract import keeps_contract

rng = np.random.default_rng(0)


def eeg_trials(folder: Path) -> None:
    sets = {}
    for split, its, size in (("train", "train", 8), ("test", "val", 4)):
        values, labels = rng.normal(size=(size, 25, 3)).astype(np.float32), np.arange(size) % 2
        np.save(folder / f"{its}_X.npy", values)
        np.save(folder / f"{its}_y.npy", labels)
        sets[split] = neurobench_arrays(nb.ThorEEGMI(str(folder), split=its, download=False))
        for found, expected in zip(sets[split], (values, labels, np.full(size, 25)), strict=True):
            assert np.array_equal(found, expected)
    task = neurobench_task(jax.random.key(0), sets, n_classes=2, n_steps=30)
    assert (task.n_units, task.n_classes, task.n_steps) == (6, 2, 30)
    keeps_contract(lambda key: neurobench_task(key, sets, n_classes=2, n_steps=30))


def mackey_glass(folder: Path) -> None:
    file, signal = folder / "signal.npy", rng.random(151)
    np.save(file, signal)
    options = {"file_path": str(file), "download": False, "pts_per_lyaptime": 10, "traintime": 10.0, "testtime": 5.0}
    values, targets, lengths = neurobench_arrays(nb.MackeyGlass(**options))
    assert values.shape == (150, 1, 1) and np.array_equal(values[:, 0, 0], signal[:-1].astype(np.float32))
    assert np.array_equal(targets[:, 0], signal[1:]) and set(lengths) == {1}
    # Its length is more than what it can give out if a sample has several steps, but its splits are not.
    looking_back = nb.MackeyGlass(**options, bin_window=3)
    values, targets, _ = neurobench_arrays(looking_back, looking_back.ind_train)
    assert values.shape == (100, 3, 1) and np.array_equal(targets[:, 0], signal[1:101])
    for lag in range(3):
        assert np.array_equal(values[2:, 2 - lag, 0], signal[2 - lag : 100 - lag].astype(np.float32))


for check in (eeg_trials, mackey_glass):
    with tempfile.TemporaryDirectory() as name:
        check(Path(name))
