"""The pipeline where the machine is not as usual: no home folder, a locale of ASCII alone, a file system without locks."""

import os
import subprocess

import pytest

pytestmark = pytest.mark.slow

WITHOUT_LOCKS = """
import errno, fcntl, os


def flock(*arguments):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


fcntl.flock = flock
"""
DRAWN = [f"figures/quick/gradient_similarity.{form}" for form in ("csv", "png", "svg")]


def drawn_again(tree, **environment):
    """The exit status, the messages and the figures, made again with other variables of the environment; None removes one."""
    changed = {name: value for name, value in (tree.environment() | environment).items() if value is not None}
    for file in DRAWN:
        (tree.path / file).unlink()
    command = ["snakemake", DRAWN[0], "--forcerun", "gradient_similarity_figures"]
    done = subprocess.run(command, cwd=tree.path, env=changed, text=True, capture_output=True, timeout=300)
    return (
        done.returncode,
        done.stderr,
        [(tree.path / file).read_bytes() for file in DRAWN if (tree.path / file).exists()],
    )


@pytest.fixture
def figures(tree):
    return [(tree.path / file).read_bytes() for file in DRAWN]


def test_without_a_home_folder(tree, figures):
    code, said, drawn = drawn_again(tree, HOME=None)
    assert code == 0, said
    assert drawn == figures


def test_with_a_home_folder_that_cannot_be_made_and_a_locale_of_ascii(tree, figures, tmp_path):
    """As docs/faults.md says, Snakemake's cache needs another place then."""
    code, said, _ = drawn_again(tree, HOME="/proc/none")
    assert code != 0 and "/proc/none" in said
    for file, content in zip(DRAWN, figures, strict=True):
        (tree.path / file).write_bytes(content)
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, said, drawn = drawn_again(tree, HOME="/proc/none", XDG_CACHE_HOME=str(tmp_path / "cache"), **ascii_alone)
    assert code == 0, said
    assert drawn == figures


def test_on_a_file_system_without_locks(tree, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_LOCKS)
    environment = tree.environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    command = ["snakemake", "figures/all", "--dry-run"]
    done = subprocess.run(command, cwd=tree.path, env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr
