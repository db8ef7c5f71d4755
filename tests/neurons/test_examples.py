"""The examples in the docstrings say what happens."""

import doctest
import importlib
import pkgutil

import pytest

import slax_neurons

EXTRAS = ("replay",)  # needs torch
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(slax_neurons.__path__, "slax_neurons.")
    if not name.endswith(EXTRAS)
]  # fmt: skip
WITH_EXAMPLES = {
    name: doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)) for name in MODULES
}
EXAMPLES = [(name, test) for name, tests in WITH_EXAMPLES.items() for test in tests if test.examples]


@pytest.mark.parametrize("test", [test for _, test in EXAMPLES], ids=[test.name for _, test in EXAMPLES])
def test_example_runs(test):
    said = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert not said, "".join(said)


def test_there_are_examples_of_what_users_extend():
    assert {test.name.rpartition(".")[2] for _, test in EXAMPLES} >= {"Parameter", "summary", "replace"}
