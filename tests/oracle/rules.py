"""Every rule as one call: rule(layers, inputs [T, B, features...], signal, options) -> `Result`.

Further options of all: `penalties` and `carry`; of rules by layers: `route`.
"""

from oracle.exact import RTRL, bptt
from oracle.local import OSTL, OTPE, OTTT, SLTT, STLLR, ApproximateOTPE, EProp, OSTLWithH, PPProp
from oracle.running import Result, run
from oracle.snap import SnAp
from oracle.uoro import UORO


def tbptt(layers, inputs, signal, window, *, penalties=()) -> Result:
    """Truncated backpropagation through time; window 1 keeps nothing of the past."""
    return bptt(layers, inputs, signal, window=window, penalties=penalties)


def rtrl(layers, inputs, signal, **running) -> Result:
    return run(RTRL(), layers, inputs, signal, **running)


def snap(layers, inputs, signal, *, n=1, **running) -> Result:
    return run(SnAp(n), layers, inputs, signal, **running)


def uoro(layers, inputs, signal, noise, **running) -> Result:
    return run(UORO(noise), layers, inputs, signal, **running)


def ostl(layers, inputs, signal, *, with_h=False, route=None, **running) -> Result:
    return run((OSTLWithH if with_h else OSTL)(route=route), layers, inputs, signal, **running)


def sltt(layers, inputs, signal, *, route=None, **running) -> Result:
    return run(SLTT(route=route), layers, inputs, signal, **running)


def ottt(layers, inputs, signal, *, bias_trace=True, route=None, **running) -> Result:
    return run(OTTT(bias_trace, route=route), layers, inputs, signal, **running)


def otpe(layers, inputs, signal, *, next_decay=None, route=None, **running) -> Result:
    return run(OTPE(next_decay, route=route), layers, inputs, signal, **running)


def approximate_otpe(layers, inputs, signal, *, bias_trace=True, next_decay=None, route=None, **running) -> Result:
    return run(ApproximateOTPE(bias_trace, next_decay, route=route), layers, inputs, signal, **running)


def e_prop(layers, inputs, signal, *, kappa=None, route=None, **running) -> Result:
    return run(EProp(kappa, route=route), layers, inputs, signal, **running)


def pp_prop(layers, inputs, signal, *, decay=0.9, route=None, **running) -> Result:
    return run(PPProp(decay, route=route), layers, inputs, signal, **running)


def stllr(
    layers,
    inputs,
    signal,
    *,
    pre_decay,
    post_decay,
    pre=1.0,
    post=-1.0,
    activation=None,
    bias_trace=True,
    route=None,
    **running,
) -> Result:
    rule = STLLR(pre_decay, post_decay, pre, post, activation, bias_trace, route=route)
    return run(rule, layers, inputs, signal, **running)
