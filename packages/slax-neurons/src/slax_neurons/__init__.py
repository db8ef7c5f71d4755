"""Spiking neurons, their wiring and their unrolling over time, as Flax NNX cells."""

from slax_neurons.analysis.complexity import Complexity, complexity
from slax_neurons.analysis.health_check import health
from slax_neurons.analysis.health_report import Health, LayerHealth
from slax_neurons.analysis.model_summary import ModuleSummary, Summary, summary
from slax_neurons.delay import Delay
from slax_neurons.dropout import Dropout
from slax_neurons.edges import Edge
from slax_neurons.engine import unroll
from slax_neurons.initialization import fluctuation_driven
from slax_neurons.neurons.adlif import AdLIF
from slax_neurons.neurons.alif import ALIF
from slax_neurons.neurons.brf import BRF
from slax_neurons.neurons.cuba_lif import CuBaLIF
from slax_neurons.neurons.li import LI
from slax_neurons.neurons.lif import IF, LIF
from slax_neurons.neurons.ltc import LTC
from slax_neurons.neurons.neuron import Neuron
from slax_neurons.neurons.neuron_cell import NeuronCell
from slax_neurons.neurons.spiking import SpikingNeuron
from slax_neurons.parameter import POSITIVE, REAL, UNIT_INTERVAL, Parameter, Trainable, time_constant
from slax_neurons.surrogates import (
    SURROGATES,
    Surrogate,
    arctan,
    boxcar,
    fast_sigmoid,
    gaussian,
    multi_gaussian,
    sigmoid,
    super_spike,
    triangular,
)
from slax_neurons.synapses.block_diagonal import BlockDiagonal
from slax_neurons.synapses.effective_model import with_effective_weights
from slax_neurons.synapses.low_rank import LowRank
from slax_neurons.synapses.masked import Masked
from slax_neurons.synapses.quantized import Quantized
from slax_neurons.synapses.running_norm import RunningNorm
from slax_neurons.synapses.running_sums import RunningSum, end_sequence
from slax_neurons.synapses.standardized import Standardized
from slax_neurons.synapses.synapse import Synapse
from slax_neurons.wiring import Connect, DelayBuffer, connect

NEURONS: dict[str, type[NeuronCell]] = {
    "adlif": AdLIF,
    "alif": ALIF,
    "brf": BRF,
    "cuba_lif": CuBaLIF,
    "if": IF,
    "li": LI,
    "lif": LIF,
    "ltc": LTC,
}
"""The neurons by name, as in `NEURONS["lif"]()`."""

__all__ = [
    "ALIF",
    "BRF",
    "IF",
    "LI",
    "LIF",
    "LTC",
    "NEURONS",
    "POSITIVE",
    "REAL",
    "SURROGATES",
    "UNIT_INTERVAL",
    "AdLIF",
    "BlockDiagonal",
    "Complexity",
    "Connect",
    "CuBaLIF",
    "Delay",
    "DelayBuffer",
    "Dropout",
    "Edge",
    "Health",
    "LayerHealth",
    "LowRank",
    "Masked",
    "ModuleSummary",
    "Neuron",
    "NeuronCell",
    "Parameter",
    "Quantized",
    "RunningNorm",
    "RunningSum",
    "SpikingNeuron",
    "Standardized",
    "Summary",
    "Surrogate",
    "Synapse",
    "Trainable",
    "arctan",
    "boxcar",
    "complexity",
    "connect",
    "end_sequence",
    "fast_sigmoid",
    "fluctuation_driven",
    "gaussian",
    "health",
    "multi_gaussian",
    "sigmoid",
    "summary",
    "super_spike",
    "time_constant",
    "triangular",
    "unroll",
    "with_effective_weights",
]
