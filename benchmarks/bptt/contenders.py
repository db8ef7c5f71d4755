"""Who takes part: a peer is a file in peers/, a contender is one variant of it.

A peer's file opens with the standard's block of inline script metadata (`# /// script`): `requires-python`, `dependencies`,
and under `[tool.bptt]` the folders of this repository to install, `editable`, and its variants, each with the environment
variables it needs. The file has a function `build(variant, workload)`, which returns a step: a callable that runs one
forward and backward pass and returns the loss, with a method `temporary_bytes()`.
"""

import subprocess
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
ENVIRONMENTS = FOLDER.parent / ".envs"


class Failed(Exception):
    """A contender that cannot be installed or run, with what was said of it."""

    @classmethod
    def saying(cls, text: str) -> "Failed":
        """The last line of a program's output that names an error, else its last line."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        named = [line for line in lines if "error" in line.lower() or line.startswith("cause:")]
        return cls((named or lines or ["it ended without a word"])[-1])


class Contender(NamedTuple):
    """A variant of a peer, and the environment variables it runs with."""

    peer: str
    variant: str
    variables: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.peer}:{self.variant}"


def script(peer: str) -> dict[str, Any]:
    """The metadata at the top of a peer's file."""
    lines = (FOLDER / "peers" / f"{peer}.py").read_text().splitlines()
    start = lines.index("# /// script") + 1
    block = lines[start : lines.index("# ///", start)]
    return tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in block))


def contenders(names: list[str]) -> list[Contender]:
    """The contenders that are meant by names such as "jaxpike", all of its variants, or "slax:remat"; all by none."""
    found = [
        Contender(path.stem, variant, variables)
        for path in sorted((FOLDER / "peers").glob("*.py"))
        for variant, variables in script(path.stem)["tool"]["bptt"]["variants"].items()
    ]
    unknown = set(names) - {name for contender in found for name in (contender.peer, contender.name)}
    if unknown:
        raise SystemExit(f"There is no {', '.join(sorted(unknown))}. There are: {', '.join(c.name for c in found)}.")
    return [contender for contender in found if not names or {contender.peer, contender.name} & set(names)]


def python_of(peer: str) -> Path:
    """The interpreter of the peer's own environment, which is made if its metadata changed.

    Raises:
        Failed: the environment cannot be made.
    """
    metadata = script(peer)
    home = ENVIRONMENTS / peer
    stamp = home / "metadata"
    if not stamp.exists() or stamp.read_text() != repr(metadata):
        _uv("venv", "--no-project", "--clear", "--python", metadata["requires-python"], str(home))
        editable = [f"--editable={ROOT / folder}" for folder in metadata["tool"]["bptt"].get("editable", [])]
        _uv("pip", "install", "--python", str(home), *metadata["dependencies"], *editable)
        stamp.write_text(repr(metadata))
    return home / "bin" / "python"


def _uv(*arguments: str) -> None:
    done = subprocess.run(["uv", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Failed.saying(done.stderr)
