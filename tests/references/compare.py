"""Record the references that other code gave again, and compare: a table, with a line for each file.

    python -m tests.references.compare                           # all of recorders.yaml
    python -m tests.references.compare foreign_sparx slax_demo --sources FOLDER

Each script runs in an environment and a folder of its own, and no recorded file is touched. A file is "bit-equal", "equal to
rounding", or "changed", and the exit status is 1 if one is changed or a script fails. Sources or packages that cannot be had
say nothing about a reference: the table tells them. FOLDER keeps the authors' code.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parents[2]
RECORDERS: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("recorders.yaml").read_text(encoding="utf-8")
)
UV = (str(Path(sys.executable).with_name("uv")), "run", "--quiet", "--no-project")
ROUNDING = 1000  # units in the last place of the largest element of an array


def main(recorders: Mapping[str, dict[str, Any]] = RECORDERS) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(recorders))
    parser.add_argument("--sources", type=Path, default=ROOT / ".venvs/sources")
    options = parser.parse_args()
    if unknown := {*options.names} - recorders.keys():
        parser.error(f"Got {', '.join(sorted(unknown))}, expected some of: {', '.join(recorders)}.")
    print("| recorder | file | outcome |\n|---|---|---|", flush=True)
    failed = False
    for name in options.names or recorders:
        for file, outcome in outcomes(recorders[name], options.sources):
            print(f"| {name} | {file} | {outcome} |", flush=True)
            failed |= outcome.startswith(("changed", "failed"))
    sys.exit(failed)


def outcomes(recorder: Mapping[str, Any], kept: Path) -> Iterator[tuple[str, str]]:
    """The names of the recorded files, and how those that are made now compare; or one line if none can be made."""
    recorded = sorted(ROOT.glob(recorder["recorded"]))
    try:
        sources = sources_of(recorder["sources"], kept) if "sources" in recorder else None
    except OSError as error:
        yield recorder["recorded"], f"not run: its sources cannot be had: {error}"
        return
    with tempfile.TemporaryDirectory() as folder:
        script = checked_out(recorder["script"], Path(folder))
        made = Path(folder, recorder["made"]) if "made" in recorder else script.parent
        for file in recorded:
            (made / file.name).unlink(missing_ok=True)
        arguments = [argument.format(sources=sources) for argument in recorder.get("arguments", ())]
        for run in recorder["runs"]:
            done = subprocess.run(
                [*command(run), script.name, *arguments], cwd=script.parent, capture_output=True, text=True
            )
            if done.returncode:
                last = (done.stderr.strip() or "no message").splitlines()[-1]
                how = "not run: its packages cannot be had" if run != "header" and not installs(run) else "failed"
                yield recorder["recorded"], f"{how}: {last}"
                return
        for file in recorded:
            yield file.name, compared(file, made / file.name)


def command(run: Any) -> list[str]:
    """What runs a script in an environment of its own."""
    if run == "header":
        return [*UV, "--script"]
    return [*UV, "--isolated", "--python", run["python"], *(f"--with={package}" for package in run["packages"]), "python"]


def installs(run: Any) -> bool:
    """True if there can be such an environment."""
    return not subprocess.run([*command(run), "-c", ""], capture_output=True).returncode


def checked_out(script: Mapping[str, str], folder: Path) -> Path:
    """A script in a folder, which gets the tests and docs of its commit."""
    archive = subprocess.run(
        ["git", "archive", script["commit"], "tests", "docs"], cwd=ROOT, check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / script["path"]


def sources_of(sources: Mapping[str, Any], kept: Path) -> Path:
    """The folder of the authors' code, which is downloaded if it is not there."""
    repository, files = sources["repository"], sources.get("files", {})
    folder = kept / repository / sources.get("commit", "files")
    for name, commit in files.items():
        if not (folder / name).exists():
            content = downloaded(f"https://raw.githubusercontent.com/{repository}/{commit}/{name}")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    if not files and not folder.exists():
        content = downloaded(f"https://codeload.github.com/{repository}/tar.gz/{sources['commit']}")
        aside = folder.with_suffix(".part")
        shutil.rmtree(aside, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(aside, filter="data")
        (only,) = aside.iterdir()
        only.rename(folder)
    return folder.resolve()


def downloaded(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        content: bytes = answer.read()
        return content


def compared(recorded: Path, made: Path) -> str:
    """How a file that was made now compares with the recorded one."""
    if not made.exists():
        return "changed: it is not made any more"
    with np.load(recorded) as old, np.load(made) as new:
        if {*old} != {*new}:
            return f"changed: only one has {', '.join(sorted({*old} ^ {*new}))}"
        worst = max((deviation(old[key], new[key]), key) for key in old)
    if worst[0] == 0:
        return "bit-equal"
    told = f"{worst[1]} by {worst[0]:.2g} units in the last place of its largest element"
    return f"equal to rounding: {told}" if worst[0] <= ROUNDING else f"changed: {told}"


def deviation(old: np.ndarray, new: np.ndarray) -> float:
    """The largest difference, in units in the last place of the largest element; infinite where it cannot be rounding."""
    if old.dtype != new.dtype or old.shape != new.shape:
        return np.inf
    if old.tobytes() == new.tobytes():
        return 0.0
    if old.dtype.kind != "f" or not np.isfinite([old, new]).all():
        return np.inf
    return float(np.abs(old - new).max() / np.spacing(np.abs(old).max()))


if __name__ == "__main__":
    main()
