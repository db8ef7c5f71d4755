"""Runs the tests against every mutant of mutants.csv, and tells which test kills it: `make mutants`.

    python -m tests.mutants.run [--jobs 2] [--only TEXT]

A mutant is made in a copy of the tree, in the one source file that has its line. The test that killed it the last time runs
first, then the tests of its package until one fails, those first that killed most others. A test that kills has to pass
without the mutant. The result is written into mutants.csv: `killed_by` is the test, empty for a survivor, and `why` says
why no test can see it. The command fails if a mutant survives without a reason, or has no line any more.

Most were drawn by cosmic-ray 8 with seed 32, stratified over packages and kinds of faults; terms are dropped by a few lines of
our own, since cosmic-ray does not have that. `git show 66018c2:tests/mutants/draw.py` drew them. The others were chosen by
hand, in code that was written later.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from threading import Lock

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("mutants.csv")

# Where mutants are made, and the folders of the tests that can see them.
TESTS = {
    "packages/slax-rules": ["tests/laws", "tests/training"],
    "packages/slax-neurons": ["tests/neurons", "tests/laws"],
    "packages/slax-data": ["tests/data"],
    "gallery": ["tests/gallery"],
}
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "-rfE", "--tb=no"]
GONE = "the line is gone: draw another mutant in its place"
LIMIT = 1200  # seconds: a mutant may make a test hang
UNCOLLECTED = "(the tests cannot be collected)"


def area_of(file: str) -> str:
    """The key of TESTS that a source file belongs to."""
    return next(area for area in TESTS if file.startswith(area + "/"))


def tests_of(area: str, rows: list[dict[str, str]]) -> list[str]:
    """The files with the tests of an area; those that killed most of its mutants come first."""
    kills = Counter(row["killed_by"].partition("::")[0] for row in rows if area_of(row["file"]) == area)
    files = [path for folder in TESTS[area] for path in sorted((ROOT / folder).glob("test_*.py"))]
    return sorted((path.relative_to(ROOT).as_posix() for path in files), key=lambda file: -kills[file])


def copy_of_the_tree(folder: Path) -> Path:
    """A copy of all files that git knows or would add, which shares the folder of compiled programs."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if not name.startswith("data/store/") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (ROOT / ".programs").mkdir(exist_ok=True)
    (folder / ".programs").symlink_to(ROOT / ".programs")
    return folder


def first_failure(tree: Path, tests: list[str], limit: float) -> str | None:
    """The first test that fails, or None. To take longer than the limit, in seconds, is a failure, too."""
    sources = [str(path) for path in tree.glob("packages/*/src")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sources, str(tree)]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *OPTIONS, *tests]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return "(a test hangs)"
    if done.returncode == 0:
        return None
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    failed = [line.split(" - ")[0].split(maxsplit=1)[1] for line in told]
    return failed[0] if failed else UNCOLLECTED


def mutated(tree: Path, row: dict[str, str]) -> tuple[Path, str] | None:
    """Puts the mutant into the copy; returns the file and its text before, or None unless it has the line once."""
    path = tree / row["file"]
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.count(row["before"] + "\n") != 1:
        return None
    path.write_text(text.replace(row["before"] + "\n", row["after"] + "\n"), encoding="utf-8")
    return path, text


def judge(tree: Path, row: dict[str, str], tests: list[str]) -> None:
    """Fills in what became of one mutant under the tests of its area."""
    place = mutated(tree, row)
    if place is None:
        row["killed_by"] = ""
        row["why"] = GONE
        return
    row["why"] = "" if row["why"] == GONE else row["why"]
    path, text = place
    last = row["killed_by"]
    try:
        found = first_failure(tree, [last], LIMIT) if last.startswith("tests/") else None
        if found in (None, UNCOLLECTED):  # a test of this name sees nothing, or is not there
            found = first_failure(tree, tests, LIMIT)
    finally:
        path.write_text(text, encoding="utf-8")
    if found is not None and found.startswith("tests/") and found != last:
        check_passes(tree, [found])
    row["killed_by"] = found or ""


def check_passes(tree: Path, tests: list[str]) -> None:
    """Stop if one of the tests fails without a mutant."""
    if red := first_failure(tree, tests, LIMIT):
        raise SystemExit(f"{red} fails without a mutant. Mend it first: a failing test would kill every mutant.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="how many mutants are run at once")
    parser.add_argument("--only", default="", help="only mutants in whose file this text occurs")
    arguments = parser.parse_args()
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for row in rows if arguments.only in row["file"]]
    tests = {area: tests_of(area, rows) for area in TESTS}
    trees: Queue[Path] = Queue()
    one_writes = Lock()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(arguments.jobs) as pool:
        for number in range(arguments.jobs):
            trees.put(copy_of_the_tree(Path(temporary) / str(number)))
        check_passes(
            trees.queue[0], sorted({row["killed_by"] for row in chosen if row["killed_by"].startswith("tests/")})
        )

        def run(row: dict[str, str]) -> None:
            tree = trees.get()
            try:
                judge(tree, row, tests[area_of(row["file"])])
            finally:
                trees.put(tree)
            print(f"{row['killed_by'] or 'SURVIVES ' + row['why']}: {row['file']}: {row['after'].strip()}", flush=True)
            with one_writes, TABLE.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)

        list(pool.map(run, chosen))
    killed = sum(bool(row["killed_by"]) for row in chosen)
    gone = sum(row["why"] == GONE for row in chosen)
    told = sum(bool(row["why"]) and not row["killed_by"] for row in chosen) - gone
    print(
        f"{killed} of {len(chosen)} mutants are killed, {told} survive for a reason that is told, {gone} have no line."
    )
    if killed + told < len(chosen):
        sys.exit(1)


if __name__ == "__main__":
    main()
