"""Rules of two other libraries, as recorded, by ours: tests/nightly/published has all, and test_authors.py OTPE's authors."""

import pytest

import oracle
from nightly.published.foreign import by_rule, foreign, step_by_step
from stacks import worst


@pytest.mark.parametrize(
    ("name", "file", "options"),
    [
        ("e_prop", "sparx_e_prop_reset", {}),
        ("pp_prop", "braintrace_pp_prop", {"decay": 0.9}),
        ("ostl", "braintrace_recurrent_d_rtrl", {}),
        ("ostl_with_recurrence", "braintrace_recurrent_snap_2", {}),
    ],
)
def test_gradient_is_that_of_the_library(name, file, options):
    run = foreign(file)
    theirs = step_by_step(run)
    assert worst(by_rule(name, run, window=2, **options), theirs) < 1e-12
    assert worst(oracle.bptt(run.layers, run.inputs, run.signal).gradients[:1], theirs[:1]) > 0.1
