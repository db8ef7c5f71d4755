"""Training with checkpoints, and the pipeline, are stopped at random, and what they make is as if nothing had happened.

    TRIALS=20 pytest tests/nightly/test_chaos.py

A trial is on a disk in memory. Faults stop a run: SIGKILL at some moment, of the process that was started or of all of its
group; a disk that fills up. Then the run is started without a fault, and what it made is compared byte by byte with what an
undisturbed run makes.
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
FAULTS = ("kill", "kill group", "full disk")
ROOM = {"training": 60_000, "pipeline": 200_000}  # less than it needs, in bytes


def mount(*arguments):
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    with contextlib.suppress(FileNotFoundError):  # no sudo
        return subprocess.run([*sudo, *arguments], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("mount", "-t", "tmpfs", "-o", "size=1g,mode=777", "chaos", folder):
        pytest.skip("no file system in memory can be mounted here")
    yield folder
    mount("umount", "--lazy", folder)


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


def kill(run, group):
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(run.pid, signal.SIGKILL)


@pytest.mark.parametrize("trial", range(int(os.environ.get("TRIALS", "1"))))
@pytest.mark.parametrize("subject", ["training", "pipeline"])
def test_what_is_made_under_faults_is_what_is_made_without(subject, trial, disk, tmp_path):
    chance, whole, said, hits = random.Random(trial), tmp_path / "whole/disk", disk.with_name("said"), []
    whole.mkdir(parents=True)
    for folder in (whole, disk) if subject == "pipeline" else ():
        Tree.new(folder / "tree", jobs(a=0.2, b=0.2, c=0.2, d=0.2))
    began = time.monotonic()
    assert ended(start(subject, whole)) == 0, whole.with_name("said").read_text()
    seconds = time.monotonic() - began
    for fault in chance.sample(FAULTS, k=len(FAULTS)):
        if fault == "full disk":
            size = shutil.disk_usage(disk).used + chance.randrange(ROOM[subject])
            assert mount("mount", "-o", f"remount,size={size}", disk)
        run = start(subject, disk)
        if fault != "full disk":
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(timeout=chance.uniform(0.2, 0.7) * seconds)
            kill(run, fault == "kill group")
        if code := ended(run):
            hits.append(fault)
            is_full = "No space left on device" in said.read_text()
            assert is_full if fault == "full disk" else code == -signal.SIGKILL, f"{hits}: {code}\n{said.read_text()}"
        kill(run, group=True)  # what the killed one has left running
        assert mount("mount", "-o", "remount,size=1g", disk)
    assert ended(start(subject, disk)) == 0, f"{hits}\n{said.read_text()}"
    assert hits and made(disk) == made(whole), f"After {hits}, its last run said:\n{said.read_text()}"
