"""Every rule as one call: rule(layers, inputs [T, B, features...], signal, options) -> `Result`.

Further options of all: `penalties`; of rules by layers: `route`.
"""

from oracle.local import OSTL, OTPE, OTTT, SLTT, STLLR, ApproximateOTPE, EProp, OSTLWithH, PPProp
from oracle.running import run
from oracle.sketched import SketchedRTRL
from oracle.snap import SnAp
from oracle.uoro import UORO


def _call(make):
    """A function of the options of a class and of those of a run."""

    def rule(layers, inputs, signal, *, penalties=(), **options):
        return run(make(**options), layers, inputs, signal, penalties=penalties)

    return rule


snap, sketched_rtrl, uoro = _call(SnAp), _call(SketchedRTRL), _call(UORO)
sltt, ottt, otpe, approximate_otpe = _call(SLTT), _call(OTTT), _call(OTPE), _call(ApproximateOTPE)
e_prop, pp_prop, stllr = _call(EProp), _call(PPProp), _call(STLLR)
ostl = _call(lambda with_h=False, **options: (OSTLWithH if with_h else OSTL)(**options))
