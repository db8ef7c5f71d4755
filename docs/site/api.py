"""The pages of the API reference: which public name is on which page, by api.yaml. It needs no mkdocs."""

import ast
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = ("slax_neurons", "slax_rules", "slax_data", "slax_viz")


class ApiPage(NamedTuple):
    title: str
    purpose: str
    names: list[str]

    @property
    def uri(self) -> str:
        return f"api/{self.title.lower().replace(' ', '_')}.md"


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


PUBLIC = {name: f"{package}.{name}" for package in PACKAGES for name in public_names(package)}


def api_pages(text: str | None = None) -> list[ApiPage]:
    """The pages of api.yaml, with full paths; ValueError if a public name is on no page, or a name is on two."""
    text = (ROOT / "docs/site/api.yaml").read_text(encoding="utf-8") if text is None else text
    pages = [ApiPage(**entry) for entry in yaml.safe_load(text)]
    count = Counter(name for page in pages for name in page.names)
    wrong = {
        "on no page": sorted(set(PUBLIC) - set(count)),
        "on more than one": [name for name in count if count[name] > 1],
        "not public": [name for name in count if name not in PUBLIC and "." not in name],
    }
    if said := [f"{', '.join(names)}: {what}" for what, names in wrong.items() if names]:
        raise ValueError(f"docs/site/api.yaml has a wrong list of names. {'; '.join(said)}.")
    return [page._replace(names=[PUBLIC.get(name, name) for name in page.names]) for page in pages]
