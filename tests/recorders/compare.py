"""Record again the references that other code gave, and compare: a table, with a line for each file.

    python -m tests.recorders.compare                           # all of recorders.csv
    python -m tests.recorders.compare foreign_sparx slax_demo

Each script runs in an environment and a folder of its own, and no recorded file is touched. A file is "bit-equal", "equal to
rounding" or "changed", and the exit status is 1 if one is changed or a script fails, as where the authors' code cannot be
downloaded; what was downloaded stays in .venvs/sources.

recorders.csv has the commit and path of each script, its arguments, the repository and commit of the authors' code, or the
commit of each file; for each run the version of Python and the packages, or "header" if the script's own header has them; the
recorded files, and the folder where the script puts its own, if that is not the script's.
"""

import csv
import io
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
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
    known, outcomes = recorders(), []
    print("| recorder | file | outcome |\n|---|---|---|")
    for name in names or known:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = recorded_again(known[name], Path(folder))
            except (OSError, subprocess.CalledProcessError) as error:
                found = {known[name]["recorded"]: f"failed: {getattr(error, 'stderr', '') or error}"[-300:]}
        for file, outcome in found.items():
            print(f"| {name} | {file} | {outcome} |", flush=True)
        outcomes += found.values()
    sys.exit(any(outcome.startswith(("changed", "failed")) for outcome in outcomes))


def recorded_again(recorder: dict[str, str], folder: Path) -> dict[str, str]:
    """By recorded file, how the one that is made now compares."""
    recorded, sources = sorted(ROOT.glob(recorder["recorded"])), authors_code(*recorder["sources"].split())
    commit, _, path = recorder["script"].partition(":")
    unpack(subprocess.check_output(["git", "archive", commit, "tests", "docs"], cwd=ROOT), folder)
    made = [folder / (recorder["made"] or Path(path).parent) / file.name for file in recorded]
    for file in made:
        file.unlink(missing_ok=True)
    arguments = recorder["arguments"].replace("SOURCES", str(sources)).split()
    for run in recorder["runs"].split("; "):
        python, *packages = run.split()
        needed = ["--isolated", "--python", python, *(f"--with={package}" for package in packages), "python"]
        command = [*UV, *(["--script"] if run == "header" else needed), Path(path).name, *arguments]
        subprocess.run(command, cwd=folder / Path(path).parent, capture_output=True, text=True, check=True)
    return {old.name: compared(old, new) for old, new in zip(recorded, made, strict=True)}


def authors_code(repository: str = "", *parts: str) -> Path:
    """The folder of FILE@COMMIT of a repository on GitHub, or of all its files with @COMMIT, downloaded if it is not there."""
    folder = SOURCES / repository
    for name, _, commit in (part.partition("@") for part in parts):
        if not (folder / (name or commit)).exists():
            url = f"https://{'raw.githubusercontent' if name else 'codeload.github'}.com/{repository}/"
            with urllib.request.urlopen(
                url + (f"{commit}/{name}" if name else f"tar.gz/{commit}"), timeout=60
            ) as answer:
                content = answer.read()
            folder.mkdir(parents=True, exist_ok=True)
            if name:
                (folder / name).write_bytes(content)
            else:
                unpack(content, folder)
                next(folder.glob(f"*{commit}")).rename(folder / commit)
    return folder / commit if parts and not name else folder


def unpack(content: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(folder, filter="data")


def compared(recorded: Path, made: Path) -> str:
    """How a file that was made now compares with the recorded one."""
    with np.load(recorded) as old, np.load(made) as new:
        if {*old} != {*new}:
            return f"changed: only one has {', '.join(sorted({*old} ^ {*new}))}"
        worst, key = max((deviation(old[key], new[key]), key) for key in old)
    kind = "equal to rounding" if worst <= ROUNDING else "changed"
    return f"{kind}: {key} by {worst:.2g} units in the last place of its largest element" if worst else "bit-equal"


def deviation(old: np.ndarray, new: np.ndarray) -> float:
    """The largest difference, in units in the last place of the largest element; infinite where it cannot be rounding."""
    if old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes():
        return 0.0
    if old.dtype.kind != "f" or old.dtype != new.dtype or old.shape != new.shape or not np.isfinite([old, new]).all():
        return np.inf
    return max(1.0, float(np.abs(old - new).max() / np.spacing(np.abs(old).max())))


if __name__ == "__main__":
    main(*sys.argv[1:])
