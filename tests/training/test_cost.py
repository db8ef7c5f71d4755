"""The cost of a rule: counted bytes by hand."""

import pytest
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules import BPTT, OSTL, OTTT, RULES, STLLR, cost

I, N, C, T, B = 12, 7, 3, 8, 4  # noqa: E741


def model():
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
)
def test_bytes_that_are_carried_are_those_of_the_traces_and_the_state(rule, numbers):
    shared = 4 * 4  # at most: scalars that all samples share
    found = cost(model(), rule, (T, B, I)).carried_bytes
    assert 4 * numbers <= found <= 4 * numbers + shared


def test_bytes_of_a_window_are_those_that_autodiff_keeps_of_its_steps():
    """Of each step the inputs and the hidden membranes, from which spikes are computed again; of a window, its last state."""
    found = cost(model(), OTTT(), (T, B, I), window=2)
    assert found.window == 2
    assert found.window_bytes == 4 * (2 * (I + N) + N + C)
    assert found.bptt_bytes == 4 * (T * (I + N) + 2 * (N + C))
    assert found.predicted_bytes == found.carried_bytes + found.window_bytes
    assert cost(model(), BPTT(), (T, B, I), window=2).predicted_bytes == found.bptt_bytes
    by_default = cost(model(), OTTT(), (T, B, I))  # whose windows are longer than the sequence
    assert by_default.window == T


def test_recomputation_keeps_the_carries_between_chunks_and_the_steps_of_one():
    """Chunks of 3 in 9 steps; the inputs of all steps are kept beside the states of both layers."""
    found = cost(model(), BPTT(remat=True), (9, B, I))
    carries, chunk = 9 * I + 3 * (N + C), 3 * (I + N) + N + C
    assert found.window_bytes == pytest.approx(4 * (carries + chunk), abs=4 * (N + C))
    assert found.bptt_bytes == cost(model(), BPTT(), (9, B, I)).predicted_bytes


def test_each_kind_of_rule_has_a_cost_and_the_inputs_need_no_memory():
    net = model()
    for name in ("rtrl", "e_prop_adaptive", "uoro"):
        rule = RULES[name].make(rngs=nnx.Rngs(0), model=net)
        assert cost(net, rule, (10**5, 10**3, I), window=50).carried_bytes > 0, name
