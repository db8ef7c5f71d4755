"""Which sources of this repository a script consists of, and the digest of files.

A script stands for itself and for all that it imports, directly or indirectly: modules of ours one by one, our packages as a
whole, with the packages that their pyproject.toml names. Comments, docstrings and empty lines do not count, so mending them
makes no result older. What is found is kept for the rest of the process.
"""

import ast
import dataclasses
import hashlib
import inspect
import io
import itertools
import json
import re
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from types import MethodType
from typing import Any

ROOT = Path(__file__).parents[2]
OURS = ("experiments", "gallery", "benchmarks")
STANDARD = sys.stdlib_module_names
KNOWN = {"flax", "jax", "jaxlib", "numpy", "optax", "slax_data", "slax_neurons", "slax_rules", *STANDARD}


def sha256_of(path: Path) -> str | None:
    """The SHA-256 of a file, in hexadecimal digits; None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def digest_of_sources(*scripts: str) -> str:
    """The digest of the names and programs of all sources of scripts, which are paths below the root."""
    lines = [f"{name} {digest_of_program(ROOT / name)}" for name in code(*scripts)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_of_program(path: Path) -> str | None:
    """The SHA-256 of a source without comments, docstrings and empty lines, in hexadecimal digits; None if there is no file."""
    return hashlib.sha256(program_of(path.read_bytes()).encode()).hexdigest() if path.is_file() else None


def program_of(source: bytes) -> str:
    """The lines of a source without comments, docstrings and trailing spaces, those that are not empty then.

    The text itself is cut, since what `ast` prints differs between versions of Python.
    """
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented) and ast.get_docstring(node)]
    docstrings = {(node.body[0].lineno, node.body[0].col_offset) for node in nodes}
    lines = source.decode().split("\n")
    for token in reversed(list(tokenize.tokenize(io.BytesIO(source).readline))):
        (first, start), (last, end) = token.start, token.end
        is_docstring = token.type == tokenize.STRING and (first, len(token.line[:start].encode())) in docstrings
        if token.type == tokenize.COMMENT or is_docstring:
            lines[first - 1 : last] = [lines[first - 1][:start] + lines[last - 1][end:]]
    return "\n".join(line for line in map(str.rstrip, lines) if line)


@cache
def code(*scripts: str) -> tuple[str, ...]:
    """Scripts and all sources of ours that they import, directly or indirectly, as paths below the root.

    Importing anything from experiments runs experiments/__init__.py, which may put the stand-ins on the path.
    """
    found = {ROOT / script for script in scripts}
    if any(script.startswith("experiments/") for script in scripts):
        found |= {ROOT / "experiments/__init__.py", *ROOT.glob("experiments/common/stand_ins/*.py")}
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in with_imported(found, imported_by)))


def with_imported(files: set[Path], imported: Callable[[Path], Iterable[Path]]) -> set[Path]:
    """Files, and all that they import, directly or indirectly, where `imported` gives what a file imports itself."""
    found, waiting = set(files), list(files)
    while waiting:
        new = {*imported(waiting.pop())} - found
        found |= new
        waiting += new
    return found


@cache
def imported_by(file: Path) -> frozenset[Path]:
    """The sources of ours that a module of ours imports itself. For a file of a package, see `package`."""
    if not file.is_file() or file.is_relative_to(ROOT / "packages"):
        return frozenset()
    return frozenset(path for module in modules_of(file) for path in module_files(module))


def modules_of(file: Path) -> set[str]:
    """The names of all modules that a file may import, those of its own folder without the dot of a relative import."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level <= 1:
            above = node.module or ""
            modules |= {above, *(f"{above}.{alias.name}".lstrip(".") for alias in node.names)} - {""}
    return modules


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


# The tables to which a script or a package (`SLAX_IMPORTS`) adds, by what is in them: the module and the table.
TABLES = {
    "rule": ("slax_rules.registry", "RULES"),
    "neuron": ("slax_neurons", "NEURONS"),
    "data set": ("slax_data.datasets", "DATASETS"),
    "code": ("slax_data.encoding.encoders", "ENCODERS"),
}


@cache
def library(kind: str) -> dict[str, str]:
    """The entries, as text, that a table of the library has in its source, `TABLE: Named[...] = Named({"key": ...})`.

    They are read from there, since importing it would add seconds to each call of Snakemake.
    """
    module, table = TABLES[kind]
    path = ROOT.joinpath("packages", module.partition(".")[0].replace("_", "-"), "src", *module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    statements = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.AnnAssign)]
    (made,) = [node for node in statements if isinstance(node.target, ast.Name) and node.target.id == table]
    entries = next(node for node in ast.walk(made) if isinstance(node, ast.Dict))
    pairs = zip(entries.keys, entries.values, strict=True)
    return {str(key.value): ast.unparse(value) for key, value in pairs if isinstance(key, ast.Constant)}


def added(kind: str) -> dict[str, Any]:
    """The entries that were added to a table of the library."""
    module, table = TABLES[kind]
    entries = getattr(sys.modules[module], table) if module in sys.modules else {}
    return {name: entry for name, entry in entries.items() if name not in library(kind)}


def own_entries(settings: Any) -> dict[str, str]:
    """The digests of the added entries that settings name, by kind and name.

    A rule stands for its options and the sources of its class, and the others for the sources of their functions or classes.
    """
    named = json.dumps(settings)
    return {
        f"{kind} {name}": digest_of_entry(kind, name, entry)
        for kind in TABLES
        for name, entry in added(kind).items()
        if json.dumps(name) in named
    }


def digest_of_entry(kind: str, name: str, entry: Any) -> str:
    """The digest of an entry of a table, of the files of its classes and functions, and of the modules that these import.

    Raises:
        SystemExit: a class or a function that is in no file.
    """
    made = entry
    if kind == "rule":  # without its title
        made = (entry.rule, entry.route, entry.optimizer, dict(entry.options), entry.needs_rngs, entry.updates)
    files: set[Path] = set()
    for one in (base for part in parts_of(made) for base in getattr(part, "__mro__", (part,))):
        if one.__module__.partition(".")[0] in KNOWN:
            continue
        try:
            file = Path(str(inspect.getsourcefile(one)))
        except (OSError, TypeError):
            file = Path()
        if not file.is_file():
            raise SystemExit(
                f"Got the {kind} {name!r}, whose {one.__qualname__} is in no file, expected one: results are made again when "
                "it changes. Put it into a .py file."
            )
        files.add(file)
    of_files = sorted(f"{file.name} {digest_of_program(file)}" for file in with_imported(files, imported_beside))
    return hashlib.sha256("\n".join([json.dumps(made, default=plain), *of_files]).encode()).hexdigest()


def plain(made: Any) -> Any:
    """What stands for a function, an array or another object in a digest, in any process: its name, numbers and options."""
    if hasattr(made, "tobytes"):
        return [str(made.dtype), list(made.shape), made.tobytes().hex()]
    if isinstance(made, partial):
        return [made.func, made.args, made.keywords]
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        return [type(made).__qualname__, *(getattr(made, field.name) for field in dataclasses.fields(made))]
    return getattr(made, "__qualname__", type(made).__qualname__)


def parts_of(made: Any) -> Iterator[Any]:
    """The functions and classes that an entry consists of; of another object, its class."""
    for part in made if isinstance(made, tuple) else (made,):
        while isinstance(part, partial | MethodType):
            part = part.func if isinstance(part, partial) else part.__func__
        if isinstance(part, dict):
            yield from parts_of(tuple(part.values()))
        else:
            part = inspect.unwrap(part)
            yield part if hasattr(part, "__qualname__") else type(part)


def imported_beside(file: Path) -> Iterator[Path]:
    """The modules that a file of the user imports itself, without those of other installed packages."""
    for module in modules_of(file):
        parts = module.split(".")
        if parts[0] in {*OURS, *STANDARD} or parts[0].startswith("slax_"):
            continue
        imported = getattr(sys.modules.get(module), "__file__", None)
        path = file.parent.joinpath(*parts)
        candidates = [Path(imported)] if imported else [path.with_suffix(".py"), path / "__init__.py"]
        yield from (one for one in candidates if one.is_file() and installed_as(one) in (None, installed_as(file)))


def installed_as(file: Path) -> str | None:
    """The installed package that a file belongs to; None for a file in a folder of the user."""
    pairs = itertools.pairwise(file.parts)
    return next((name for above, name in pairs if above in ("site-packages", "dist-packages")), None)
