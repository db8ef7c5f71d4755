"""Every rule as one call: rule(layers, inputs [T, B, features...], signal, options) -> `Result`."""

from oracle.exact import RTRL, bptt
from oracle.local import DECOLLE, OSTL, OTPE, OTTT, SLTT, ApproximateOTPE, EProp, OSTLWithH, PPProp
from oracle.running import Result, run
from oracle.snap import SnAp
from oracle.uoro import UORO


def tbptt(layers, inputs, signal, window) -> Result:
    """Truncated backpropagation through time; window 1 keeps nothing of the past."""
    return bptt(layers, inputs, signal, window=window)


def rtrl(layers, inputs, signal, *, carry=None) -> Result:
    return run(RTRL(), layers, inputs, signal, carry=carry)


def snap(layers, inputs, signal, *, n=1, carry=None) -> Result:
    return run(SnAp(n), layers, inputs, signal, carry=carry)


def uoro(layers, inputs, signal, noise, *, carry=None) -> Result:
    return run(UORO(noise), layers, inputs, signal, carry=carry)


def ostl(layers, inputs, signal, *, with_h=False, carry=None) -> Result:
    return run(OSTLWithH() if with_h else OSTL(), layers, inputs, signal, carry=carry)


def sltt(layers, inputs, signal, *, carry=None) -> Result:
    return run(SLTT(), layers, inputs, signal, carry=carry)


def ottt(layers, inputs, signal, *, bias_trace=True, carry=None) -> Result:
    return run(OTTT(bias_trace), layers, inputs, signal, carry=carry)


def otpe(layers, inputs, signal, *, next_decay=None, carry=None) -> Result:
    return run(OTPE(next_decay), layers, inputs, signal, carry=carry)


def approximate_otpe(layers, inputs, signal, *, bias_trace=True, next_decay=None, carry=None) -> Result:
    return run(ApproximateOTPE(bias_trace, next_decay), layers, inputs, signal, carry=carry)


def e_prop(layers, inputs, signal, *, kappa=None, feedback=None, carry=None) -> Result:
    return run(EProp(kappa, feedback), layers, inputs, signal, carry=carry)


def pp_prop(layers, inputs, signal, *, decay=0.9, carry=None) -> Result:
    return run(PPProp(decay), layers, inputs, signal, carry=carry)


def decolle(layers, inputs, signal, readouts, *, carry=None) -> Result:
    return run(DECOLLE(readouts), layers, inputs, signal, carry=carry)
