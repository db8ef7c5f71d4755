"""Eight devices give the numbers of one under the rules that tests/training/test_devices.py leaves out."""

from training.eight_devices import in_a_process


def test_training_and_gradients_are_those_of_one_device():
    code, said = in_a_process("another")
    assert code == 0, said
