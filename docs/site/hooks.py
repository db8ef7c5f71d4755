"""Add to the site what is elsewhere in the repository: pages of packages and experiments, and the API reference."""

import ast
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGES = ("slax_neurons", "slax_rules", "slax_data", "slax_viz")
PLACES = ("*.md", "docs/**/*.md", "packages/*/*.md", "experiments/*/README.md", "gallery/README.md")
FENCE = re.compile(r"^(```.*?^```)", flags=re.DOTALL | re.MULTILINE)


def page_of(path: str) -> str:
    """The name in the site of a Markdown file of the repository."""
    folder, name = posixpath.split(path)
    if name == "README.md":
        return f"{folder}.md" if folder else "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else posixpath.join(folder, name.lower())


PAGES = {
    path: page_of(path)
    for place in PLACES
    for path in sorted(file.relative_to(ROOT).as_posix() for file in ROOT.glob(place))
}
PATHS = {name: path for path, name in PAGES.items()}


def public_names(package: str, module: str = "__init__") -> list[str]:
    """What a package, or a module of it, lists in `__all__`, or else imports."""
    (file,) = ROOT.glob(f"packages/*/src/{package}/{module}.py")
    names = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.names[0].name == "*":
            names += public_names(package, node.module.removeprefix(f"{package}.").replace(".", "/"))
        elif isinstance(node, ast.ImportFrom):
            names += [alias.name for alias in node.names if not (alias.asname or alias.name).startswith("_")]
        elif isinstance(node, ast.AnnAssign):
            names.append(ast.unparse(node.target))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.List):  # __all__
            return ast.literal_eval(node.value)
    return names


def on_config(config: Any) -> Any:
    """Add to the navigation the pages that are found and not listed."""
    sections = {title: entries for entry in config.nav for title, entries in entry.items()}
    sections["Experiments"] += sorted(name for name in PATHS if name.startswith("experiments/"))
    sections["API"] += [f"api/{package}.md" for package in PACKAGES]
    sections["Packages"] += sorted(name for name in PATHS if name.startswith("packages/"))
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of docs/, and the reference."""
    for path, name in PAGES.items():
        if not files.get_file_from_path(name):
            files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    for package in PACKAGES:
        content = f"# {package}\n\n" + "\n".join(f"::: {package}.{name}\n" for name in public_names(package))
        files.append(File.generated(config, f"api/{package}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make the links of a page lead to pages of the site; what is no page, such as a source, becomes text."""
    name = page.file.src_uri
    if name not in PATHS:
        return markdown
    parts = FENCE.split(markdown)
    for index in range(0, len(parts), 2):
        text = re.sub(
            r"\[([^][]*)\]\(([^)\s]+)\)", lambda match: match[1 if linked(match[2], name) is None else 0], parts[index]
        )
        parts[index] = re.sub(r"(?<=\]\()[^)\s]+(?=\))", lambda match: linked(match[0], name) or match[0], text)
    if files.get_file_from_path(notebook := f"{name.removesuffix('.md')}.ipynb"):
        parts[0] = re.sub(r"\n", f"\n\n[As a notebook]({posixpath.basename(notebook)})\n", parts[0], count=1)
    return "".join(parts)


def linked(link: str, name: str) -> str | None:
    """Where a link of a page leads in the site; None if that is a file of the repository which is not in it."""
    file, _, place = link.partition("#")
    if re.match(r"[a-z]+:", link) or not file:
        return link
    target = posixpath.normpath(posixpath.join(posixpath.dirname(PATHS[name]), file))
    if not (ROOT / target).exists():
        raise SystemExit(f"{PATHS[name]} links to {link}, and there is no {target} in the repository.")
    in_docs = target.startswith("docs/") and target.endswith((".png", ".ipynb", ".bib"))
    there = PAGES.get(target, target.removeprefix("docs/") if in_docs else None)
    return there and os.path.relpath(there, posixpath.dirname(name) or ".") + (f"#{place}" if place else "")
