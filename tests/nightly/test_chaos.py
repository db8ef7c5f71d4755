"""Training with checkpoints, and the pipeline, are stopped at random, and what they make is as if nothing had happened.

    TRIALS=20 pytest tests/nightly/test_chaos.py

A trial begins on a new disk, a file system in memory. Faults stop a run: SIGKILL at some moment, of the process that was
started or of all of its group; a disk that fills up; a read-only disk. Before each start, the times of files jump by up to ten
years, as with a wrong clock. A fault of the disk has to be told. Then the run is started without a fault, and what it made is
compared byte by byte with what an undisturbed run makes.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from toy_pipeline import ROOT, Tree, ended, jobs

KILLED_RUN = ROOT / "tests/training/killed_run.py"
TRIALS = int(os.environ.get("TRIALS", "1"))
SUDO = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
FAULTS = ("kill", "kill group", "full disk", "read-only disk")
TOLD = ("No space left on device", "Read-only file system")
ROOM = {"training": 60_000, "pipeline": 200_000}  # less than it needs, in bytes
DECADE = 10 * 365 * 24 * 3600  # seconds


def mount(*arguments):
    return subprocess.run([*SUDO, "mount", *arguments], capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if (SUDO and not shutil.which("sudo")) or mount(
        "-t", "tmpfs", "-o", "size=1g,mode=777", "chaos", folder
    ).returncode:
        pytest.skip("no file system in memory can be mounted here")
    yield folder
    subprocess.run([*SUDO, "umount", "--lazy", folder], check=True)


def remount(disk, options):
    done = mount("-o", f"remount,{options}", disk)
    assert done.returncode == 0, done.stderr


def prepare(subject, folder):
    folder.mkdir(parents=True, exist_ok=True)
    if subject == "pipeline":
        Tree.new(folder / "tree", jobs(a=0.2, b=0.2, c=0.2, d=0.2))


def start(subject, folder):
    """Begins to train, or to run the pipeline, in a group of processes of its own. What it says is in a file beside."""
    said = folder.with_name("said")
    if subject == "pipeline":
        return Tree(folder / "tree", said).start("figures/all", start_new_session=True)
    command = [sys.executable, KILLED_RUN, "0", folder / "run", folder / "numbers"]
    with said.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def made(folder):
    """The numbers of the training, or the files of the pipeline, but for records and pages that have dates or run times."""
    parts = ("numbers", "tree/results/**/*", "tree/data/processed/**/*", "tree/figures/**/*")
    files = [file for part in parts for file in folder.glob(part) if file.is_file()]
    dated = (".record.json", "index.html", "RESULTS.md")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if not file.name.endswith(dated)}


def files_in(folder):
    return {f"{at}/{name}" for at, _, names in os.walk(folder) for name in names}


def new_files(run, folder, number=float("inf")):
    """Waits until a run has made so many files, or has ended. Returns how many it has made."""
    before = files_in(folder)
    seen = set(before)
    while run.poll() is None and len(seen - before) < number:
        seen |= files_in(folder)
        time.sleep(0.02)
    return len(seen - before)


def set_clocks(folder, chance):
    share = chance.choice((0, 0.2, 1))
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink() and chance.random() < share:
            when = time.time() + chance.uniform(-DECADE, DECADE)
            os.utime(file, (when, when))


def end(runs):
    """Ends what killed processes have left running."""
    for run in runs:
        with contextlib.suppress(ProcessLookupError):
            for _ in range(100):  # the dead may stay in the table of processes for a while
                os.killpg(run.pid, signal.SIGKILL)
                run.poll()
                time.sleep(0.05)
    runs.clear()


def disturbed(subject, disk, fault, most, chance):
    """A run with a fault. A kill comes while it makes the first quarter of so many files, so that others still hit."""
    if fault == "full disk":
        remount(disk, f"size={shutil.disk_usage(disk).used + chance.randrange(ROOM[subject])}")
    if fault == "read-only disk":
        remount(disk, "ro")
    run = start(subject, disk)
    if "kill" in fault:
        new_files(run, disk, chance.randrange(most // 4 + 1))
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if fault == "kill group" else os.kill)(run.pid, signal.SIGKILL)
    return run


@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("subject", ["training", "pipeline"])
def test_what_is_made_under_faults_is_what_is_made_without(subject, trial, disk, tmp_path):
    chance, hits, runs = random.Random(trial), [], []
    whole, said = tmp_path / "whole" / "disk", disk.with_name("said")
    prepare(subject, whole)
    prepare(subject, disk)
    run = start(subject, whole)
    most = new_files(run, whole)
    assert ended(run) == 0, whole.with_name("said").read_text()
    for fault in chance.sample(FAULTS, k=len(FAULTS)):
        if "disk" in fault or chance.random() < 0.5:  # else what a kill has left goes on beside this run
            end(runs)
        run = disturbed(subject, disk, fault, most, chance)
        runs.append(run)
        if code := ended(run):
            hits.append(fault)
            is_told = any(reason in said.read_text() for reason in TOLD)
            assert is_told if "disk" in fault else code == -signal.SIGKILL, f"{hits}: {code}\n{said.read_text()}"
        if "disk" in fault:
            end(runs)
            remount(disk, "rw,size=1g")
        set_clocks(disk, chance)
    end(runs)
    run = start(subject, disk)
    assert ended(run) == 0, f"{hits}\n{said.read_text()}"
    print(subject, trial, hits)
    assert hits and made(disk) == made(whole), f"After {hits}, its last run said:\n{said.read_text()}"
