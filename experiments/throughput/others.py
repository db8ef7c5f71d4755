"""What other programs take of the processor while times are measured: a run on a busy machine is not a result."""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")  # where Linux counts the time of all programs since it was started
PAUSE = 1.0  # seconds of looking before a run


class Others:
    """A watch on the processor time of all programs except this one and its child processes, which have to have ended."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), other_seconds()

    def cores(self) -> float | None:
        """How many cores the others have used on average since the watch was made; None where nothing counts them."""
        (then, before), now, seconds = self.start, time.perf_counter(), other_seconds()
        return None if seconds is None or before is None else max(0.0, seconds - before) / (now - then)


def cores_before() -> float | None:
    """How many cores the others use while we wait for `PAUSE` seconds."""
    watch = Others()
    time.sleep(PAUSE)
    return watch.cores()


def check(cores: float | None, most: float | None, when: str) -> None:
    """Stop if the others have used more than `most` cores; None for either of them allows anything."""
    if cores is not None and most is not None and cores > most:
        raise SystemExit(
            f"throughput: got a machine on which other programs use {cores:.2f} cores {when}, expected at most {most:g}. Stop "
            "them and run it again; or give --set others_at_most=CORES --results FOLDER, for times that are kept apart."
        )


def other_seconds() -> float | None:
    """How long the cores that we may use were busy, in other virtual machines too, without this process and its children."""
    if not STAT.exists():
        return None
    ours, ticks = {f"cpu{core}" for core in os.sched_getaffinity(0)}, 0
    for name, *counts in map(str.split, STAT.read_text().splitlines()):
        if name in ours:
            user, nice, system, _idle, _waiting, irq, softirq, steal, *_guests = map(int, counts)
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])
