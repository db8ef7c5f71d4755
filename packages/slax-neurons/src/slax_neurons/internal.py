"""Names that `slax_rules` uses in addition to the public ones. They may change in any version, so import public names."""

from slax_neurons.engine import (
    StepSize,  # the largest array of one step of a model
    apply_rows,  # a module without a carry on all rows of a chunk
    check_sequence,  # raises for inputs that are not [T, B, features...]
    even_length,  # a length of pieces that divides a sequence
    replaced_over_time,  # the functions over time that a neuron's class replaces
    scan_chunks,  # a function over consecutive pieces of a sequence
    scan_with_sums,  # the same for a model with running sums
    step_size,  # the `StepSize` of a model
    steps_in_cache,  # a number of steps that is fast on a CPU
    unroll_chunk,  # any module over one chunk
)
from slax_neurons.kernels import (
    scan_each,  # the same for several arrays of different shapes
    scan_units,  # a recursion that is element-wise in the units, by a scan or a kernel
)
from slax_neurons.modules import (
    changes_when_called,  # whether a call may change the module's variables in any way
    check_features,  # raises for inputs that a module does not accept
    first_carry,  # the carry of any cell before the first step
    input_dtype,  # dtype of a model's input
    mutates_state,  # whether a call may change the module's variables, and so has to see the entire sequence
)
from slax_neurons.synapses.running_sums import (
    accumulates,  # whether calls add to running sums
)
from slax_neurons.synapses.synapse import (
    SYNAPSE_OPTIONS,  # the options of a Linear or Conv, apart from its sizes
    effective_synapse,  # the Linear or Conv with the effective weights of any synapse
    is_plain,  # whether a module is a Linear or a Conv without a mask
    is_synapse,  # whether a module is affine in its input by weights that are known
)
from slax_neurons.wiring import (
    DelayBuffer,  # the carry of a module that is read late, with its last outputs
    carry_without_buffer,  # the carry of a module, read late or not
    delayed,  # a module's outputs some steps earlier
)

__all__ = [
    "SYNAPSE_OPTIONS",
    "DelayBuffer",
    "StepSize",
    "accumulates",
    "apply_rows",
    "carry_without_buffer",
    "changes_when_called",
    "check_features",
    "check_sequence",
    "delayed",
    "effective_synapse",
    "even_length",
    "first_carry",
    "input_dtype",
    "is_plain",
    "is_synapse",
    "mutates_state",
    "replaced_over_time",
    "scan_chunks",
    "scan_each",
    "scan_units",
    "scan_with_sums",
    "step_size",
    "steps_in_cache",
    "unroll_chunk",
]
