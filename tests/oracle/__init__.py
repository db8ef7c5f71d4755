"""Spiking networks and learning rules in plain float64 NumPy, step by step: what the packages are compared with.

It shares no code with the packages and is written for reading, not for speed. Axes: T time, B batch, I/O the inputs and
outputs of a layer, N neurons, S states of a neuron, C outputs of the network, P all parameters. Neurons bring their
derivatives, written out by hand (`neurons`); layers are wired in a chain and by edges (`networks`), through matrices or
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

from oracle.convolution import Convolution as Convolution
from oracle.exact import RTRL as RTRL
from oracle.exact import bptt as bptt
from oracle.local import OSTL as OSTL
from oracle.local import OTPE as OTPE
from oracle.local import OTTT as OTTT
from oracle.local import SLTT as SLTT
from oracle.local import STLLR as STLLR
from oracle.local import ApproximateOTPE as ApproximateOTPE
from oracle.local import EProp as EProp
from oracle.local import OSTLWithH as OSTLWithH
from oracle.local import PerLayer as PerLayer
from oracle.local import PPProp as PPProp
from oracle.networks import Edge as Edge
from oracle.networks import Layer as Layer
from oracle.networks import forward as forward
from oracle.networks import forward_step as forward_step
from oracle.networks import series as series
from oracle.networks import zero_states as zero_states
from oracle.neurons import ALIF as ALIF
from oracle.neurons import BRF as BRF
from oracle.neurons import LI as LI
from oracle.neurons import LIF as LIF
from oracle.neurons import AdLIF as AdLIF
from oracle.neurons import CuBaLIF as CuBaLIF
from oracle.neurons import Dense as Dense
from oracle.neurons import Neuron as Neuron
from oracle.neurons import Step as Step
from oracle.penalties import Penalty as Penalty
from oracle.penalties import PenaltyOfMean as PenaltyOfMean
from oracle.penalties import firing_rate as firing_rate
from oracle.rewards import rewarded as rewarded
from oracle.routes import Direct as Direct
from oracle.routes import Local as Local
from oracle.routes import Matrices as Matrices
from oracle.routes import Symmetric as Symmetric
from oracle.routes import Target as Target
from oracle.rules import approximate_otpe as approximate_otpe
from oracle.rules import e_prop as e_prop
from oracle.rules import ostl as ostl
from oracle.rules import otpe as otpe
from oracle.rules import ottt as ottt
from oracle.rules import pp_prop as pp_prop
from oracle.rules import rtrl as rtrl
from oracle.rules import sltt as sltt
from oracle.rules import snap as snap
from oracle.rules import stllr as stllr
from oracle.rules import tbptt as tbptt
from oracle.rules import uoro as uoro
from oracle.running import Carry as Carry
from oracle.running import Gradients as Gradients
from oracle.running import Result as Result
from oracle.running import advance as advance
from oracle.running import run as run
from oracle.running import start as start
from oracle.signals import linear as linear
from oracle.signals import softmax_cross_entropy as softmax_cross_entropy
from oracle.snap import SnAp as SnAp
from oracle.spikes import SpikeFunction as SpikeFunction
from oracle.spikes import arctan as arctan
from oracle.spikes import fast_sigmoid as fast_sigmoid
from oracle.spikes import heaviside as heaviside
from oracle.spikes import multi_gaussian as multi_gaussian
from oracle.spikes import smooth as smooth
from oracle.uoro import UORO as UORO
