"""The cost of a rule: counted bytes and products by hand, and what is measured."""

import jax.numpy as jnp
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Connect, connect
from slax_rules import BPTT, OSTL, OTTT, RTRL, RULES, SLTT, STLLR, UORO, Direct, cost

I, N, C, T, B = 12, 7, 3, 8, 4  # noqa: E741


def model() -> Connect:
    rngs = nnx.Rngs(0)
    return connect([nnx.Linear(I, N, rngs=rngs), LIF(), nnx.Linear(N, C, rngs=rngs), LI()])


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        (BPTT(), N + C),
        (OTTT(bias_trace=False), N + C + I + N),
        (OSTL(), N + C + I * N + N + N * C + C),  # a trace of each weight and bias
        (STLLR(), N + C + I + N + N),  # x and psi of the first layer, x of the read-out
    ],
    ids=lambda case: type(case).__name__,
)
def test_bytes_that_are_carried_are_those_of_the_traces_and_the_state(rule, numbers):
    shared = 4 * 4  # at most: scalars that all samples share
    found = cost(model(), rule, (T, B, I), measure=False).carried_bytes
    assert 4 * numbers <= found <= 4 * numbers + shared


def test_products_are_those_of_three_passes():
    """Forward, the gradients of both kernels, and the signal below the read-out; a window's trace is one product more."""
    found = cost(model(), BPTT(), (T, B, I), measure=False)
    assert found.products == found.bptt_products == 2 * (I * N + N * C) + N * C
    assert found.relative_products == 1
    in_windows = cost(model(), OSTL(), (T, B, I), window=2, measure=False).products
    assert in_windows == 3 * I * N + 4 * N * C
    assert cost(model(), OTTT(), (T, B, I), window=2, measure=False).products == found.products
    assert cost(model(), STLLR(), (T, B, I), measure=False).products == found.products + I * N
    direct = cost(model(), OSTL(route=Direct(rngs=nnx.Rngs(0))), (T, B, I), measure=False)
    assert direct.products == found.products  # N C to send the error, in place of N C to pass it down


def test_bytes_of_a_window_are_those_that_autodiff_keeps_of_its_steps():
    """Of each step the inputs and the hidden membranes, from which spikes are made again; of a window, its last state."""
    found = cost(model(), OTTT(), (T, B, I), window=2, measure=False)
    assert found.window == 2
    assert found.window_bytes == 4 * (2 * (I + N) + N + C)
    assert found.bptt_bytes == 4 * (T * (I + N) + 2 * (N + C))
    assert found.predicted_bytes == found.carried_bytes + found.window_bytes
    assert cost(model(), BPTT(), (T, B, I), window=2, measure=False).predicted_bytes == found.bptt_bytes
    by_default = cost(model(), OTTT(), (T, B, I), measure=False)  # whose windows are longer than the sequence
    assert by_default.window == T
    assert by_default.carried_bytes + found.bptt_bytes - 4 * (N + C) == by_default.predicted_bytes


def test_products_of_convolutions_with_strides_and_groups():
    rngs = nnx.Rngs(0)
    first = nnx.Conv(2, 4, (3, 3), strides=2, rngs=rngs)
    second = nnx.Conv(4, 8, (3, 3), strides=2, feature_group_count=2, rngs=rngs)
    found = cost(connect([first, LIF(), second, LIF()]), BPTT(), (T, B, 8, 8, 2), measure=False)
    in_first, in_second = (4 * 4 * 4) * (3 * 3 * 2), (2 * 2 * 8) * (3 * 3 * 2)  # outputs times inputs of each
    assert found.products == 2 * in_first + 3 * in_second  # forward and kernel; the second also passes a signal down


@pytest.mark.parametrize("name", [name for name in RULES if name != "uoro"])
def test_every_rule_has_a_cost(name):
    net = model()
    rule = RULES[name].make(rngs=nnx.Rngs(0), model=net)
    assert cost(net, rule, (T, B, I), measure=False).relative_products >= 1


def test_a_model_without_products_costs_none():
    assert cost(connect([LIF()]), SLTT(), (T, B, I), measure=False).relative_products == 1


def test_memory_and_time_are_measured():
    found = cost(model(), OSTL(), (40, B, I), window=8, repeats=2)
    assert found.seconds > 0
    assert found.measured_time == found.seconds / found.bptt_seconds
    # The prediction is a lower bound, and not far from it under BPTT.
    assert found.predicted_bytes < found.temporary_bytes
    assert found.bptt_bytes < found.bptt_temporary_bytes < 3 * found.bptt_bytes
    assert "measured" in str(found)
    assert "measured" not in str(cost(model(), OSTL(), (T, B, I), measure=False))


def test_rules_for_any_cell_are_counted_too():
    assert cost(model(), RTRL(), (T, B, I), measure=False).carried_bytes > 4 * (I * N + N * C)
    assert cost(nnx.GRUCell(I, N, rngs=nnx.Rngs(0)), UORO(rngs=nnx.Rngs(0)), (T, B, I), measure=False).products > 0


def test_a_shape_without_time_is_an_error():
    with pytest.raises(ValueError, match=r"expected that of inputs, \[T, B, features...\]"):
        cost(model(), OSTL(), (B, I))
    with pytest.raises(ValueError, match="repeats=0, expected 1 or more"):
        cost(model(), OSTL(), (T, B, I), repeats=0)


def test_the_model_stays_as_it_is():
    net = model()
    before = net.modules[0].kernel[...]
    cost(net, OSTL(), (T, B, I), measure=False)
    assert jnp.array_equal(before, net.modules[0].kernel[...])


def test_counting_needs_no_memory_for_the_inputs():
    """These would be 280 GB."""
    model = connect([nnx.Linear(700, 3, rngs=nnx.Rngs(0)), LI()])
    found = cost(model, OSTL(), (10**5, 10**3, 700), window=50, measure=False)
    assert found.bptt_bytes > 10**6 and found.bptt_temporary_bytes is None
