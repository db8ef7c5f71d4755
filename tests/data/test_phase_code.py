"""Laws of the phase code."""

import jax.numpy as jnp
import numpy as np
import pytest

from slax_data import phase_decode, phase_encode


@pytest.mark.parametrize("n_bits", [1, 3, 8, 24])
@pytest.mark.parametrize("periods", [1, 3])
def test_decoder_is_exact_on_multiples_of_the_last_bit(n_bits, periods):
    numbers = np.unique(np.linspace(0, 2**n_bits - 1, 256).astype(int))
    intensities = jnp.asarray(numbers[None] / 2**n_bits, jnp.float32)
    spikes = phase_encode(intensities, n_steps=periods * n_bits, n_bits=n_bits)
    np.testing.assert_array_equal(phase_decode(spikes, n_bits=n_bits), intensities)


def test_spikes_of_a_period_are_the_binary_digits_the_most_significant_first():
    spikes = np.asarray(phase_encode(jnp.arange(8.0)[None] / 8, n_steps=6, n_bits=3))
    for number in range(8):
        assert "".join(str(int(s)) for s in spikes[:, 0, number]) == 2 * format(number, "03b")


def test_what_comes_after_the_last_bit_is_cut_off():
    intensities = jnp.asarray(np.random.default_rng(0).random((5, 40)), jnp.float32).at[0, 0].set(1)
    error = np.asarray(intensities - phase_decode(phase_encode(intensities, n_steps=4, n_bits=4), n_bits=4))
    assert error.min() >= 0 and error[0, 0] == error.max() == 1 / 16


def test_half_precision_is_coded_digit_by_digit_too():
    intensities = jnp.arange(2048, dtype=jnp.float16)[None] / 2048
    spikes = phase_encode(intensities, n_steps=20, n_bits=20)
    assert spikes.dtype == jnp.float16
    np.testing.assert_array_equal(phase_decode(spikes.astype(jnp.float32), n_bits=20), intensities)


@pytest.mark.parametrize(
    ("n_steps", "n_bits", "message"),
    [
        (12, 8, "n_steps got 12, expected a multiple of n_bits=8.*Take 16 steps"),
        (0, 8, "n_steps got 0, expected an integer of at least 1"),
        (8, 0, "n_bits got 0, expected an integer of at least 1"),
        (25, 25, "n_bits got 25, expected at most 24"),
    ],
)
def test_steps_that_are_no_whole_periods_are_an_error(n_steps, n_bits, message):
    with pytest.raises(ValueError, match=message):
        phase_encode(jnp.zeros((1, 2)), n_steps=n_steps, n_bits=n_bits)
    if n_steps:
        with pytest.raises(ValueError, match=message.replace("n_steps", "number of steps in spikes")):
            phase_decode(jnp.zeros((n_steps, 1, 2)), n_bits=n_bits)
