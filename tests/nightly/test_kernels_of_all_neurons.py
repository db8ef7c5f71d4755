"""The laws of kernels for every neuron; those of tests/neurons/test_kernels.py try a few."""

import pytest

from neurons.test_kernels import OTHERS, check_derivatives, check_lowering


@pytest.mark.parametrize("name", OTHERS)
def test_derivatives_are_those_of_the_scan(name, x64):
    check_derivatives(name, OTHERS[name])


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_one_triton_kernel_in_each_direction(name, monkeypatch):
    check_lowering(OTHERS[name], monkeypatch)
