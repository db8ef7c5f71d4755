"""What the coordinator and the processes of a benchmark see to, so that contenders are alike and what fails has its reason."""

import importlib
import json
import os
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from experiments.throughput import run

import contenders  # isort: skip  on the path since run was imported
import environment  # isort: skip
import process  # isort: skip
import worker  # isort: skip


class Step:
    """A step of a contender that says what it is told to."""

    def __init__(self, loss=1.0, device="cpu"):
        self.loss, self.of = loss, device

    def __call__(self):
        return self.loss

    def temporary_bytes(self):
        return None

    peak_device_bytes = temporary_bytes

    def device(self):
        return self.of


def peer(name):
    return contenders.contenders(run.BENCHMARKS / "bptt", [name])[0]


def test_loss_that_is_no_number_is_the_reason_of_a_failure():
    with pytest.raises(RuntimeError, match="its loss is nan, expected a finite number"):
        worker.first_step(Step(float("nan")))
    trace = "Traceback (most recent call last):\n  File\nRuntimeError: its loss is inf, expected a finite number\n"
    assert (
        str(contenders.BenchmarkError.from_output(trace)) == "RuntimeError: its loss is inf, expected a finite number"
    )


def test_contender_that_falls_back_to_the_cpu_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "GPU", tmp_path)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(RuntimeError, match="it runs on the CPU, though there is an NVIDIA GPU"):
        worker.first_step(Step())
    assert worker.first_step(Step(device="Tesla T4"))["device"] == "Tesla T4"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert worker.first_step(Step())["device"] == "cpu"
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(worker, "GPU", tmp_path / "none")
    assert worker.first_step(Step())["device"] == "cpu"


def test_package_that_is_not_installed_is_that_of_this_checkout(monkeypatch):
    def none_of_ours(name):
        if name.startswith("slax"):
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(worker, "version", none_of_ours)
    assert worker.versions(peer("slax").file) == {"slax-neurons": "this checkout", "jax": "1.0", "flax": "1.0"}


def test_threads_are_each_librarys_default_but_for_variants_that_say_another(monkeypatch):
    for name in process.NUMBERS_OF_THREADS:
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("OTHER", "2")
    variables = process.variables_of(peer("snntorch:layers"))
    assert not process.NUMBERS_OF_THREADS & variables.keys() and variables["OTHER"] == "2"
    assert process.variables_of(peer("norse:whole_1_thread"))["OMP_NUM_THREADS"] == "1"


def test_bytecode_is_written_into_the_environment_of_a_peer_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    own = peer("spyx")
    assert "PYTHONDONTWRITEBYTECODE" not in process.variables_of(own)
    assert process.variables_of(own._replace(here=True))["PYTHONDONTWRITEBYTECODE"] == "1"


def test_matrix_products_of_jax_are_as_precise_as_those_of_pytorch():
    assert process.variables_of(peer("spyx"))["JAX_DEFAULT_MATMUL_PRECISION"] == "float32"


def test_environment_that_could_not_be_made_is_told_and_not_tried_again(tmp_path, monkeypatch):
    def no_network(*arguments):
        tried.append(arguments)
        raise contenders.BenchmarkError("error: no network")

    tried = []
    monkeypatch.setattr(contenders, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(contenders, "_uv", no_network)
    record = tmp_path / "bptt" / "spyx.json"
    monkeypatch.setattr("sys.argv", ["environment", str(peer("spyx").file), str(record)])
    environment.main()
    told = json.loads(record.read_text())["error"]
    assert told == "error: no network; to try again: snakemake figures/all --forcerun throughput_environment"
    with pytest.raises(contenders.BenchmarkError, match="error: no network; to try again"):
        contenders.python_of(peer("spyx").as_recorded())
    assert len(tried) == 1
    assert peer("slax").as_recorded().error is None


def test_uv_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(contenders, "ENVIRONMENTS", tmp_path)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(contenders.BenchmarkError, match="needs uv to make an environment: pip install uv"):
        contenders.python_of(peer("spyx"))


def test_memory_of_a_device_is_given_back_between_turns(monkeypatch):
    """With as much of PyTorch, which is in the environments of the peers alone, as a step asks for."""
    freed = []
    cuda = SimpleNamespace(is_available=lambda: True, empty_cache=lambda: freed.append(True))
    monkeypatch.setitem(
        sys.modules, "torch", SimpleNamespace(cuda=cuda, Tensor=object, nn=SimpleNamespace(Parameter=object))
    )
    monkeypatch.delitem(sys.modules, "torch_step", raising=False)
    torch_step = importlib.import_module("torch_step")
    monkeypatch.delitem(sys.modules, "torch_step")  # it is bound to the stand-in
    torch_step.TorchStep(lambda: None, []).release()
    assert freed == [True]
    monkeypatch.setattr(torch_step, "DEVICE", "cpu")
    torch_step.TorchStep(lambda: None, []).release()
    assert freed == [True]
