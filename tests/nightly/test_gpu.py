"""The one command for a GPU, with a GPU that does not exist, up to the point where one is needed."""

import csv
from types import SimpleNamespace

import jax
import pytest

from benchmarks import rules
from experiments import gpu

H100 = "NVIDIA H100"


def test_rows_of_a_network_are_written_and_not_measured_again(monkeypatch, tmp_path):
    here = jax.devices()
    fake = SimpleNamespace(device_kind=H100, platform="gpu")
    monkeypatch.setattr(jax, "devices", lambda *of: here if of else [fake])
    monkeypatch.setattr(gpu, "found_device", lambda: f"gpu {H100}")
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    monkeypatch.setattr(rules, "commit", lambda: "0a1b")
    monkeypatch.setattr(rules, "CASES", rules.TINY[:1])
    monkeypatch.setattr(rules, "ITERATIONS", (8, 1))
    monkeypatch.setattr(rules, "REPEATS", 2)
    device = gpu.device_of("gpu")
    first, *others = gpu.steps("gpu", device)
    file = tmp_path / "gpu/rules.csv"
    assert first.command[2:] == ["benchmarks.rules", "--output", str(file)] and not first.is_current
    assert list(dict.fromkeys(step.name.split()[0] for step in others)) == list(gpu.EXPERIMENTS)
    rules.main(first.command[3:])
    assert next(gpu.steps("gpu", device)).is_current
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["rule"], row["steps_in_iteration"]) for row in rows] == [
        ("bptt", "8"), ("ottt", "8"), ("bptt", "1"), ("ottt", "1"),
    ]  # fmt: skip
    for row in rows:
        assert 0 < float(row["least_s"]) <= float(row["median_s"]) and int(row["temporaries_bytes"]) > 0
    assert rows[0]["to_bptt"] == rows[2]["to_bptt"] == "1.000"
    assert rules.left(file, "another device", rules.CASES, (8, 1)) == [(rules.TINY[0], steps) for steps in (8, 1)]


def test_without_a_gpu_it_stops_at_once(monkeypatch):
    monkeypatch.setattr(gpu, "found_device", lambda: "cpu cpu")
    with pytest.raises(SystemExit, match=r"got the cpu 'cpu' as the first device of JAX, expected a gpu\. Install JAX"):
        gpu.main(["--minutes", "9"])
