"""What makes the pipeline's spikes of raw files, on small files of the true format."""

import numpy as np
import pytest
import yaml
from small_sets import shd as small_shd

from experiments import spikes
from slax_data import shd
from slax_data.storage.packed import sets_of_arrays
from slax_data.storage.whole_files import load_arrays


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["spikes", *map(str, arguments)])
    spikes.main()


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    settings = {"maker": "shd", "raw": {"shd_train.h5": None, "shd_test.h5": None}, "options": {"n_steps": 10}}
    path.write_text(yaml.safe_dump({"sets": {"shd": settings}}, sort_keys=False))
    return path


def test_spikes_of_two_files_are_those_that_the_package_reads(tmp_path, config, monkeypatch):
    small_shd(tmp_path)
    files = [tmp_path / name for name in ("shd_train.h5", "shd_test.h5")]
    run(monkeypatch, "shd", "--config", config, "--raw", *files, "--data", tmp_path)
    assert (tmp_path / "shd.record.json").exists()
    sets = sets_of_arrays(load_arrays(tmp_path / "shd.npz"))
    assert set(sets) == {"train", "test"}
    for split, trains in sets.items():
        np.testing.assert_array_equal(trains.packed, shd(tmp_path, split=split, n_steps=10).packed)


def test_files_that_are_not_those_of_the_config_are_refused(tmp_path, config, monkeypatch):
    given = ["shd", "--config", config, "--data", tmp_path, "--raw"]
    with pytest.raises(SystemExit, match=r"Got 1 files, expected shd_train.h5, shd_test.h5"):
        run(monkeypatch, *given, "one.h5")
    with pytest.raises(SystemExit, match="have to be in one folder"):
        run(monkeypatch, *given, "a/x.h5", "b/y.h5")
    assert not (tmp_path / "shd.record.json").exists()
