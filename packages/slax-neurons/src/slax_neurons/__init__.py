"""Spiking neurons, their wiring and their unrolling over time, as Flax NNX cells."""

from importlib.metadata import distributions as _distributions
from types import ModuleType as _ModuleType

from slax_neurons.analysis.complexity import Complexity as Complexity
from slax_neurons.analysis.complexity import complexity as complexity
from slax_neurons.analysis.layer_health import Health as Health
from slax_neurons.analysis.layer_health import LayerHealth as LayerHealth
from slax_neurons.analysis.layer_health import health as health
from slax_neurons.analysis.model_summary import ModuleSummary as ModuleSummary
from slax_neurons.analysis.model_summary import Summary as Summary
from slax_neurons.analysis.model_summary import summary as summary
from slax_neurons.delay import Delay as Delay
from slax_neurons.delay import DelayBuffer as DelayBuffer
from slax_neurons.dropout import Dropout as Dropout
from slax_neurons.edges import Edge as Edge
from slax_neurons.initialization import fluctuation_driven as fluctuation_driven
from slax_neurons.named import Named as _Named
from slax_neurons.neurons.adlif import AdLIF as AdLIF
from slax_neurons.neurons.alif import ALIF as ALIF
from slax_neurons.neurons.brf import BRF as BRF
from slax_neurons.neurons.cortical import AdEx as AdEx
from slax_neurons.neurons.cortical import Izhikevich as Izhikevich
from slax_neurons.neurons.cuba_lif import CuBaLIF as CuBaLIF
from slax_neurons.neurons.event_cuba_lif import EventCuBaLIF as EventCuBaLIF
from slax_neurons.neurons.lif import IF as IF
from slax_neurons.neurons.lif import LI as LI
from slax_neurons.neurons.lif import LIF as LIF
from slax_neurons.neurons.lif import LeakyRate as LeakyRate
from slax_neurons.neurons.lru import LRU as LRU
from slax_neurons.neurons.lru import RTU as RTU
from slax_neurons.neurons.ltc import LTC as LTC
from slax_neurons.neurons.neuron import Neuron as Neuron
from slax_neurons.neurons.neuron import NeuronCell as NeuronCell
from slax_neurons.neurons.neuron import SpikingNeuron as SpikingNeuron
from slax_neurons.neurons.sliding_psn import SlidingPSN as SlidingPSN
from slax_neurons.neurons.steps import parallel_in_time as parallel_in_time
from slax_neurons.neurons.steps import scan_unroll as scan_unroll
from slax_neurons.parameter import POSITIVE as POSITIVE
from slax_neurons.parameter import REAL as REAL
from slax_neurons.parameter import UNIT_INTERVAL as UNIT_INTERVAL
from slax_neurons.parameter import Parameter as Parameter
from slax_neurons.parameter import Trainable as Trainable
from slax_neurons.parameter import time_constant as time_constant
from slax_neurons.surrogates import SURROGATES as SURROGATES
from slax_neurons.surrogates import Surrogate as Surrogate
from slax_neurons.surrogates import arctan as arctan
from slax_neurons.surrogates import boxcar as boxcar
from slax_neurons.surrogates import fast_sigmoid as fast_sigmoid
from slax_neurons.surrogates import gaussian as gaussian
from slax_neurons.surrogates import multi_gaussian as multi_gaussian
from slax_neurons.surrogates import sigmoid as sigmoid
from slax_neurons.surrogates import super_spike as super_spike
from slax_neurons.surrogates import triangular as triangular
from slax_neurons.synapses.block_diagonal import BlockDiagonal as BlockDiagonal
from slax_neurons.synapses.reparameterized import LowRank as LowRank
from slax_neurons.synapses.reparameterized import Masked as Masked
from slax_neurons.synapses.reparameterized import Quantized as Quantized
from slax_neurons.synapses.reparameterized import Standardized as Standardized
from slax_neurons.synapses.running_norm import RunningNorm as RunningNorm
from slax_neurons.synapses.synapse import RunningSum as RunningSum
from slax_neurons.synapses.synapse import Synapse as Synapse
from slax_neurons.synapses.synapse import end_sequence as end_sequence
from slax_neurons.synapses.synapse import with_effective_weights as with_effective_weights
from slax_neurons.unrolling import unroll as unroll
from slax_neurons.wiring import Connect as Connect
from slax_neurons.wiring import connect as connect

NEURONS: _Named[type[NeuronCell]] = _Named({
    "adex": AdEx,
    "adlif": AdLIF,
    "alif": ALIF,
    "brf": BRF,
    "cuba_lif": CuBaLIF,
    "event_cuba_lif": EventCuBaLIF,
    "if": IF,
    "izhikevich": Izhikevich,
    "leaky_rate": LeakyRate,
    "li": LI,
    "lif": LIF,
    "lru": LRU,
    "ltc": LTC,
    "rtu": RTU,
    "sliding_psn": SlidingPSN,
})  # fmt: skip
"""The neurons by name, as in `NEURONS["lif"]()`."""

__version__ = next((found.version for found in _distributions(name="slax-neurons")), "not installed")
__all__ = [name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _ModuleType)]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
