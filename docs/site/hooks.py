"""Add to the site what is elsewhere in the repository, for MkDocs."""

from typing import Any

from mkdocs.structure.files import File, Files

from docs.site.api import api_pages
from docs.site.notebooks import notebook_of
from docs.site.pages import PICTURES, ROOT, pages, source_page, targets, with_links_of_the_site

NAMES: dict[str, str] = {}  # the name in the site of each file of the repository that is in it
PATHS: dict[str, str] = {}  # and the file of each name


def on_config(config: Any) -> Any:
    """Add to the navigation the pages that are found and not listed."""
    sections = {title: entries for entry in config.nav for title, entries in entry.items()}
    names = sorted(pages().values())
    sections["Experiments"] += [name for name in names if name.startswith("experiments/")]
    sections["API"] += section_of([name for name in names if name.startswith("packages/")], sorted(api_pages({})))
    return config


def section_of(packages: list[str], reference: list[str]) -> list[dict[str, list[str]]]:
    """For each package, its own page, the pages of its reference, and its changelog."""
    found = []
    for page in (name for name in packages if name.count("/") == 1):
        package = page.removeprefix("packages/").removesuffix(".md")
        start = f"api/{package.replace('-', '_')}/"
        pages_of_it = [name for name in reference if name.startswith(start)]
        found.append({package: [page, *pages_of_it, f"packages/{package}/changelog.md"]})
    return found


def on_files(files: Files, config: Any) -> Files:
    """Add pages from outside of docs/, the sources and pictures that pages link to, the API reference, and notebooks."""
    NAMES.clear()
    NAMES.update(pages())
    linked = {
        target for path in list(NAMES) for target in targets(path, (ROOT / path).read_text(encoding="utf-8"))
    } - NAMES.keys()
    for target in sorted(target for target in linked if (ROOT / target).exists()):
        picture = target.endswith(PICTURES)
        NAMES[target] = target.removeprefix("docs/") if picture else f"source/{target.rstrip('/')}.md"
    PATHS.clear()
    PATHS.update({name: path for path, name in NAMES.items()})
    for path, name in NAMES.items():
        if files.get_file_from_path(name):
            continue
        if name.startswith("source/"):
            files.append(File.generated(config, name, content=source_page(path)))
        else:
            files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    for name, content in api_pages(NAMES).items():
        files.append(File.generated(config, name, content=content))
    for path, name in NAMES.items():
        if name.startswith("tutorials/") and name.endswith(".md") and not name.endswith("index.md"):
            notebook = name.removesuffix(".md") + ".ipynb"
            files.append(
                File.generated(config, notebook, content=notebook_of((ROOT / path).read_text(encoding="utf-8")))
            )
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make the links of a page lead to pages of the site, and offer a tutorial as a notebook."""
    name = page.file.src_uri
    if name not in PATHS or name.startswith("source/"):
        return markdown
    text = with_links_of_the_site(PATHS[name], markdown, NAMES)
    notebook = f"{page.file.name}.ipynb"
    if name.startswith("tutorials/") and files.get_file_from_path(f"tutorials/{notebook}"):
        title, _, rest = text.partition("\n")
        text = f"{title}\n\n[As a notebook]({notebook}){{ .md-button download }}\n{rest}"
    return text
