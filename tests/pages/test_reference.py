"""The reference of the site, without mkdocs: each public name is on one of its pages."""

import importlib

import pytest

from docs.site.api import PACKAGES, api_pages, public_names


def test_each_public_name_is_on_one_page_of_the_reference():
    names = [name for page in api_pages() for name in page.names]
    assert names[:2] == ["slax_rules.gradients", "slax_rules.fit"] and len(names) == len(set(names))
    for name in names:
        module, _, own = name.rpartition(".")
        assert hasattr(importlib.import_module(module), own), name


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_found_without_an_import(package):
    assert set(public_names(package)) == set(importlib.import_module(package).__all__)
