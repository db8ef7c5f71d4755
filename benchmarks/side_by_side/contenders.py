"""The contenders of a benchmark: a peer is a file in benchmarks/peers, and a contender is one of its variants there.

A peer's file opens with the standard's block of inline script metadata (`# /// script`): `requires-python`, `dependencies`,
and under `[tool.benchmark]`

- `editable`, the folders of this repository to install;
- `cuda = true` if it needs a GPU;
- `variants.BENCHMARK` for each benchmark that it takes part in, each variant with the environment variables that it needs;
- `dtypes.BENCHMARK`, the types that it supports, by default float32 alone;
- `limits.BENCHMARK`, the greatest `width` or `steps` of a workload for variants that are too slow for more;
- `neurons`, the function in `equations.py` that describes the neuron of each variant of `bptt`, or of "all" of them, and how
  it `differs` from ours.

The file has a function for each of its benchmarks, named after it, `bptt(variant, workload)` for example. It returns a step: a
callable that makes one gradient and returns the loss, with the methods of `JaxStep` and `TorchStep`.
With `neurons` there is also a function `spikes_of(variant, currents)`, the neuron alone, which is checked before anything is
timed.
"""

import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.side_by_side.workload import Workload

ROOT = Path(__file__).parents[2]
BUILTIN_PACKAGES = {"jax", "flax", "numpy", "slax-neurons", "slax-rules"}
PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / "benchmarks" / ".envs"
GPU = Path("/dev/nvidia0")


class BenchmarkError(Exception):
    """A contender that cannot be installed or run, with the error message."""

    @classmethod
    def from_output(cls, text: str) -> "BenchmarkError":
        """The last line of a program's output that names an error, or else its last line, without the path of this folder."""
        lines = [line.strip() for line in text.replace(f"{ROOT}/", "").splitlines() if line.strip()]
        named = [line for line in lines if "error" in line.lower() or line.startswith("cause:")]
        return cls((named or lines or ["it ended without any output"])[-1])


class Contender(NamedTuple):
    """A variant of a peer in a benchmark, the peer's file, the environment variables with which it runs, and its limits."""

    benchmark: str
    file: Path
    variant: str
    variables: dict[str, str]
    limits: dict[str, int]
    dtypes: tuple[str, ...] = ("float32",)
    cuda: bool = False
    neuron: dict[str, str] | None = None
    here: bool = False  # whether it runs with the current interpreter, without an environment of its own
    left_out: str | None = None  # the caller's reason for not measuring it
    error: str | None = None  # why its environment could not be made, if that was tried before and is not tried again
    jax: str | None = None  # the version of JAX to install, in place of the peer's own

    @property
    def peer(self) -> str:
        return self.file.stem

    @property
    def name(self) -> str:
        return f"{self.peer}:{self.variant}"

    @property
    def home(self) -> Path:
        """The folder of its environment, which all contenders of a peer share."""
        return ENVIRONMENTS / (f"{self.peer}-jax-{self.jax}" if self.jax else self.peer)

    @property
    def log(self) -> Path:
        """The file that receives the output of its process other than its answers."""
        return ENVIRONMENTS / f"{self.home.name}-{self.benchmark}-{self.variant}.log"

    def as_recorded(self) -> "Contender":
        """A copy with the error that environment.py recorded when it made the environment."""
        record = ENVIRONMENTS / f"{self.peer}.json"
        return self._replace(error=json.loads(record.read_text(encoding="utf-8"))["error"]) if record.exists() else self

    def unsupported_reason(self, workload: Workload) -> str | None:
        """The reason for skipping a workload, or None: the caller's choice, the limits, or an unsupported dtype."""
        if self.left_out:
            return self.left_out
        size = {"width": max(workload.widths), "steps": workload.steps}
        beyond = [f"too slow for a {name} above {limit}" for name, limit in self.limits.items() if size[name] > limit]
        if workload.dtype not in self.dtypes:
            beyond.append(f"not set up here for {workload.dtype}")
        return beyond[0] if beyond else None


def script(file: Path) -> dict[str, Any]:
    """The metadata at the top of a peer's file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    start = lines.index("# /// script") + 1
    block = lines[start : lines.index("# ///", start)]
    return tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in block))


def contenders(benchmark: str, names: list[str]) -> list[Contender]:
    """The contenders of a benchmark selected by names such as "jaxpike", for all its variants, or "slax:remat"; all
    contenders if there are no names."""
    of_peers = itertools.chain(*map(contenders_of, sorted(PEERS.glob("*.py"))))
    found = [contender for contender in of_peers if contender.benchmark == benchmark]
    unknown = set(names) - {name for contender in found for name in (contender.peer, contender.name)}
    if unknown:
        raise SystemExit(f"There is no {', '.join(sorted(unknown))}. There are: {', '.join(c.name for c in found)}.")
    return [contender for contender in found if not names or {contender.peer, contender.name} & set(names)]


def contenders_of(file: Path) -> list[Contender]:
    """The contenders of a peer's file, in all its benchmarks."""
    tool = script(file)["tool"]["benchmark"]
    cuda = tool.get("cuda", False)
    found = []
    for benchmark, variants in tool["variants"].items():
        limits = tool.get("limits", {}).get(benchmark, {})
        dtypes = tuple(tool.get("dtypes", {}).get(benchmark, ["float32"]))
        neurons = tool.get("neurons", {}) if benchmark == "bptt" else {}
        for name, variables in variants.items():
            neuron = neurons.get(name, neurons.get("all"))
            found.append(Contender(benchmark, file, name, variables, limits.get(name, {}), dtypes, cuda, neuron))
    return found


def python_of(contender: Contender) -> Path:
    """The interpreter of the peer's own environment, which is made if its metadata changed.

    Raises:
        BenchmarkError: the environment cannot be made.
    """
    if contender.here:
        return _python_at_hand(contender)
    if contender.error:
        raise BenchmarkError(contender.error)
    if contender.cuda and not GPU.exists():
        raise BenchmarkError("needs a CUDA device")
    metadata = script(contender.file)
    tool = metadata["tool"]["benchmark"]
    python, dependencies = metadata["requires-python"], metadata["dependencies"]
    if contender.jax:
        python, dependencies = ">=3.12", with_jax(dependencies, contender.jax)  # what JAX requires since 0.11
    dependencies = with_wheels(dependencies, gpu=GPU.exists())
    needs = repr([python, dependencies, tool.get("editable", [])])
    home = contender.home
    stamp = home / "metadata"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != needs:
        _uv("venv", "--no-project", "--clear", "--python", python, str(home))
        editable = [f"--editable={ROOT / folder}" for folder in tool.get("editable", [])]
        _uv("pip", "install", "--python", str(home), *dependencies, *editable)
        stamp.write_text(needs, encoding="utf-8")
    return home / "bin" / "python"


def with_jax(dependencies: list[str], version: str) -> list[str]:
    """The dependencies of a peer, with another version of JAX, and the newest Flax that runs on it.

    Raises:
        BenchmarkError: the peer does not use JAX.
    """
    if not any(re.match("jax==", requirement) for requirement in dependencies):
        raise BenchmarkError("does not use JAX")
    others = [requirement for requirement in dependencies if not re.match("(jax|flax)==", requirement)]
    return [*others, f"jax=={version}", *(["flax"] if len(others) + 1 < len(dependencies) else [])]


def with_wheels(dependencies: list[str], *, gpu: bool) -> list[str]:
    """The dependencies of a peer, with JAX's GPU wheels if there is a GPU; PyTorch's wheels serve both."""
    return [re.sub(r"^jax==", "jax[cuda12]==", requirement) if gpu else requirement for requirement in dependencies]


def _python_at_hand(contender: Contender) -> Path:
    needed = {re.split("[=<>]", requirement)[0] for requirement in script(contender.file)["dependencies"]}
    if missing := sorted(needed - BUILTIN_PACKAGES):
        raise BenchmarkError(f"needs {', '.join(missing)}; this run was made without environments for the peers")
    return Path(sys.executable)


def _uv(*arguments: str) -> None:
    try:
        done = subprocess.run(["uv", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise BenchmarkError("needs uv to make an environment: pip install uv") from None
    if done.returncode:
        raise BenchmarkError.from_output(done.stderr)
