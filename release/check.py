"""Check that the packages can be released: `make release-check`.

Wheels and source distributions are built twice, with the same bytes; their metadata are checked by twine and
check-wheel-contents; each wheel is installed into an empty environment of its own, with the other wheels at hand but no file of
this repository, and runs the first example of its page. Version, tag and changelogs have to agree.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release.version import PACKAGES, ROOT, version_of

TIME = "1767225600"  # 2026-01-01: the time of all files in the archives
# What the examples need in addition to the package and its dependencies.
EXAMPLES_NEED = {
    "slax-data": ["scikit-learn"],
    "slax-viz": ["flax", "optax", "slax-neurons", "slax-rules"],
    "slax-rules": [],
    "slax-neurons": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        "release.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the archives are left; default: dist")
    parser.add_argument("--tools", type=Path, required=True, help="the bin folder with twine and check-wheel-contents")
    options = parser.parse_args()
    version = version_of()
    check_versions(version)
    shutil.rmtree(options.dist, ignore_errors=True)
    with tempfile.TemporaryDirectory() as again:
        archives = build(options.dist)
        other = build(Path(again))
        for one, two in zip(archives, other, strict=True):
            if digest(one) != digest(two):
                raise SystemExit(f"{one.name} has other bytes when it is built again.")
    wheels = [archive for archive in archives if archive.suffix == ".whl"]
    run(options.tools / "twine", "check", "--strict", *archives)
    run(options.tools / "check-wheel-contents", *wheels)
    for package in PACKAGES:
        check_installed(package, options.dist, version)
    print(f"Version {version} can be released: {', '.join(archive.name for archive in archives)}")


def check_versions(version: str) -> None:
    """Stop unless packages, changelogs, and the tag of the commit if it has one, are about this version."""
    for package in PACKAGES:
        if version_of(package) != version:
            raise SystemExit(
                f"{package.name} has the version {version_of(package)}, expected {version}: python -m release.version"
            )
        first = re.search(
            r"^## (\S+), (\d{4}-\d{2}-\d{2})$",
            (package / "CHANGELOG.md").read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
        if not first or first[1] != version:
            raise SystemExit(f"{package.name}/CHANGELOG.md does not begin with a section '## {version}, YYYY-MM-DD'.")
    tags = run("git", "tag", "--points-at", "HEAD", "v*").split()
    if tags and tags != [f"v{version}"]:
        raise SystemExit(f"The commit has the tag {', '.join(tags)}, expected v{version}.")


def build(folder: Path) -> list[Path]:
    """The wheels and source distributions of all packages."""
    for package in PACKAGES:
        run("uv", "build", "-q", "--no-build-isolation", "--out-dir", folder, package, SOURCE_DATE_EPOCH=TIME)
    return sorted(path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz")))


def check_installed(package: Path, dist: Path, version: str) -> None:
    """Install a wheel into an empty environment and run the first example of the package's page there."""
    module = package.name.replace("-", "_")
    (example,) = re.findall(
        r"```python\n(.*?)```", (package / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )[:1]
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        python = Path(folder) / "bin" / "python"
        wanted = [f"{package.name}=={version}", *EXAMPLES_NEED[package.name]]
        locked = Path(folder) / "constraints.txt"
        lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
        locked.write_text("\n".join(line.removesuffix(" \\") for line in lines if not line.startswith("    ")))
        run("uv", "pip", "install", "-q", "--python", python, "--find-links", dist, "--constraint", locked, *wanted)
        found = run(
            python,
            "-I",
            "-c",
            f"import {module}, importlib.metadata as m; print({module}.__file__, m.version({package.name!r}))",
            cwd=folder,
        )
        if not found.startswith(folder) or not found.strip().endswith(version):
            raise SystemExit(
                f"{package.name} was imported as {found.strip()}, expected the wheel of version {version}."
            )
        run(python, "-I", "-c", example, cwd=folder, JAX_PLATFORMS="cpu", MPLBACKEND="agg")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(*command: str | Path, cwd: str | Path = ROOT, **environment: str) -> str:
    """The output of a command; if it fails, the program stops with what it said."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
