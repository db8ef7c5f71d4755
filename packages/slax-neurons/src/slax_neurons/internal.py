"""Names that `slax_rules` uses besides the public ones. They may change with any version, so import the public ones instead."""

from slax_neurons.edges import (
    SYNAPSE_OPTIONS,  # the options of a Linear or Conv, besides its sizes
    cycles,  # a stack cut into single modules, and those that a cycle holds together
)
from slax_neurons.engine import (
    apply_rows,  # a module without a carry on all rows of a chunk
    check_sequence,  # raises for inputs that are not [T, B, features...]
    scan_chunks,  # a function over consecutive pieces of a sequence
    unroll_chunk,  # any module over one chunk
)
from slax_neurons.modules import (
    check_features,  # raises for inputs that a module does not take
    first_carry,  # the carry of any cell before the first step
    input_struct,  # shape and dtype of a stack's input
    mutates_state,  # whether a call may change the module's variables
    output_struct,  # shape and dtype of a module's output
)
from slax_neurons.neuron import (
    rematerialize,  # makes the reverse pass of a function recompute all but its arguments
    scan_cell,  # a cell step by step
)
from slax_neurons.parameter import (
    Constant,  # an array of a model that is not trained
    Parameter,  # a number or an array inside its domain
)
from slax_neurons.wiring import (
    DelayBuffer,  # the carry of a module that is read late, with its last outputs
    delayed,  # a module's outputs as they were some steps before
)

__all__ = [
    "SYNAPSE_OPTIONS",
    "Constant",
    "DelayBuffer",
    "Parameter",
    "apply_rows",
    "check_features",
    "check_sequence",
    "cycles",
    "delayed",
    "first_carry",
    "input_struct",
    "mutates_state",
    "output_struct",
    "rematerialize",
    "scan_cell",
    "scan_chunks",
    "unroll_chunk",
]
