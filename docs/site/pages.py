"""Which files of the repository are pages of the site, and how a link between files becomes a link between pages.

A page is the Markdown file that readers of the repository see. Its links lead to other pages, to pictures, or to sources, which
become pages of the site as well, so that no link leads away from it.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURES = (".png", ".svg")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".cff": "yaml", ".smk": "python"}
FENCE = re.compile(r"^(```.*?^```)", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def page_of(path: str) -> str | None:
    """The name in the site of a Markdown file of the repository; None if it is no page."""
    folder, name = posixpath.split(path)
    if not path.endswith(".md"):
        return None
    if folder == "docs" or folder.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "README.md":
        return "index.md"
    if not folder:
        return name.lower()
    parent, _, last = folder.rpartition("/")
    if name == "README.md":
        return f"{last}/index.md" if not parent else f"{parent}/{last}.md"
    if name == "CHANGELOG.md":
        return f"{parent}/{last}/changelog.md"
    return None


def pages() -> dict[str, str]:
    """The pages by the path of their file: the name in the site."""
    places = ["*.md", "docs/**/*.md", "packages/*/*.md", "experiments/*/README.md", "gallery/README.md"]
    files = sorted(file.relative_to(ROOT).as_posix() for place in places for file in ROOT.glob(place))
    return {path: name for path in files if (name := page_of(path))}


def targets(path: str, text: str) -> Iterator[str]:
    """The files and folders of the repository to which a page's links lead."""
    for part in FENCE.split(text)[::2]:
        for _, link, _ in LINK.findall(part):
            if target := resolved(path, link):
                yield target[0]


def resolved(path: str, link: str) -> tuple[str, str] | None:
    """The file that a link of a page leads to, and the place in it; None if it leads out of the repository."""
    file, _, place = link.partition("#")
    if re.match(r"[a-z]+:", link) or not file:
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), file)), place


def with_links_of_the_site(path: str, text: str, names: dict[str, str]) -> str:
    """The text of a page with links to names in the site, relative to the page.

    Args:
        path: the page's file.
        text: its Markdown.
        names: the name in the site of each file that links lead to.
    """
    own = posixpath.dirname(names[path])

    def replaced(match: re.Match[str]) -> str:
        target = resolved(path, match[2])
        if target is None:
            return match[0]
        file, place = target
        if file not in names:
            raise SystemExit(f"{path} links to {match[2]}, and there is no {file} in the repository.")
        link = os.path.relpath(names[file], own or ".")
        return f"{match[1]}{link}{'#' + place if place else ''}{match[3]}"

    parts = FENCE.split(text)
    parts[::2] = [LINK.sub(replaced, part) for part in parts[::2]]
    return "".join(parts)


def source_page(path: str) -> str:
    """The Markdown of a page that shows a source, or lists a folder."""
    file = ROOT / path
    start = f"---\nsearch: {{exclude: true}}\n---\n\n# {path}\n\n"
    if file.is_dir():
        entries = sorted(entry.name for entry in file.iterdir() if not entry.name.startswith(("_", ".")))
        return start + "".join(f"* `{entry}`\n" for entry in entries)
    language = LANGUAGES.get(file.suffix, "text")
    return f'{start}````{language} linenums="1"\n{file.read_text(encoding="utf-8")}\n````\n'
