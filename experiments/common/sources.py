"""Which sources of this repository a script consists of, and the digest of files.

A script stands for itself and for all that it imports, directly or indirectly: modules of ours one by one, our packages as a
whole, with the packages that their pyproject.toml names. What is found is kept for the rest of the process.
"""

import ast
import hashlib
import re
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = ("experiments", "gallery", "benchmarks")


def sha256_of(path: Path) -> str | None:
    """The SHA-256 of a file, in hexadecimal digits; None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def digest_of_sources(*scripts: str) -> str:
    """The digest of the names and contents of all sources of scripts, which are paths below the root."""
    lines = [f"{name} {sha256_of(ROOT / name)}" for name in code(*scripts)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def code(*scripts: str) -> tuple[str, ...]:
    """Scripts and all sources of ours that they import, directly or indirectly, as paths below the root.

    Importing anything from experiments runs experiments/__init__.py, which may put the stand-ins on the path.
    """
    found = {ROOT / script for script in scripts}
    if any(script.startswith("experiments/") for script in scripts):
        found |= {ROOT / "experiments/__init__.py", *ROOT.glob("experiments/common/stand_ins/*.py")}
    waiting = list(found)
    while waiting:
        new = imported_by(waiting.pop()) - found
        found |= new
        waiting += new
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in found))


@cache
def imported_by(file: Path) -> frozenset[Path]:
    """The sources of ours that a module of ours imports itself. For a file of a package, see `package`."""
    if not file.is_file() or file.is_relative_to(ROOT / "packages"):
        return frozenset()
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(path for module in modules for path in module_files(module))


def module_files(module: str) -> frozenset[Path]:
    """The files of a module of ours, and of the folders that Python runs before it; none if it is not ours."""
    name, *names = module.split(".")
    if name.startswith("slax_"):
        return package(name.replace("_", "-"))
    if name not in OURS:
        return frozenset()
    path = ROOT.joinpath(name, *names)
    above = [ROOT.joinpath(name, *names[:number], "__init__.py") for number in range(len(names) + 1)]
    return frozenset(path for path in (path.with_suffix(".py"), *above) if path.is_file())


@cache
def package(name: str) -> frozenset[Path]:
    """All sources of a package of ours, and of the packages of ours that it needs."""
    folder = ROOT / "packages" / name
    if not folder.is_dir():
        return frozenset()
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {match[0] for text in project["dependencies"] if (match := re.match(r"slax-\w+", text))}
    return frozenset(folder.glob("src/**/*.py")).union(*map(package, needed))
