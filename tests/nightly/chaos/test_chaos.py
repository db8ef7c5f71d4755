"""A short form of `chaos.py`: training and the pipeline are disturbed at random, and end as if they had not been."""

import random
import subprocess
import sys

import pytest
from chaos import FAULTS, Subject, chaos, compared, trial
from disk import disk

from slax_rules import Checkpoints


@pytest.mark.slow
def test_what_is_made_under_faults_is_what_is_made_without(tmp_path):
    hits = chaos(seed=0, minutes=0, trials=1, folder=tmp_path)
    for subject in ("training", "pipeline"):
        assert hits[f"{subject}, trials"] == 1
        assert any(hits[f"{subject}, {fault}"] for fault in FAULTS)


def test_a_trial_is_repeated_with_earlier_kills_until_a_fault_has_hit(tmp_path):
    """The subject ends after 0.2 seconds, and the kill of the first attempt comes after 30."""
    program = "import sys, time; time.sleep(0.2); open(sys.argv[1], 'w').write('made')"

    def start(on):
        command = [*on.prefix, sys.executable, "-c", program, str(on.path / "file")]
        return subprocess.Popen(command, start_new_session=True)

    def made(on):
        return {"file": (on.path / "file").read_bytes()}

    subject = Subject("sleeper", lambda on: None, start, made, lambda on: "", room=1)
    hits = trial(subject, tmp_path, 60.0, {"file": b"made"}, Chooses("kill"))
    assert hits["none in time"] >= 1
    assert hits["kill"] == 1


def test_a_disk_becomes_read_only_as_soon_as_no_file_is_open_and_the_run_says_why_it_ends(tmp_path):
    """The subject holds a file open for half a second, and makes another one after it, for as long as it can."""
    with disk(tmp_path / "disk") as on:
        if on.name == "a folder":
            pytest.skip("a folder has no files that keep it from becoming read-only")
    program = (
        "import sys, time\n"
        "for index in range(20):\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        time.sleep(0.5 if index == 0 else 0.05)\n"
        "        file.write('made')\n"
        "    time.sleep(0.05)\n"
    )

    def start(on):
        with on.path.with_name("said").open("w") as said:
            return subprocess.Popen(
                [sys.executable, "-c", program, str(on.path / "file")], stderr=said, start_new_session=True
            )

    def made(on):
        return {"file": (on.path / "file").read_bytes()}

    def said(on):
        return on.path.with_name("said").read_text()

    subject = Subject("writer", lambda on: None, start, made, said, room=1)
    hits = trial(subject, tmp_path / "trial", 0.4, {"file": b"made"}, Chooses("disk becomes read-only"))
    assert hits["disk becomes read-only"] == 1


class Chooses(random.Random):
    """Chooses one fault, in the middle of the time."""

    def __init__(self, fault):
        super().__init__(0)
        self.fault = fault

    def choices(self, population, *, k):
        return [self.fault]

    def uniform(self, a, b):
        return (a + b) / 2


def test_a_disk_is_full_or_read_only_as_long_as_it_is_said_to_be(tmp_path):
    """With the program of a user who may not mount anything, a process of its own is limited; this is about the other one."""
    with disk(tmp_path / "disk") as on:
        if on.name == "a folder":
            pytest.skip("no file system in memory can be mounted here")
        file = on.path / "file"
        file.write_bytes(b"1" * 100_000)
        on.leave(50_000)
        with pytest.raises(OSError, match="No space left on device"):
            (on.path / "other").write_bytes(b"1" * 100_000)
        on.lock()
        with pytest.raises(OSError, match="Read-only file system"):
            (on.path / "third").touch()
        on.mend()
        (on.path / "other").write_bytes(b"1" * 100_000)
        assert file.read_bytes() == b"1" * 100_000
    assert not any((tmp_path / "disk").iterdir())


def test_fit_on_a_read_only_disk_ends_at_once_with_the_reason(tmp_path):
    with disk(tmp_path / "disk") as on:
        if on.name == "a folder":
            pytest.skip("root may write into read-only folders, and no file system in memory can be mounted here")
        (on.path / "run").mkdir()
        on.lock()
        with (
            pytest.raises(OSError, match=r"Checkpoints could not be written to .*/run: Read-only file system\. Make"),
            Checkpoints(on.path / "run").open({}),
        ):
            pass


def test_what_differs_is_told():
    whole = {"a": b"1", "b": b"1", "c": b"1"}
    assert compared(dict(whole), whole) == ""
    assert compared({"a": b"1", "b": b"2", "d": b"1"}, whole) == "missing: c; too many: d; different: b"
