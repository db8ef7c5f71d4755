"""What the coordinator and the processes of a benchmark see to, so that contenders are alike and what fails has its reason."""

import ast
import json

import pytest

from benchmarks.side_by_side import contenders, environment, worker

PEERS = sorted(contenders.PEERS.glob("*.py"))
BENCHMARKS = {file.parent.name for file in (contenders.ROOT / "benchmarks").glob("*/run.py")}


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


def functions_of(file):
    """The functions at the top level of a peer's file and their arguments, with those that it imports from other peers."""
    found = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = [argument.arg for argument in node.args.args]
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("benchmarks.peers."):
            imported = functions_of(file.with_name(f"{node.module.removeprefix('benchmarks.peers.')}.py"))
            found |= {name.asname or name.name: imported[name.name] for name in node.names}
    return found


@pytest.mark.parametrize("file", PEERS, ids=lambda file: file.stem)
def test_peer_has_what_its_metadata_say(file):
    """A function for each of its benchmarks and for no other, and limits and neurons of variants that there are."""
    found, metadata = functions_of(file), contenders.script(file)["tool"]["benchmark"]
    variants = metadata["variants"]
    if file.stem != "snnax":  # it cannot be imported, and has nothing but the attempt
        assert set(variants) == BENCHMARKS & set(found)
        assert all(found[benchmark] == ["variant", "workload"] for benchmark in variants)
        assert ("neurons" in metadata) == ("spikes_of" in found and "bptt" in found)
    assert found.get("spikes_of", ["variant", "currents"]) == ["variant", "currents"]
    assert set(metadata) <= {"editable", "cuda", "variants", "dtypes", "limits", "neurons"}
    assert set(metadata.get("dtypes", {})) <= set(variants) <= BENCHMARKS
    for benchmark, limits in metadata.get("limits", {}).items():
        assert set(limits) <= set(variants[benchmark])
        assert all(set(greatest) <= {"width", "steps"} for greatest in limits.values())
    assert set(metadata.get("neurons", {})) <= {"all", *variants.get("bptt", {})}


def test_every_file_is_in_a_benchmark_and_names_are_unique():
    found = {benchmark: contenders.contenders(benchmark, []) for benchmark in BENCHMARKS}
    assert {contender.file for several in found.values() for contender in several} == set(PEERS)
    for benchmark, several in found.items():
        assert {contender.benchmark for contender in several} == {benchmark}
        assert len({contender.name for contender in several}) == len(several) > 0


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


def test_environment_that_could_not_be_made_is_told_and_not_tried_again(tmp_path, monkeypatch):
    """In no benchmark: one record is for all."""

    def no_network(*arguments):
        tried.append(arguments)
        raise contenders.BenchmarkError("error: no network")

    tried = []
    monkeypatch.setattr(contenders, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(contenders, "_uv", no_network)
    record = tmp_path / "jaxpike.json"
    monkeypatch.setattr(
        "sys.argv", ["environment", str(contenders.contenders("bptt", ["jaxpike"])[0].file), str(record)]
    )
    environment.main()
    told = json.loads(record.read_text())["error"]
    assert told == "error: no network; to try again: snakemake figures/all --forcerun environment"
    for benchmark in ("bptt", "rules"):
        with pytest.raises(contenders.BenchmarkError, match="error: no network; to try again"):
            contenders.python_of(contenders.contenders(benchmark, ["jaxpike"])[0].as_recorded())
    assert len(tried) == 1
