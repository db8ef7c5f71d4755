"""The one command for a GPU, with a GPU that does not exist, up to the point where one is needed."""

import csv
from types import SimpleNamespace

import jax
import pytest

from benchmarks import iterations
from experiments import gpu

H100 = "NVIDIA H100"


def test_rows_of_a_network_are_written_together_and_not_measured_again(monkeypatch, tmp_path):
    here = jax.devices()
    fake = SimpleNamespace(device_kind=H100, platform="gpu")
    monkeypatch.setattr(jax, "devices", lambda *of: here if of else [fake])
    monkeypatch.setattr(gpu, "found_device", lambda: f"gpu {H100}")
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    monkeypatch.setattr(iterations, "commit", lambda: "0a1b")
    monkeypatch.setattr(iterations, "CASES", iterations.TINY[:1])
    monkeypatch.setattr(iterations, "ITERATIONS", (8, 1))
    monkeypatch.setattr(iterations, "REPEATS", 2)
    device = gpu.device_of("gpu")
    first, *others = gpu.steps("gpu", device)
    file = tmp_path / "gpu/speed.csv"
    assert first.command[2:] == ["benchmarks.iterations", "--output", str(file)] and not first.is_current
    assert [step.name for step in others[:2]] == ["throughput n1024", "throughput n2048"]
    assert list(dict.fromkeys(step.name.split()[0] for step in others)) == list(gpu.EXPERIMENTS)
    measured = iterations.measured

    def cut(case, steps, seconds):
        if steps == 1:
            raise KeyboardInterrupt
        return measured(case, steps, seconds)

    monkeypatch.setattr(iterations, "measured", cut)
    with pytest.raises(KeyboardInterrupt):
        iterations.main(first.command[3:])
    before = file.read_text()
    monkeypatch.setattr(iterations, "measured", measured)
    assert [steps for _, steps in iterations.left(file, device, tiny=False)] == [1]
    iterations.main(first.command[3:])
    assert file.read_text().startswith(before) and next(gpu.steps("gpu", device)).is_current
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["rule"], row["steps_in_iteration"]) for row in rows] == [
        ("bptt", "8"), ("ottt", "8"), ("bptt", "1"), ("ottt", "1"),
    ]  # fmt: skip
    for row in rows:
        assert tuple(row) == iterations.COLUMNS and row["device"] == H100 and row["error"] == ""
        assert 0 < float(row["least_s"]) <= float(row["median_s"]) and int(row["temporaries_bytes"]) > 0
    assert rows[0]["to_bptt"] == rows[2]["to_bptt"] == "1.000"
    assert iterations.left(file, "another device", tiny=False) == [(iterations.TINY[0], steps) for steps in (8, 1)]


def test_a_program_that_the_device_refuses_has_its_error_in_the_table(monkeypatch):
    def refuse(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nbuffers")

    case = iterations.TINY[0]
    program = SimpleNamespace(lower=lambda *_: SimpleNamespace(compile=refuse))
    known = case.programs() | {("default", "ottt"): (program, ())}
    rows = iterations.measured(SimpleNamespace(programs=lambda: known), 4)
    assert rows["default", "ottt"] == {"error": "RESOURCE_EXHAUSTED: out of memory"}
    assert rows["default", "bptt"]["to_bptt"] == "1.000"


def test_without_a_gpu_it_stops_at_once(monkeypatch):
    monkeypatch.setattr(gpu, "found_device", lambda: "cpu cpu")
    with pytest.raises(SystemExit, match=r"got the cpu 'cpu' as the first device of JAX, expected a gpu\. Install JAX"):
        gpu.main(["--minutes", "9"])
