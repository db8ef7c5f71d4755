"""The examples in docstrings run."""

import doctest
import importlib
import sys
from pathlib import Path

import jax
import pytest

import slax_neurons
import slax_rules

SOURCES = [
    (package.__name__, path)
    for package in (slax_neurons, slax_rules)
    for path in Path(package.__path__[0]).rglob("*.py")
]
MODULES = [
    ".".join([name, *path.relative_to(Path(sys.modules[name].__path__[0])).with_suffix("").parts]).removesuffix(
        ".__init__"
    )
    for name, path in SOURCES
    if ">>> " in path.read_text()
]
# Public names that have to have an example.
WITH_EXAMPLES = [
    *(
        "BPTT",
        "TBPTT",
        "RTRL",
        "SnAp",
        "UORO",
        "OSTL",
        "OTTT",
        "OTPE",
        "ApproximateOTPE",
        "SLTT",
        "EProp",
        "PPProp",
        "DECOLLE",
    ),
    *("gradients", "train_offline", "train_online", "SequenceLoss"),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_as_they_stand(name):
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module, name) if test.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        test.globs = {}  # an example imports what it uses
        with jax.numpy_dtype_promotion("standard"):  # as users have it; Optax needs it
            runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_public_names_have_an_example(name):
    assert ">>> " in getattr(slax_rules, name).__doc__
