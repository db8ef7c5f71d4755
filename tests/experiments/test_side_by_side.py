"""What the coordinator and the processes of a benchmark see to, so that contenders are alike and what fails has its reason."""

from unittest.mock import Mock

import pytest

from benchmarks.side_by_side import worker


def step(loss=1.0, device="cpu"):
    """A step of a contender that says what it is told to."""
    return Mock(return_value=loss, device=lambda: device)


def test_what_a_contender_does_wrong_is_the_reason_of_its_failure(tmp_path, monkeypatch):
    """A loss that is no number, and a fall back to the CPU where there is a GPU."""
    with pytest.raises(RuntimeError, match="its loss is nan, expected a finite number"):
        worker.first_step(step(float("nan")))
    monkeypatch.setattr(worker, "GPU", tmp_path)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(RuntimeError, match="it runs on the CPU, though there is an NVIDIA GPU"):
        worker.first_step(step())
    assert worker.first_step(step(device="Tesla T4"))["device"] == "Tesla T4"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert worker.first_step(step())["device"] == "cpu"
