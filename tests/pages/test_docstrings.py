"""The examples in docstrings run as they stand, and packages list what they offer."""

import ast
import doctest
import importlib
import pkgutil
from importlib import metadata
from pathlib import Path
from types import ModuleType

import jax
import pytest

PACKAGES = ("slax_data", "slax_neurons", "slax_rules", "slax_viz")
MODULES = [
    module.name
    for package in map(importlib.import_module, PACKAGES)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_as_they_stand(name):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), name):
        test.globs = {}  # an example imports what it uses
        with jax.numpy_dtype_promotion("standard"):  # as users have it; Optax needs it
            runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_offers_what_it_imports_by_name_and_not_its_modules(name):
    package, taken = importlib.import_module(name), {}
    exec(f"from {name} import *", taken)
    del taken["__builtins__"]
    imports = [node for node in ast.parse(Path(package.__file__).read_text()).body if isinstance(node, ast.ImportFrom)]
    named = {alias.asname for node in imports for alias in node.names if alias.asname == alias.name}
    assert named <= set(taken) and set(dir(package)) == set(taken) | {"__version__"}
    assert not any(isinstance(value, ModuleType) or key.startswith("_") for key, value in taken.items())
    assert package.__version__ == metadata.version(name.replace("_", "-"))
