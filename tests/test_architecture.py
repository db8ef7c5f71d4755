"""The picture of the rooms and the page of the figures are those of the code, and names lead to where they say."""

import ast
import importlib
import inspect
import pkgutil

import pytest

from docs import figures_page
from docs.architecture_picture import PACKAGES, PICTURE, floors, imports, picture


def test_the_picture_is_current():
    assert PICTURE.read_text() == picture(), "python docs/architecture_picture.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_on_a_floor_and_imports_lower_ones_alone(package):
    height = {room: number for number, floor in enumerate(reversed(floors(package))) for room in floor}
    found = imports(package)
    assert {room for pair in found for room in pair} <= set(height)
    assert all(height[upper] > height[lower] for upper, lower in found)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_hides_a_module(package):
    public = vars(importlib.import_module(package))
    modules = {module.name for module in pkgutil.iter_modules(public["__path__"])}
    assert [name for name in modules if name in public and not inspect.ismodule(public[name])] == []


def test_the_page_of_the_figures_is_current():
    assert figures_page.PAGE.read_text() == figures_page.page(), "python -m docs.figures_page"


@pytest.mark.parametrize("experiment", figures_page.figures())
def test_what_draws_a_figure_is_in_its_plot_script(experiment):
    script = ast.parse((figures_page.ROOT / "experiments" / experiment / "plot.py").read_text())
    functions = {node.name for node in script.body if isinstance(node, ast.FunctionDef)}
    assert {
        figures_page.drawn_by(experiment, figure["stem"]) for figure in figures_page.figures()[experiment]
    } <= functions
