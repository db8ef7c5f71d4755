"""Rules of three other libraries, as recorded, by ours: tests/nightly/published has all, and the authors' own code."""

import pytest

import oracle
from nightly.published.foreign import by_rule, foreign, step_by_step
from stacks import worst


@pytest.mark.parametrize(
    ("name", "file", "part", "options"),
    [
        ("ottt", "spikingjelly_ottt", slice(1, None), {"bias_trace": False}),  # its first layer has no trace
        ("e_prop", "sparx_e_prop_reset", slice(None), {}),
        ("pp_prop", "braintrace_pp_prop", slice(None), {"decay": 0.9}),
        ("ostl", "braintrace_recurrent_d_rtrl", slice(None), {}),
        ("ostl_with_recurrence", "braintrace_recurrent_snap_2", slice(None), {}),
    ],
)
def test_gradient_is_that_of_the_library(name, file, part, options):
    run = foreign(file)
    theirs = step_by_step(run)
    assert worst(by_rule(name, run, window=2, **options)[part], theirs[part]) < 1e-12
    assert worst(oracle.bptt(run.layers, run.inputs, run.signal).gradients[:1], theirs[:1]) > 0.1
