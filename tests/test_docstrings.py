"""Every public name has an example in its docstring, and the examples run."""

import doctest
import importlib
import sys
from pathlib import Path

import jax
import pytest

import slax_data
import slax_neurons
import slax_neurons.nir
import slax_rules
import slax_viz

PACKAGES = (slax_data, slax_neurons, slax_rules, slax_viz)
SOURCES = [(package.__name__, path) for package in PACKAGES for path in Path(package.__path__[0]).rglob("*.py")]
MODULES = [
    ".".join([name, *path.relative_to(Path(sys.modules[name].__path__[0])).with_suffix("").parts]).removesuffix(
        ".__init__"
    )
    for name, path in SOURCES
    if ">>> " in path.read_text()
]


def public_names(package):
    """The names in `__all__`, or all without an underscore, of what can be called."""
    names = getattr(package, "__all__", [name for name in vars(package) if name[0] != "_"])
    return {f"{package.__name__}.{name}": getattr(package, name) for name in names if callable(getattr(package, name))}


PUBLIC = {name: public for package in (*PACKAGES, slax_neurons.nir) for name, public in public_names(package).items()}
PUBLIC |= {f"slax_rules.RULES[{name!r}]": entry.rule for name, entry in slax_rules.RULES.items()}
PUBLIC["slax_neurons.Neuron.replace"] = slax_neurons.Neuron.replace


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_as_they_stand(name):
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module, name) if test.examples]
    assert tests
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        test.globs = {}  # an example imports what it uses
        with jax.numpy_dtype_promotion("standard"):  # as users have it; Optax needs it
            runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_an_example(name):
    assert ">>> " in (PUBLIC[name].__doc__ or ""), f"{name} has no example in its docstring"
