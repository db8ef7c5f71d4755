"""Which sources a script consists of, and digests of files.

The digest of a Python file is taken without comments, strings that stand alone (docstrings) and blank lines: an edit of these
changes no result. The digest of any other file is that of its bytes.
"""

import ast
import hashlib
import io
import json
import tokenize
from pathlib import Path
from typing import NamedTuple

from experiments.common.result_files import atomic_write

ROOT = Path(__file__).parents[2]
KNOWN = Path(
    ".snakemake/sources.json"
)  # what was found in sources, by their bytes: to parse all of them takes a second
OURS = ("experiments", "gallery", "benchmarks")
OUTSIDE = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


class Source(NamedTuple):
    """What matters in a Python file: the digest of its code, and the modules of ours that it imports."""

    digest: str
    imports: list[str]


class Sources:
    """The files of a checkout, each read once: later changes are not seen by the same object."""

    def __init__(self, root: Path = ROOT):
        self.root = root
        known = root / KNOWN
        self._known = {
            digest: Source(*source)
            for digest, source in (json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}).items()
        }
        self._used: dict[str, Source] = {}
        self._bytes: dict[Path, str | None] = {}
        self._code: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._imported: dict[Path, list[Path]] = {}
        self._packages: dict[str, list[Path]] = {}

    def sha256(self, path: Path) -> str | None:
        """The digest of a file's bytes; None if there is no such file."""
        if path not in self._bytes:
            self._bytes[path] = sha256_of(path) if path.is_file() else None
        return self._bytes[path]

    def digest(self, path: Path) -> str | None:
        """The digest of a file, for a Python file that of its code; None if there is no such file."""
        if path.suffix != ".py" or not path.is_file():
            return self.sha256(path)
        return self._source(path).digest

    def code(self, *scripts: str) -> tuple[str, ...]:
        """Scripts and all sources of ours that they import, directly or indirectly, as paths below the root.

        Importing anything from experiments runs experiments/__init__.py, which may put the stand-ins on the path.
        """
        if scripts not in self._code:
            files = dict.fromkeys(self.root / script for script in scripts)
            if any(script.startswith("experiments/") for script in scripts):
                stand_ins = sorted(self.root.glob("experiments/common/stand_ins/*.py"))
                files |= dict.fromkeys([self.root / "experiments/__init__.py", *stand_ins])
            waiting = list(files)
            while waiting:
                new = [file for file in self._imports(waiting.pop(0)) if file not in files]
                files |= dict.fromkeys(new)
                waiting += new
            self._code[scripts] = tuple(sorted(file.relative_to(self.root).as_posix() for file in files))
        return self._code[scripts]

    def remember(self) -> None:
        """Keep what was found in the sources for the next object, which then has to parse only what changed."""
        content = json.dumps(self._used, sort_keys=True)
        file = self.root / KNOWN
        if not file.exists() or file.read_text(encoding="utf-8") != content:
            with atomic_write(file) as aside:
                aside.write_text(content, encoding="utf-8")

    def _source(self, path: Path) -> Source:
        digest = self.sha256(path)
        assert digest is not None
        if digest not in self._used:
            self._used[digest] = self._known.get(digest) or source_of(path.read_text(encoding="utf-8"))
        return self._used[digest]

    def _imports(self, file: Path) -> list[Path]:
        """The sources of ours that a source imports itself: of a package of ours, all of them."""
        if file not in self._imported:
            modules = self._source(file).imports if file.is_file() else []
            found = dict.fromkeys(path for module in modules for path in self._module(module))
            self._imported[file] = list(found)
        return self._imported[file]

    def _module(self, module: str) -> list[Path]:
        """The files of a module."""
        package, *names = module.split(".")
        if package.startswith("slax_"):
            if package not in self._packages:
                self._packages[package] = sorted(self.root.glob(f"packages/*/src/{package}/**/*.py"))
            return self._packages[package]
        found = self.root.joinpath(package, *names)
        return [path for path in (found.with_suffix(".py"), found / "__init__.py") if path.is_file()]


def source_of(text: str) -> Source:
    """What matters in a Python source."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    ours = [name for name in modules if name.startswith("slax_") or name.split(".")[0] in OURS]
    return Source(hashlib.sha256(normalized(text).encode()).hexdigest(), sorted(set(ours)))


def normalized(text: str) -> str:
    """A Python source without comments, strings that stand alone, and blank lines.

    Only the positions of tokens are used, which are the same in all versions of Python, unlike its trees of syntax.
    """
    kept: set[int] = set()
    cuts: dict[int, int] = {}
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    visible = [token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]
    alone = {
        token.start
        for before, token, after in zip([None, *visible], visible, visible[1:], strict=False)
        if token.type == tokenize.STRING
        and "f" not in token.string.lower().split(token.string[-1])[0]
        and (before is None or before.type in OUTSIDE)
        and after.type == tokenize.NEWLINE
    }
    for token in tokens:
        if token.type == tokenize.COMMENT:
            cuts[token.start[0]] = token.start[1]
        elif token.type not in OUTSIDE and token.start not in alone:
            kept.update(range(token.start[0], token.end[0] + 1))
    lines = text.split("\n")
    return "\n".join(
        lines[number - 1][: cuts[number]].rstrip() if number in cuts else lines[number - 1] for number in sorted(kept)
    )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
