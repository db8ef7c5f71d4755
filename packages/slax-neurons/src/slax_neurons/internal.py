"""Names that `slax_rules` uses in addition to the public ones. They may change in any version, so import public names."""

from slax_neurons.edges import (
    SYNAPSE_OPTIONS,  # the options of a Linear or Conv, apart from its sizes
)
from slax_neurons.engine import (
    apply_rows,  # a module without a carry on all rows of a chunk
    check_sequence,  # raises for inputs that are not [T, B, features...]
    scan_chunks,  # a function over consecutive pieces of a sequence
    unroll_chunk,  # any module over one chunk
)
from slax_neurons.modules import (
    check_features,  # raises for inputs that a module does not accept
    first_carry,  # the carry of any cell before the first step
    input_struct,  # shape and dtype of a stack's input
    mutates_state,  # whether a call may change the module's variables
)
from slax_neurons.wiring import (
    DelayBuffer,  # the carry of a module that is read late, with its last outputs
    carry_without_buffer,  # the carry of a module, read late or not
    delayed,  # a module's outputs some steps earlier
)

__all__ = [
    "SYNAPSE_OPTIONS",
    "DelayBuffer",
    "apply_rows",
    "carry_without_buffer",
    "check_features",
    "check_sequence",
    "delayed",
    "first_carry",
    "input_struct",
    "mutates_state",
    "scan_chunks",
    "unroll_chunk",
]
