"""Gradients that the rules of other libraries give for a small net against those of the packages; see data/README.md.

Where a library's definition is another one, the gradients have to differ.
"""

import numpy as np
import pytest

from nightly.published.foreign import GivenDirect, by_rule, foreign, their_gradients
from stacks import deviation, worst

DIFFERENT = 0.1
OTTT = {"bias_trace": False}  # as all of them define it
KERNELS, BIASES = ("kernel", "edge0_kernel"), ("bias",)
ALL = KERNELS + BIASES
FIRST, ABOVE, HIDDEN, ENDS, EVERY = slice(1), slice(1, None), slice(1, 2), slice(None, None, 2), slice(None)


def part(layers, where, names):
    return [{name: layer[name] for name in names if name in layer} for layer in layers[where]]


@pytest.mark.parametrize(
    ("file", "rule", "options", "same", "different"),
    [
        ("spikingjelly_sltt", "sltt", {}, [(EVERY, ALL)], []),
        ("spikingjelly_sltt", "bptt", {}, [], [(FIRST, ALL)]),
        # No bias has a trace, and nor has the first kernel, as in SLTT, since its module gets a plain tensor.
        ("spikingjelly_ottt", "ottt", OTTT, [(ABOVE, ALL), (EVERY, BIASES)], [(FIRST, KERNELS)]),
        ("spikingjelly_ottt", "sltt", {}, [(FIRST, ALL)], []),
        ("spikingjelly_ottt", "ottt", {}, [], [(EVERY, BIASES)]),
        # A trace decays like the membrane that sends, and here like the one that receives.
        ("spikingjelly_ottt_decays", "ottt", OTTT, [(EVERY, BIASES)], [(EVERY, KERNELS)]),
        # The first layer has no trace; the read-out, without a memory, has one.
        ("sparx_ottt", "ottt", OTTT, [(HIDDEN, ALL), (EVERY, BIASES)], [(ENDS, KERNELS)]),
        ("sparx_e_prop", "e_prop", {}, [(EVERY, ALL)], []),
        # Paths through recurrent spikes are all that e-prop lacks here.
        ("sparx_e_prop_reset", "bptt", {}, [(ABOVE, ALL)], [(FIRST, ALL)]),
        ("sparx_e_prop_reset", "e_prop", {}, [(EVERY, ALL)], []),
        ("braintrace_d_rtrl", "ostl", {}, [(EVERY, ALL)], []),
        ("braintrace_pp_prop", "pp_prop", {"decay": 0.9}, [(EVERY, ALL)], []),
        ("braintrace_recurrent_d_rtrl", "ostl", {}, [(EVERY, ALL)], []),
        ("braintrace_recurrent_snap_2", "ostl_with_recurrence", {}, [(EVERY, ALL)], []),
        # It filters before the factor psi, and the read-out's traces too.
        ("braintrace_recurrent_e_prop", "e_prop", {}, [], [(EVERY, ALL)]),
        # It has the path of a neuron to itself, too.
        ("braintrace_recurrent_snap_1", "ostl", {}, [(ABOVE, ALL)], [(FIRST, KERNELS)]),
    ],
)
def test_gradient_is_that_of_the_library_as_far_as_it_agrees(file, rule, options, same, different, x64):
    run = foreign(file)
    theirs = their_gradients(run)
    ours = by_rule(rule, run, window=None if rule == "bptt" else 2, **options)
    for where in same:
        assert worst(part(ours, *where), part(theirs, *where)) < 1e-12
    for where in different:
        for a, b in zip(part(ours, *where), part(theirs, *where), strict=True):
            assert all(deviation(a[name], b[name]) > DIFFERENT for name in b)


@pytest.mark.parametrize("file", ["sparx_e_prop", "sparx_e_prop_reset"])
def test_e_prop_with_random_feedback_is_that_of_sparx(file, x64):
    run = foreign(file)
    ours = by_rule("e_prop", run, window=2, route=GivenDirect(run["feedback"]))
    assert worst(ours[:1], their_gradients(run, "random_gradient")[:1]) < 1e-12


def test_e_prop_of_jaxpike_is_ottt_with_larger_lower_layers(x64):
    """The factor 1 - decay of its currents is missing on the signal's way down, and in the gradients of biases."""
    run = foreign("jaxpike_e_prop")
    gain, theirs = run["gain"], their_gradients(run)
    for i, layer in enumerate(by_rule("ottt", run, window=2, **OTTT)):
        above = np.prod(gain[i + 1 :])
        expected = {"kernel": layer["kernel"] * gain[i] / above, "bias": layer["bias"] / above}
        assert worst([expected], theirs[i : i + 1]) < 1e-5  # it has float32
    assert max(gain) < 1 - DIFFERENT
