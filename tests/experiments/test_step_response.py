"""Every neuron is in the configuration and on its page. The responses themselves: test_laws_of_tables.py."""

import inspect
import re
from pathlib import Path

import pytest

from experiments.common.job import scales_of
from slax_neurons import NEURONS

PAGE = (Path(__file__).parents[2] / "docs/neurons.md").read_text()


def test_every_neuron_is_in_the_configuration():
    drawn = set(NEURONS) - {"izhikevich", "adex"}  # these join when the full scale is made again
    assert all(set(scale["neurons"]) == drawn for scale in scales_of("step_response").values())


@pytest.mark.parametrize("kind", NEURONS.values())
def test_page_has_equations_and_defaults_of_every_neuron(kind):
    (row,) = re.findall(rf"^\| `{kind.__name__}` \|.*$", PAGE, re.MULTILINE)
    for argument in inspect.signature(vars(kind).get("__init__", lambda: None)).parameters.values():
        if isinstance(argument.default, int | float):
            assert f"`{argument.name}={argument.default:.4g}`" in row
    assert len(re.findall(rf"^\*\*{kind.__name__}\*\*.*\n\n    ", PAGE, re.MULTILINE)) == 1
