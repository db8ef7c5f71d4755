"""What a learning rule needs from a model in addition to running it: steps, chunks, carries, weights and edges.

`slax_rules` is written with these functions and the names in `slax_neurons`; a rule of your own may use them too. They are
public, and each is documented where it is defined.

* Running a sequence in pieces: `scan_chunks`, `scan_with_sums`, `unroll_chunk`, `apply_rows`, and `scan_steps` for any loop
  over time. A loop over pieces of your own calls `unroll` within `reverse_pass_of_jax(False)`.
* The length of a piece: `StepSize`, `step_size`, `steps_in_cache`, `even_length`, `shortest_memory`.
* Carries: `first_carry`, `carry_without_buffer`, `delayed`, `DelayBuffer` for modules that an edge reads later, `DropoutState`.
* Modules: `is_synapse`, `is_plain`, `effective_synapse` and `SYNAPSE_OPTIONS` for weights; `mutates_state`,
  `changes_when_called`, `accumulates` and `KEY_IN_CARRY` for what a call does besides computing its output.
* Neurons: `scan_cell`, a loop over steps; `push_through_steps`, its derivative at known membranes; `fire_steps`, the results of
  `fire` for all steps; `carries_before`, the carry before each step; `units_are_separate` and `spikes_are_whole`, two laws of
  `check_neuron`.
* Inputs: `check_sequence`, `check_rngs`, `check_features`, `as_shape`, `input_dtype`, `cast_inputs`.
* Names and tables: `Named`, a dictionary with a KeyError that names the closest entry; `aligned`, the lines of a table.

Example:
    The gradient of a sequence with respect to the inputs, in chunks of 10 steps:

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from slax_neurons import LIF, connect
    >>> from slax_neurons.building_blocks import first_carry, scan_chunks, unroll_chunk
    >>> model, inputs = connect([nnx.Linear(8, 3, rngs=nnx.Rngs(0)), LIF()]), jnp.ones((20, 2, 8))
    >>> def spikes(inputs):
    ...     chunk = lambda carry, inputs: unroll_chunk(model, carry, inputs)[:2]
    ...     return scan_chunks(chunk, first_carry(model, inputs.shape[1:]), inputs, 10)[1].sum()
    >>> jax.grad(spikes)(inputs).shape
    (20, 2, 8)
"""

from slax_neurons.analysis.model_summary import aligned as aligned
from slax_neurons.delay import DelayBuffer as DelayBuffer
from slax_neurons.dropout import DropoutState as DropoutState
from slax_neurons.modules import as_shape as as_shape
from slax_neurons.modules import check_features as check_features
from slax_neurons.mutation import KEY_IN_CARRY as KEY_IN_CARRY
from slax_neurons.mutation import changes_when_called as changes_when_called
from slax_neurons.mutation import mutates_state as mutates_state
from slax_neurons.named import Named as Named
from slax_neurons.neurons.steps import carries_before as carries_before
from slax_neurons.neurons.steps import fire_steps as fire_steps
from slax_neurons.neurons.steps import push_through_steps as push_through_steps
from slax_neurons.neurons.steps import scan_cell as scan_cell
from slax_neurons.neurons.steps import scan_steps as scan_steps
from slax_neurons.parameter import check_rngs as check_rngs
from slax_neurons.synapses.synapse import SYNAPSE_OPTIONS as SYNAPSE_OPTIONS
from slax_neurons.synapses.synapse import accumulates as accumulates
from slax_neurons.synapses.synapse import effective_synapse as effective_synapse
from slax_neurons.synapses.synapse import is_plain as is_plain
from slax_neurons.synapses.synapse import is_synapse as is_synapse
from slax_neurons.testing import spikes_are_whole as spikes_are_whole
from slax_neurons.testing import units_are_separate as units_are_separate
from slax_neurons.unrolling import StepSize as StepSize
from slax_neurons.unrolling import apply_rows as apply_rows
from slax_neurons.unrolling import cast_inputs as cast_inputs
from slax_neurons.unrolling import check_sequence as check_sequence
from slax_neurons.unrolling import even_length as even_length
from slax_neurons.unrolling import first_carry as first_carry
from slax_neurons.unrolling import input_dtype as input_dtype
from slax_neurons.unrolling import reverse_pass_of_jax as reverse_pass_of_jax
from slax_neurons.unrolling import scan_chunks as scan_chunks
from slax_neurons.unrolling import scan_with_sums as scan_with_sums
from slax_neurons.unrolling import shortest_memory as shortest_memory
from slax_neurons.unrolling import step_size as step_size
from slax_neurons.unrolling import steps_in_cache as steps_in_cache
from slax_neurons.unrolling import unroll_chunk as unroll_chunk
from slax_neurons.wiring import carry_without_buffer as carry_without_buffer
from slax_neurons.wiring import delayed as delayed
