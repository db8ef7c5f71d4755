"""Recording references again: what counts as equal, that each recorded file has a recorder, and that a change fails."""

import subprocess
import sys

import numpy as np
import pytest

from recorders import compare

ARRAY = np.array([1.0, -2.0, 0.0])
CASES = [
    ({"a": ARRAY}, "bit-equal"),
    ({"a": np.nextafter(ARRAY, 9)}, "equal to rounding: a by 1 units"),
    ({"a": ARRAY * [1, 1, -1]}, "equal to rounding"),  # 0 and -0
    ({"a": ARRAY * (1 + 1e-6)}, "changed: a by"),
    ({"a": ARRAY.astype(np.float32)}, "changed: a by inf"),
    ({"a": ARRAY * [1, 1, np.nan]}, "changed: a by inf"),
    ({"a": ARRAY, "b": ARRAY}, "changed: only one has b"),
]
SCRIPT = "import shutil, sys; shutil.copy(sys.argv[1], 'made.npz')"


@pytest.mark.parametrize(("made", "outcome"), CASES)
def test_outcome_is_by_the_bits_then_by_rounding(tmp_path, made, outcome):
    np.savez(tmp_path / "old.npz", a=ARRAY)
    np.savez(tmp_path / "new.npz", **made)
    assert compare.compared(tmp_path / "old.npz", tmp_path / "new.npz").startswith(outcome)


def test_each_reference_of_other_code_has_one_recorder():
    folders = ("references/otpe", "nightly/published/data", "nightly/coming_from/data", "neurons/data")
    files = {file for folder in folders for file in (compare.ROOT / "tests" / folder).rglob("*.npz")}
    files |= {compare.ROOT / "tests" / name for name in ("experiments/original_demo.npz", "data/upstream_randman.npz")}
    recorded = [file for row in compare.recorders().values() for file in compare.ROOT.glob(row["recorded"])]
    assert sorted(recorded) == sorted(files)


def test_a_change_or_a_failure_fails_and_nothing_else(tmp_path, monkeypatch, capsys):
    """With a script in a repository of its own, which copies a file."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/script.py").write_text(SCRIPT)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").touch()
    names = {"same": ARRAY, "other": ARRAY + 1}
    for name, array in {"tests/made": ARRAY, **names}.items():
        np.savez(tmp_path / f"{name}.npz", a=array)
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    row = {"script": "HEAD:tests/script.py", "runs": sys.executable, "recorded": "tests/made.npz", "made": ""}
    rows = {name: row | {"arguments": f"{tmp_path}/{name}.npz", "sources": ""} for name in (*names, "missing")}
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    monkeypatch.setattr(compare, "recorders", lambda: rows)
    said = {
        "same": "bit-equal",
        "other": "changed: a by",
        "missing": "failed: FileNotFoundError",
    }
    for name, outcome in said.items():
        with pytest.raises(SystemExit) as ended:
            compare.main(name, "same")
        assert ended.value.code is (name in ("other", "missing")) and f" | {outcome}" in capsys.readouterr().out
    assert np.load(tmp_path / "tests/made.npz")["a"].tolist() == ARRAY.tolist()
