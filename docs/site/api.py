"""The pages of the API reference: every public name of the packages, grouped by the folder that it comes from."""

import ast
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from docs.site.pages import ROOT

PACKAGES = ("slax_neurons", "slax_rules", "slax_data", "slax_viz")


class Public(NamedTuple):
    """A public name: where it is imported from, by its package."""

    package: str
    module: str
    name: str

    @property
    def page(self) -> str:
        """The name of its page in the site: that of its folder."""
        folders = self.module.split(".")[1:-1]
        return f"api/{'/'.join([self.package, *folders]) if folders else self.package + '/index'}.md"


def public_names() -> list[Public]:
    """What each package lists in `__all__`, or else imports in its __init__.py."""
    found = []
    for package in PACKAGES:
        (init,) = ROOT.glob(f"packages/*/src/{package}/__init__.py")
        modules: dict[str, str] = {}
        listed: list[str] = []
        for node in ast.parse(init.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                modules |= {alias.name: node.module for alias in node.names}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                modules[node.target.id] = package
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                listed = ast.literal_eval(node.value)
        found += [Public(package, modules.get(name, package), name) for name in listed or modules]
    return found


def api_pages(pages: dict[str, str]) -> dict[str, str]:
    """The Markdown of each page of the reference by its name in the site.

    Args:
        pages: the name in the site of each file, for the lists of what uses a name.
    """
    used = users(pages)
    by_page: dict[str, list[Public]] = defaultdict(list)
    for public in public_names():
        by_page[public.page].append(public)
    made = {}
    for page, names in by_page.items():
        package = names[0].package
        folders = page.removeprefix(f"api/{package}").removesuffix(".md").removeprefix("/index").strip("/")
        title = f"{package}: {folders.replace('_', ' ').replace('/', ', ')}" if folders else package
        depth = page.count("/")
        parts = [f"# {title}\n"]
        for public in names:
            parts.append(f"::: {public.package}.{public.name}\n")
            if links := [f"[{text}]({'../' * depth}{name})" for text, name in used.get(public.name, [])]:
                parts.append(f"Used by {', '.join(links)}.\n")
        made[page] = "\n".join(parts)
    listed = [f"* [{title_of(text)}]({page.removeprefix('api/')})" for page, text in sorted(made.items())]
    made["api/index.md"] = "# API reference\n\nEvery public name, by package.\n\n" + "\n".join(listed) + "\n"
    return made


def title_of(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


def users(pages: dict[str, str]) -> dict[str, list[tuple[str, str]]]:
    """By public name, the pages whose Python uses it, each with its title and its name in the site."""
    names = {public.name for public in public_names()}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, page in pages.items():
        if not path.endswith(".md") or page.startswith("source/"):
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)) + imports_of(path)
        for name in sorted(names & set(re.findall(r"\w+", code))):
            found[name].append((title_of(text), page))
    return found


def imports_of(path: str) -> str:
    """The import lines of the sources next to the page of an experiment."""
    if not path.startswith("experiments/"):
        return ""
    sources = sorted(Path(ROOT / path).parent.glob("*.py"))
    lines = [
        ast.unparse(node)
        for file in sources
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if is_import(node)
    ]
    return "\n".join(["", *lines])


def is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slax_")
