"""The contenders of a benchmark: a peer is a file in benchmarks/peers, and a contender is one of its variants there.

A peer's file opens with the standard's block of inline script metadata (`# /// script`): `requires-python`, `dependencies`,
and under `[tool.benchmark]`

- `editable`, the folders of this repository to install;
- `variants.BENCHMARK` for each benchmark that it takes part in, each variant with the environment variables that it needs;
- `dtypes.BENCHMARK`, the types that it supports, by default float32 alone;
- `neuron`, for `bptt`: the function in `equations.py` that describes its neuron, and how it `differs` from ours.

The file has a function for each of its benchmarks, named after it, `bptt(variant, workload)` for example. It returns a step: a
callable that makes one gradient and returns the loss, with the methods of `JaxStep` and `TorchStep`.
With `neuron` there is also a function `spikes_of(variant, currents)`, the neuron alone, which is checked before anything is
timed.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.side_by_side.workload import Workload

ROOT = Path(__file__).parents[2]
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
    """A variant of a peer in a benchmark, the peer's file, and the environment variables with which it runs."""

    benchmark: str
    file: Path
    variant: str
    variables: Mapping[str, str] = {}
    dtypes: tuple[str, ...] = ("float32",)
    neuron: dict[str, str] | None = None
    here: bool = False  # whether it runs with the current interpreter, without an environment of its own
    left_out: str | None = None  # the reason for not measuring it

    @property
    def peer(self) -> str:
        return self.file.stem

    @property
    def name(self) -> str:
        return f"{self.peer}:{self.variant}"

    def unsupported_reason(self, workload: Workload) -> str | None:
        """The reason for skipping a workload, or None: the caller's choice, or an unsupported dtype."""
        unsupported = workload.dtype not in self.dtypes
        return self.left_out or (f"not set up here for {workload.dtype}" if unsupported else None)


def script(file: Path) -> dict[str, Any]:
    """The metadata at the top of a peer's file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    start = lines.index("# /// script") + 1
    block = lines[start : lines.index("# ///", start)]
    return tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in block))


def contenders_of(file: Path) -> list[Contender]:
    """The contenders of a peer's file, in all its benchmarks."""
    tool, found = script(file)["tool"]["benchmark"], []
    for benchmark, variants in tool["variants"].items():
        dtypes = tuple(tool.get("dtypes", {}).get(benchmark, ["float32"]))
        neuron = tool.get("neuron") if benchmark == "bptt" else None
        found += [Contender(benchmark, file, name, of, dtypes, neuron) for name, of in variants.items()]
    return found


def contender(benchmark: str, name: str) -> Contender:
    """The contender of a name such as "jaxpike:checkpointed_32". One whose peer has no file is left out, with that reason.

    Raises:
        SystemExit: the peer has no such variant.
    """
    peer, _, variant = name.partition(":")
    file = PEERS / f"{peer}.py"
    if not file.exists():
        return Contender(benchmark, file, variant, left_out=f"not run here: there is no {file.relative_to(ROOT)}")
    known = {one.variant: one for one in contenders_of(file) if one.benchmark == benchmark}
    if variant not in known:
        raise SystemExit(f"There is no {name} in {benchmark}, expected a variant of {peer}: {', '.join(known)}.")
    return known[variant]
