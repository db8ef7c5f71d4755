"""Training with checkpoints, and the pipeline, under faults at random: in the end, all is as if nothing had happened.

    python tests/nightly/chaos/chaos.py --minutes 10
    python tests/nightly/chaos/chaos.py --seed 3 --trials 1

A trial begins anew on a disk of its own. It is started, and a fault stops it, several times: SIGKILL at some moment, of the
process that was started or of all of its group; a disk that fills up; a disk that is read-only, or becomes so at some moment;
and before each start, the times of files jump back and forth by up to ten years, as with a wrong clock. Then it is started
without a fault, and what it made is compared byte by byte with a run that nothing disturbed. A fault may stop a run, but only
with a message. If a run ends before any fault has hit it, the trial is repeated, and faults at a moment come twice as early.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from disk import Disk, disk

from toy_pipeline import PATIENCE, Tree, ended, jobs

TRAINING = Path(__file__).parents[2] / "training" / "killed_run.py"
FAULTS = ("kill", "kill group", "full disk", "read-only disk", "disk becomes read-only")
MOST_ATTEMPTS = 30
DECADE = 10 * 365 * 24 * 3600  # seconds
TOLD = (
    "No space left on device",
    "File too large",
    "Read-only file system",
    "Permission denied",
)  # reasons in a message


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is disturbed.

    Attributes:
        name: in messages.
        prepare: puts what it needs on an empty disk.
        start: starts it on a disk, in a group of processes of its own.
        made: what it has made there, to be compared.
        said: what it said there the last time.
        room: the most bytes that a disk has left when it is said to be full: less than the subject needs.
        faults: what can happen to it. A disk cannot become read-only while files are open for writing, as logs of jobs are.
    """

    name: str
    prepare: Callable[[Disk], None]
    start: Callable[[Disk], subprocess.Popen]
    made: Callable[[Disk], dict[str, bytes]]
    said: Callable[[Disk], str]
    room: int
    faults: tuple[str, ...] = FAULTS


def training(programs: Path) -> Subject:
    """`fit` with checkpoints, evaluation, early stopping and the best weights. Compiled programs are kept in a folder."""

    def start(on: Disk) -> subprocess.Popen:
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(programs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [
            *on.prefix,
            sys.executable,
            str(TRAINING),
            str(on.path / "run"),
            str(on.path / "numbers"),
            "never",
            "0",
        ]
        with on.path.with_name("said").open("w") as said:
            return subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)

    def made(on: Disk) -> dict[str, bytes]:
        return {"numbers": (on.path / "numbers").read_bytes()}

    return Subject("training", lambda on: None, start, made, lambda on: on.path.with_name("said").read_text(), 60_000)


def pipeline() -> Subject:
    """The pipeline with four jobs, a figure, spikes of a data set, the page of figures and the manifest."""

    def prepare(on: Disk) -> None:
        Tree.new(on.path / "tree", jobs(a=0.2, b=0.2, c=0.2, d=0.2))

    def tree(on: Disk) -> Tree:
        return Tree(on.path / "tree", on.path.with_name("said"))

    def start(on: Disk) -> subprocess.Popen:
        return tree(on).start("figures/all", prefix=on.prefix, start_new_session=True)

    def made(on: Disk) -> dict[str, bytes]:
        folder = on.path / "tree"
        files = [file for name in ("results", "data/processed", "figures") for file in (folder / name).rglob("*")]
        # Dates and run times are in records, and on the page of figures, whose text is compared.
        kept = [file for file in files if file.is_file() and not file.name.endswith((".record.json", "index.html"))]
        return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(kept)}

    return Subject("pipeline", prepare, start, made, lambda on: tree(on).said(), 200_000, FAULTS[:4])


def undisturbed(subject: Subject, folder: Path) -> tuple[dict[str, bytes], float]:
    """What the subject makes if nothing happens, and how long it takes: the second time, when programs are compiled."""
    for number in range(2):
        with disk(folder / f"{subject.name}-{number}" / "disk") as on:
            subject.prepare(on)
            started = time.monotonic()
            code = ended(subject.start(on))
            assert code == 0, subject.said(on)
            found, seconds = subject.made(on), time.monotonic() - started
    return found, seconds


def trial(
    subject: Subject, folder: Path, seconds: float, whole: dict[str, bytes], chance: random.Random
) -> collections.Counter:
    """Attempts until one has been hit by a fault.

    Returns:
        How often each fault hit; at least one did.

    Raises:
        AssertionError: as in `attempt`, or none did in many attempts.
    """
    hits: collections.Counter = collections.Counter()
    for number in range(MOST_ATTEMPTS):
        hits += attempt(subject, folder / f"attempt-{number}", seconds, whole, chance)
        if any(hits[fault] for fault in FAULTS):
            return hits
        seconds /= 2  # the machine is faster than it was when the undisturbed run was timed
    raise AssertionError(f"No fault has hit {subject.name} in {MOST_ATTEMPTS} attempts: {dict(hits)}")


def attempt(
    subject: Subject, folder: Path, seconds: float, whole: dict[str, bytes], chance: random.Random
) -> collections.Counter:
    """Disturb a run some times, let it end, and compare.

    Args:
        subject: what is run.
        folder: where its disk is; empty, or not there.
        seconds: how long an undisturbed run takes; what comes at a moment comes within this time.
        whole: what an undisturbed run makes.
        chance: chooses faults and moments.

    Returns:
        How often each fault hit it. "none in time" counts runs that ended before their fault came.

    Raises:
        AssertionError: it ended in a way that it should not, or with other files than the undisturbed run.
    """
    hits: collections.Counter = collections.Counter()
    groups: list[int] = []
    with disk(folder / "disk") as on:
        subject.prepare(on)
        try:
            for fault in chance.choices(subject.faults, k=chance.randint(1, 4)):
                hits["clock jump"] += set_clocks(on.path, chance)
                code = disturb(subject, on, fault, seconds, chance, groups)
                hits[fault if code else "none in time"] += 1
                if code == 0:
                    break
            end_groups(groups)
            hits["clock jump"] += set_clocks(on.path, chance)
            run = subject.start(on)
            groups.append(run.pid)
            code = ended(run)
            assert code == 0, f"{dict(hits)}\n{subject.said(on)}"
            different = compared(subject.made(on), whole)
            assert not different, f"After {dict(hits)}: {different}\nIts last run said:\n{subject.said(on)}"
        finally:
            end_groups(groups)
    return hits


def disturb(subject: Subject, on: Disk, fault: str, seconds: float, chance: random.Random, groups: list[int]) -> int:
    """Start the subject with one fault, add its group of processes to `groups`, and return its exit status."""
    is_of_disk = "disk" in fault
    if is_of_disk:
        end_groups(groups)  # what killed processes have left still writes
    if fault == "full disk":
        on.leave(chance.randrange(subject.room))
    if fault == "read-only disk":
        on.lock()
    run = subject.start(on)
    groups.append(run.pid)
    if fault in AT_A_MOMENT:
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(chance.uniform(0, seconds))
        if run.poll() is None:
            AT_A_MOMENT[fault](run, on)
    code = ended(run)
    if is_of_disk:
        end_groups(groups)
        on.mend()
    said = subject.said(on)
    is_told = is_of_disk and any(reason in said for reason in TOLD)
    assert code == 0 or is_told or (code == -signal.SIGKILL and not is_of_disk), (
        f"{fault}: {code}, and it says:\n{said}"
    )
    return code


def lock(run: subprocess.Popen, on: Disk) -> None:
    """Make a disk read-only as soon as no file on it is open for writing, unless the run has ended before."""
    end = time.monotonic() + PATIENCE
    while run.poll() is None:
        try:
            return on.lock()
        except subprocess.CalledProcessError as error:
            if "busy" not in error.stderr or time.monotonic() > end:
                raise
        time.sleep(0.002)


AT_A_MOMENT: dict[str, Callable[[subprocess.Popen, Disk], None]] = {
    "kill": lambda run, on: os.kill(run.pid, signal.SIGKILL),
    "kill group": lambda run, on: os.killpg(run.pid, signal.SIGKILL),
    "disk becomes read-only": lock,
}


def set_clocks(folder: Path, chance: random.Random) -> int:
    """Give some of the files other times, now and then all of them; return how many."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    share = chance.choice((0, 0.2, 1))
    for file in (chosen := [file for file in files if chance.random() < share]):
        with contextlib.suppress(FileNotFoundError):  # removed by a job whose main process was killed
            when = time.time() + chance.uniform(-DECADE, DECADE)
            os.utime(file, (when, when))
    return len(chosen)


def end_groups(groups: list[int]) -> None:
    """End what killed processes have left running."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    for group in groups:
        for _ in range(100):  # the dead may stay in the table of processes for a while
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)


def compared(found: dict[str, bytes], whole: dict[str, bytes]) -> str:
    """The files that are not those of an undisturbed run, in words; empty if there is none."""
    kinds = {
        "missing": whole.keys() - found.keys(),
        "too many": found.keys() - whole.keys(),
        "different": {name for name in whole.keys() & found.keys() if whole[name] != found[name]},
    }
    return "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in kinds.items() if names)


def chaos(seed: int, minutes: float, trials: int | None, folder: Path) -> collections.Counter:
    """Trials of both subjects in turn, until the time is over or there were enough of them; return how often each fault hit."""
    chance = random.Random(seed)
    total: collections.Counter = collections.Counter()
    subjects = [training(folder / "programs"), pipeline()]
    known = {subject.name: undisturbed(subject, folder) for subject in subjects}
    end = time.monotonic() + 60 * minutes
    number = 0
    while number < trials if trials is not None else time.monotonic() < end:
        for subject in subjects:
            whole, seconds = known[subject.name]
            hits = trial(subject, folder / f"{subject.name}-trial-{number}", seconds, whole, chance)
            print(f"{subject.name} {number}: the same after {describe(hits)}", flush=True)
            total.update({f"{subject.name}, {fault}": times for fault, times in hits.items()})
            total[f"{subject.name}, trials"] += 1
        number += 1
    return total


def describe(hits: collections.Counter) -> str:
    return ", ".join(f"{fault} {times}" for fault, times in sorted(hits.items()) if times)


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("chaos", description=__doc__, formatter_class=form)
    parser.add_argument("--minutes", type=float, default=10, help="default: 10; a trial that has begun is finished")
    parser.add_argument("--trials", type=int, help="of each kind, in place of a time")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        total = chaos(options.seed, options.minutes, options.trials, Path(folder))
    for what, times in sorted(total.items()):
        print(f"{what}: {times}")


if __name__ == "__main__":
    main()
