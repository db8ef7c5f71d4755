"""Recording references again: what counts as equal, that each recorded file has a recorder, and that a change fails."""

import io
import subprocess
import sys
import tarfile

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


def test_authors_code_is_downloaded_once_as_a_whole_or_by_file(tmp_path, monkeypatch):
    packed, content = io.BytesIO(), b"theirs"
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("b-c1/code.py")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    answers = {
        "https://codeload.github.com/a/b/tar.gz/c1": packed.getvalue(),
        "https://raw.githubusercontent.com/a/b/c2/x.py": content,
        "https://raw.githubusercontent.com/a/b/c3/y.py": content,
    }
    monkeypatch.setattr(compare, "SOURCES", tmp_path)
    monkeypatch.setattr(compare.urllib.request, "urlopen", lambda url, **_: io.BytesIO(answers.pop(url)))
    for _ in range(2):
        assert (compare.authors_code("a/b", "@c1") / "code.py").read_bytes() == content
        folder = compare.authors_code("a/b", "x.py@c2", "y.py@c3")
        assert (folder / "x.py").read_bytes() == (folder / "y.py").read_bytes() == content
    assert not answers


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
    rows["not had"] = rows["same"] | {"sources": "a/b @c"}
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    monkeypatch.setattr(compare, "SOURCES", tmp_path / "sources")
    monkeypatch.setattr(compare, "recorders", lambda: rows)
    monkeypatch.setattr(compare.urllib.request, "urlopen", lambda *_, **__: (tmp_path / "none").open())
    said = {
        "same": "bit-equal",
        "other": "changed: a by",
        "missing": "failed: FileNotFoundError",
        "not had": "not run: a/b @c",
    }
    for name, outcome in said.items():
        with pytest.raises(SystemExit) as ended:
            compare.main(name, "same")
        assert ended.value.code is (name in ("other", "missing")) and f" | {outcome}" in capsys.readouterr().out
    assert np.load(tmp_path / "tests/made.npz")["a"].tolist() == ARRAY.tolist()
