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
# Public names that have to have an example: rules, what takes them, and what users extend.
WITH_EXAMPLES = [
    *(rule.rule for rule in slax_rules.RULES.values()),
    *(slax_rules.gradients, slax_rules.train_offline, slax_rules.train_online, slax_rules.SequenceLoss),
    *(slax_rules.fit, slax_rules.Sampler, slax_rules.save_weights),
    *(slax_neurons.Parameter, slax_neurons.summary, slax_neurons.Neuron.replace),
]


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


@pytest.mark.parametrize("public", WITH_EXAMPLES, ids=lambda public: public.__name__)
def test_public_names_have_an_example(public):
    assert ">>> " in public.__doc__
