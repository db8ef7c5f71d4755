"""Spiking neurons, their wiring and their unrolling in time, as Flax NNX cells."""

from slax_neurons.engine import unroll
from slax_neurons.li import LI
from slax_neurons.lif import LIF
from slax_neurons.neuron import Neuron
from slax_neurons.parameter import Trainable
from slax_neurons.surrogates import SURROGATES, Surrogate, arctan, fast_sigmoid, multi_gaussian
from slax_neurons.wiring import Connect, connect

NEURONS: dict[str, type[Neuron]] = {
    "li": LI,
    "lif": LIF,
}

__all__ = [
    "LI",
    "LIF",
    "NEURONS",
    "SURROGATES",
    "Connect",
    "Neuron",
    "Surrogate",
    "Trainable",
    "arctan",
    "connect",
    "fast_sigmoid",
    "multi_gaussian",
    "unroll",
]
