"""Make the environment of a peer and record the outcome: `python -m benchmarks.side_by_side.environment FILE OUTPUT`.

A failure is recorded and is not an error: the measurements then report it in place of a number. The pipeline tries again
only on request, so environments that were made are kept.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.side_by_side.contenders import ENVIRONMENTS, GPU, ROOT, BenchmarkError, Contender, contenders_of, script

HERE = {"jax", "flax", "numpy", "slax-neurons", "slax-rules"}  # what the current interpreter has
TO_TRY_AGAIN = "to try again: snakemake figures/all --forcerun environment"


def python_of(contender: Contender) -> Path:
    """The interpreter of the peer's own environment, which is made if its metadata changed.

    Raises:
        BenchmarkError: the environment cannot be made, or could not be made before, as its record says.
    """
    metadata = script(contender.file)
    python, dependencies = metadata["requires-python"], metadata["dependencies"]
    if contender.here:
        if missing := sorted({re.split("[=<>]", requirement)[0] for requirement in dependencies} - HERE):
            raise BenchmarkError(f"needs {', '.join(missing)}; this run was made without environments for the peers")
        return Path(sys.executable)
    record = ENVIRONMENTS / f"{contender.peer}.json"
    if record.exists() and (error := json.loads(record.read_text(encoding="utf-8"))["error"]):
        raise BenchmarkError(error)
    editable = metadata["tool"]["benchmark"].get("editable", [])
    if GPU.exists():  # PyTorch's wheels serve both
        dependencies = [re.sub(r"^jax==", "jax[cuda12]==", requirement) for requirement in dependencies]
    home = ENVIRONMENTS / contender.peer
    stamp, needs = home / "metadata", repr([python, dependencies, editable])
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != needs:
        uv("venv", "--no-project", "--clear", "--python", python, str(home))
        folders = [f"--editable={ROOT / folder}" for folder in editable]
        uv("pip", "install", "--python", str(home), *dependencies, *folders)
        stamp.write_text(needs, encoding="utf-8")
    return home / "bin" / "python"


def uv(*arguments: str) -> None:
    try:
        done = subprocess.run(["uv", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise BenchmarkError("needs uv to make an environment: pip install uv") from None
    if done.returncode:
        raise BenchmarkError.from_output(done.stderr)


def main() -> None:
    file, output = map(Path, sys.argv[1:])
    error = None
    try:
        python_of(contenders_of(file)[0])  # any of them: they share it
    except BenchmarkError as failure:
        error = f"{failure}; {TO_TRY_AGAIN}"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"peer": file.stem, "error": error}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
