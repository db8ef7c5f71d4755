"""Record again the references that other code gave, and compare: a table, with a line for each file.

    python -m tests.recorders.compare                           # all of recorders.csv
    python -m tests.recorders.compare foreign_sparx slax_demo

Each script runs in an environment and a folder of its own, and no recorded file is touched. A file is "bit-equal", "equal to
rounding" or "changed", and the exit status is 1 if one is changed or a script fails. Where the authors' code cannot be had, the
table tells it, since this says nothing about a reference; what was had stays in .venvs/sources.

recorders.csv has the commit and path of each script, its arguments, the repository and commit of the authors' code, or the
commit of each file; for each run the version of Python and the packages, or "header" if the script's own header has them; the
recorded files, and the folder where the script puts its own, if that is not the script's.
"""

import csv
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / ".venvs/sources"
UV = (str(Path(sys.executable).with_name("uv")), "run", "--quiet", "--no-project")
ROUNDING = 1000  # units in the last place of the largest element of an array


def recorders() -> dict[str, dict[str, str]]:
    with Path(__file__).with_name("recorders.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def main(*names: str) -> None:
    known = recorders()
    if unknown := {*names} - known.keys():
        sys.exit(f"Got {', '.join(sorted(unknown))}, expected some of {', '.join(known)}.")
    print("| recorder | file | outcome |\n|---|---|---|")
    failed = False
    for name in names or known:
        for file, outcome in outcomes(known[name]):
            print(f"| {name} | {file} | {outcome} |", flush=True)
            failed |= outcome.startswith(("changed", "failed"))
    sys.exit(failed)


def outcomes(recorder: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The names of the recorded files, and how those that are made now compare; or one line if none can be made."""
    recorded = sorted(ROOT.glob(recorder["recorded"]))
    try:
        sources = authors_code(*recorder["sources"].split())
    except OSError as error:
        yield recorder["recorded"], f"not run: {recorder['sources']} cannot be had: {error}"
        return
    with tempfile.TemporaryDirectory() as folder:
        commit, _, path = recorder["script"].partition(":")
        archive = subprocess.run(["git", "archive", commit, "tests", "docs"], cwd=ROOT, check=True, capture_output=True)
        unpack(archive.stdout, Path(folder))
        script = Path(folder, path)
        made = [Path(folder, recorder["made"] or Path(path).parent, file.name) for file in recorded]
        for file in made:
            file.unlink(missing_ok=True)
        arguments = recorder["arguments"].replace("SOURCES", str(sources)).split()
        for run in recorder["runs"].split("; "):
            python, *packages = run.split()
            needed = ["--isolated", "--python", python, *(f"--with={package}" for package in packages), "python"]
            command = [*UV, *(["--script"] if run == "header" else needed), script.name, *arguments]
            done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True)
            if done.returncode:
                yield recorder["recorded"], f"failed: {done.stderr.strip().rpartition(chr(10))[2]}"
                return
        yield from ((old.name, compared(old, new)) for old, new in zip(recorded, made, strict=True))


def authors_code(repository: str = "", *parts: str) -> Path:
    """The folder of FILE@COMMIT of a repository on GitHub, or of all its files with @COMMIT, downloaded if it is not there."""
    folder = SOURCES / repository
    for name, _, commit in (part.partition("@") for part in parts):
        host = "raw.githubusercontent.com" if name else "codeload.github.com"
        target = folder / (name or commit)
        if not target.exists():
            url = (
                f"https://{host}/{repository}/{commit}/{name}"
                if name
                else f"https://{host}/{repository}/tar.gz/{commit}"
            )
            with urllib.request.urlopen(url, timeout=60) as answer:
                content = answer.read()
            folder.mkdir(parents=True, exist_ok=True)
            if name:
                target.write_bytes(content)
            else:
                with tempfile.TemporaryDirectory(dir=folder) as aside:
                    unpack(content, Path(aside))
                    shutil.move(*Path(aside).iterdir(), target)
    return target if parts and not name else folder


def unpack(content: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(folder, filter="data")


def compared(recorded: Path, made: Path) -> str:
    """How a file that was made now compares with the recorded one."""
    if not made.exists():
        return "changed: it is not made any more"
    with np.load(recorded) as old, np.load(made) as new:
        if {*old} != {*new}:
            return f"changed: only one has {', '.join(sorted({*old} ^ {*new}))}"
        worst, key = max((deviation(old[key], new[key]), key) for key in old)
    kind = "equal to rounding" if worst <= ROUNDING else "changed"
    return f"{kind}: {key} by {worst:.2g} units in the last place of its largest element" if worst else "bit-equal"


def deviation(old: np.ndarray, new: np.ndarray) -> float:
    """The largest difference, in units in the last place of the largest element; infinite where it cannot be rounding."""
    if old.dtype != new.dtype or old.shape != new.shape:
        return np.inf
    if old.tobytes() == new.tobytes():
        return 0.0
    if old.dtype.kind != "f" or not np.isfinite([old, new]).all():
        return np.inf
    return max(1.0, float(np.abs(old - new).max() / np.spacing(np.abs(old).max())))


if __name__ == "__main__":
    main(*sys.argv[1:])
