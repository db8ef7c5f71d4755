"""Spiking networks and learning rules in plain float64 NumPy, step by step: what the packages are compared with.

It shares no code with the packages and is written for reading, not for speed. Axes: T time, B batch, I/O the inputs and
outputs of a layer, N neurons, S states of a neuron, C outputs of the network, P all parameters. Neurons are their equations,
whose derivatives are complex steps (`neurons`); layers are wired in a chain and by edges (`networks`), through matrices or
convolutions, with delays that may be learned (`delays`); rules that need no future take one step at a time (`running`).
Of rules by layers (`local`), a route brings the signal to each layer (`routes`). Layers may have losses of their own
(`penalties`), and what a rule finds may have to wait for a reward (`rewards`).

The loss is the mean over T and B of one loss per step and sample; a *signal* is a function (t, outputs [B, C]) -> (losses
[B], their derivatives with respect to the outputs [B, C]).

    layers = [
        Layer(kernel, bias, LIF(decay=0.9), edges=(Edge(sender=0, delay=1, kernel=recurrent, bias=None),)),
        Layer(kernel, bias, LI(decay=0.9)),
    ]
    result = bptt(layers, inputs, softmax_cross_entropy(labels))
    result.gradients[0]["kernel"], result.gradients[0]["decay"], result.gradients[0]["edge0_kernel"]
"""

from oracle.convolution import Convolution  # noqa: F401
from oracle.exact import bptt  # noqa: F401
from oracle.local import OSTL, OTPE, OTTT, SLTT, STLLR, ApproximateOTPE, EProp, OSTLWithH, PerLayer, PPProp  # noqa: F401
from oracle.networks import Edge, Layer, forward, forward_step, series, zero_states  # noqa: F401
from oracle.neurons import ALIF, BRF, LI, LIF, AdEx, AdLIF, CuBaLIF, Dense, Izhikevich, LeakyRate, Neuron, Step  # noqa: F401
from oracle.penalties import Penalty, own_losses  # noqa: F401
from oracle.rewards import rewarded  # noqa: F401
from oracle.routes import Direct, Local, Matrices, Symmetric, Target  # noqa: F401
from oracle.rules import approximate_otpe, e_prop, ostl, otpe, ottt, pp_prop, sketched_rtrl, sltt, snap, stllr, uoro  # noqa: F401
from oracle.running import Carry, Gradients, Result, advance, run, start  # noqa: F401
from oracle.signals import linear, softmax_cross_entropy  # noqa: F401
from oracle.sketched import SketchedRTRL  # noqa: F401
from oracle.snap import SnAp  # noqa: F401
from oracle.spikes import SpikeFunction, arctan, fast_sigmoid, heaviside  # noqa: F401
from oracle.uoro import UORO  # noqa: F401
