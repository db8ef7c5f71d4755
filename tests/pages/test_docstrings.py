"""The examples in docstrings run as they stand, and packages list what they offer."""

import doctest
import importlib
import pkgutil

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
