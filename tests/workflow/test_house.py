"""The four members: each declares what it imports, and stands alone. `make release-check` installs each alone."""

import ast
import csv
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
MEMBERS = {path.parent.name: path.parents[2] for path in sorted(ROOT.glob("packages/*/src/*/__init__.py"))}
DISTRIBUTIONS = importlib.metadata.packages_distributions() | {name: [path.name] for name, path in MEMBERS.items()}


def imported(path):
    """The distributions whose modules a file imports, the standard library left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_extra":
            modules = [node.args[0].value]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module]
        else:
            continue
        for module in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names:
            module = {"PIL": "pillow"}.get(module, module)
            yield DISTRIBUTIONS.get(module, [module.replace("_", "-")])[0]  # what is not installed by its own name


@pytest.mark.parametrize("name", MEMBERS)
def test_member_declares_exactly_what_it_imports(name):
    table = tomllib.loads((MEMBERS[name] / "pyproject.toml").read_text())["project"]
    required = {Requirement(text).name for text in table["dependencies"]}
    optional = {Requirement(text).name for extra in table.get("optional-dependencies", {}).values() for text in extra}
    found = {name for path in MEMBERS[name].glob("src/**/*.py") for name in imported(path)} - {table["name"]}
    assert found - optional == required
    assert optional <= found
    siblings = {"slax-neurons"} if name == "slax_rules" else set()
    assert {path.name for path in MEMBERS.values()} & required == siblings
    assert name != "slax_data" or "flax" not in required


def test_import_pulls_in_nothing_that_only_some_functions_need():
    """Nor does it start JAX's devices, whose number can then still be set."""
    script = f"import sys, jax, {', '.join(MEMBERS)}; jax.config.update('jax_num_cpu_devices', 2); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], check=True, text=True, capture_output=True).stdout.split()
    assert not {"beartype", "h5py", "matplotlib", "nir", "scipy", "sklearn"} & set(modules)


def test_each_reference_of_other_code_has_one_recorder():
    with (ROOT / "tests/recorders/recorders.csv").open(encoding="utf-8", newline="") as file:
        recorded = [file for row in csv.DictReader(file) for file in ROOT.glob(row["recorded"])]
    assert sorted(recorded) == sorted(ROOT.glob("tests/**/*.npz"))
