"""The laws of kernels for every neuron and more rules; tests/neurons/test_kernels.py and tests/laws try a few."""

import pytest

from laws.test_compiled_rules import test_recursions_in_kernels_are_those_of_scans as check_recursions
from neurons.test_kernels import OTHERS, check_derivatives, check_lowering


@pytest.mark.parametrize("name", OTHERS)
def test_derivatives_are_those_of_the_scan(name, x64):
    check_derivatives(name, OTHERS[name])


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_one_triton_kernel_in_each_direction(name, monkeypatch):
    check_lowering(OTHERS[name], monkeypatch)


@pytest.mark.parametrize(
    ("name", "network"), [("ostl", "units"), ("pp_prop", "states"), ("ottt", "conv"), ("s_tllr", "chain")]
)
def test_recursions_of_rules_are_those_of_scans(name, network, x64):
    check_recursions(name, network)
