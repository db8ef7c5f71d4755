"""Training and gradients on eight devices are those of one."""

import pytest

from training.eight_devices import in_a_process


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one():
    code, said = in_a_process("not another")
    assert code == 0, said
