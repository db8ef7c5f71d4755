"""Add to the site what is elsewhere in the repository: pages of packages and experiments, and the API reference."""

import os
import posixpath
import re
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

from docs.site.api import PACKAGES, ROOT, ApiPage, api_pages
from docs.site.equations import typeset_page
from docs.site.references import typeset_with_links

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


def on_config(config: Any) -> Any:
    """Add to the navigation the pages that are found and not listed."""
    sections = {title: entries for entry in config.nav for title, entries in entry.items()}
    sections["Experiments"] += sorted(name for name in PATHS if name.startswith("experiments/"))
    sections["API"] += [page.uri for page in api_pages()]
    sections["Packages"] += sorted(name for name in PATHS if name.startswith("packages/"))
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of docs/, and the reference."""
    for path, name in PAGES.items():
        if not files.get_file_from_path(name):
            files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    sources = griffe.ModulesCollection()
    loader = griffe.GriffeLoader(search_paths=sorted(ROOT.glob("packages/*/src")), modules_collection=sources)
    for package in PACKAGES:
        loader.load(package)
    for page in api_pages():
        files.append(File.generated(config, page.uri, content=api_markdown(page, sources)))
    return files


def api_markdown(page: ApiPage, sources: griffe.ModulesCollection) -> str:
    """A page of the reference: its purpose, a table of its names, and their docstrings."""
    rows = [f"| [`{name.rpartition('.')[2]}`][{name}] | {first_sentence(sources[name])} |" for name in page.names]
    entries = [f"::: {name}\n" for name in page.names]
    return "\n".join(
        [f"# {page.title}\n", f"{page.purpose}\n", "| name | what it is |", "| --- | --- |", *rows, "", *entries]
    )


def first_sentence(definition: griffe.Object | griffe.Alias) -> str:
    """The first sentence of a docstring, for a cell of a table."""
    if definition.docstring is None:
        raise SystemExit(f"{definition.path} is in docs/site/api.yaml, and has no docstring.")
    paragraph = " ".join(definition.docstring.value.split("\n\n")[0].split())
    sentence = re.match(r".*?\S\.(?= |$)|.*", paragraph)[0].removesuffix(":")  # type: ignore[index]
    return typeset_with_links(sentence, definition.name).replace("|", "\\|")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Typeset a page, and make its links lead to pages of the site; what is no page, such as a source, becomes text."""
    name = page.file.src_uri
    if name not in PATHS:
        return markdown
    parts = FENCE.split(typeset_page(markdown))
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
