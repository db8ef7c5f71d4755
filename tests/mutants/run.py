"""Runs the tests against every mutant of mutants.csv, and tells which test kills it: `make mutants`.

    python -m tests.mutants.run [--jobs 2] [--only TEXT]

A mutant is made in a copy of the tree, in the one source file that has its line. The test that killed it the last time runs
first, then the tests of its package until one fails. The result is written into mutants.csv: `killed_by` is the test, empty for
a survivor, and `why` says why no test can see it. The command fails if a mutant survives without a reason.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from threading import Lock

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("mutants.csv")

# Where mutants are made, and the tests that can see them, the likely ones first.
TESTS = {
    "packages/slax-rules": ["tests/laws", "tests/training"],
    "packages/slax-neurons": ["tests/neurons", "tests/laws"],
    "packages/slax-data": ["tests/data"],
    "gallery": ["tests/gallery"],
}
LIMIT = 900  # seconds: a mutant that makes a test hang is killed


def area_of(file: str) -> str:
    """The key of TESTS that a source file belongs to."""
    return next(area for area in TESTS if file.startswith(area + "/"))


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


def first_failure(tree: Path, tests: list[str]) -> str | None:
    """The first test that fails, or None. A run that ends in another way than by failing tests counts as failure."""
    sources = [str(path) for path in tree.glob("packages/*/src")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sources, str(tree)]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "--no-header",
        "-rfE",
        "--tb=no",
        *tests,
    ]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "(a test hangs)"
    if done.returncode == 0:
        return None
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    failed = [line.split(" - ")[0].split(maxsplit=1)[1] for line in told]
    return failed[0] if failed else "(the tests cannot be collected)"


def mutated(tree: Path, row: dict[str, str]) -> tuple[Path, str] | None:
    """Puts the mutant into the copy. Returns the file and its text before, or None where no file has the line once."""
    for path in sorted((tree / area_of(row["file"])).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.count(row["before"] + "\n") == 1:
            path.write_text(text.replace(row["before"] + "\n", row["after"] + "\n"), encoding="utf-8")
            return path, text
    return None


def judge(tree: Path, row: dict[str, str]) -> None:
    """Fills in what became of one mutant."""
    place = mutated(tree, row)
    if place is None:
        row["killed_by"], row["why"] = "", "the line is gone: draw another mutant in its place"
        return
    path, text = place
    try:
        last = row["killed_by"]
        known = [last] if last.startswith("tests/") and (tree / last.split("::")[0]).is_file() else []
        tests = TESTS[area_of(row["file"])]
        row["killed_by"] = (known and first_failure(tree, known)) or first_failure(tree, tests) or ""
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="how many mutants are run at once")
    parser.add_argument("--only", default="", help="only mutants in whose file this text occurs")
    arguments = parser.parse_args()
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [
            row | {"killed_by": row.get("killed_by", ""), "why": row.get("why", "")} for row in csv.DictReader(file)
        ]
    chosen = [row for row in rows if arguments.only in row["file"]]
    trees: Queue[Path] = Queue()
    one_writes = Lock()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(arguments.jobs) as pool:
        for number in range(arguments.jobs):
            trees.put(copy_of_the_tree(Path(temporary) / str(number)))

        def run(row: dict[str, str]) -> None:
            tree = trees.get()
            try:
                judge(tree, row)
            finally:
                trees.put(tree)
            print(f"{row['killed_by'] or 'SURVIVES ' + row['why']}: {row['file']}: {row['after'].strip()}", flush=True)
            with one_writes, TABLE.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)

        list(pool.map(run, chosen))
    killed = sum(bool(row["killed_by"]) for row in chosen)
    told = sum(bool(row["why"]) and not row["killed_by"] for row in chosen)
    print(f"{killed} of {len(chosen)} mutants are killed, {told} survive for a reason that is told.")
    if killed + told < len(chosen):
        sys.exit(1)


if __name__ == "__main__":
    main()
