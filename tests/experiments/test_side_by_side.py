"""What the coordinator and the processes of a benchmark see to, so that contenders are alike and what fails has its reason."""

import ast
from types import SimpleNamespace

import pytest

from benchmarks.side_by_side import contenders, equations, measure, worker
from benchmarks.side_by_side.contenders import Contender, contender
from benchmarks.side_by_side.workload import uniform

PEERS = sorted(contenders.PEERS.glob("*.py"))


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


@pytest.mark.parametrize("file", PEERS, ids=lambda file: file.stem)
def test_file_of_a_peer_has_a_function_for_each_of_its_benchmarks_and_states_its_neuron(file):
    names = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
    names |= {"rules"} & set(file.read_text().split())  # imported from the file of another version
    found = contenders.contenders_of(file)
    assert found and {one.benchmark for one in found} <= names
    for one in found:
        assert contender(one.benchmark, one.name) == one
        if one.benchmark == "bptt" and one.peer != "matmul":  # which has no neuron
            assert one.neuron["equation"] in equations.EQUATIONS and one.neuron["differs"] and "spikes_of" in names


def test_contenders_that_may_not_fit_beside_those_before_them_are_left_out_with_the_reason(monkeypatch):
    """The memory that is free shrinks by 1 GB with each first step, and a process may need 8 GB."""
    free, closed = [10e9], []

    class Process:
        def __init__(self, one, workload):
            self.name = one.name

        def ask(self, first_step=False, seconds=None):
            free[0] -= 1e9 * first_step
            return {"loss": 1.0} if first_step else {"times": [seconds]}

        def close(self):
            closed.append(self.name)

        answer = SimpleNamespace

    monkeypatch.setattr(measure, "Process", Process)
    monkeypatch.setattr(measure, "free_bytes", lambda: free[0])
    monkeypatch.setattr(measure, "ARRAYS", 8e9 / (4 * 256 * 32 * 128))
    chosen = [Contender("bptt", contenders.PEERS / f"{name}.py", "a") for name in "pqrs"]
    records = measure.measure(uniform(256, 128), chosen, 2, 0.5)
    assert [len(record["rounds"]) for record in records] == [2, 2, 2, 0]
    assert records[3]["left_out"] == "left out for its memory: 7.0 GB are free, of up to 8.0 GB"
    assert sorted(closed) == ["p:a", "q:a", "r:a", "s:a"]


def test_what_a_contender_does_wrong_is_the_reason_of_its_failure(tmp_path, monkeypatch):
    """A loss that is no number, and a fall back to the CPU where there is a GPU."""
    with pytest.raises(RuntimeError, match="its loss is nan, expected a finite number"):
        worker.first_step(Step(float("nan")))
    trace = "Traceback (most recent call last):\n  File\nRuntimeError: its loss is inf, expected a finite number\n"
    told = str(contenders.BenchmarkError.from_output(trace))
    assert told == "RuntimeError: its loss is inf, expected a finite number"
    monkeypatch.setattr(worker, "GPU", tmp_path)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(RuntimeError, match="it runs on the CPU, though there is an NVIDIA GPU"):
        worker.first_step(Step())
    assert worker.first_step(Step(device="Tesla T4"))["device"] == "Tesla T4"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert worker.first_step(Step())["device"] == "cpu"
