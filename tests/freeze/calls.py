"""The names of the packages that the frozen numbers are made with: where one changes, this file changes, and no number."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import LI as LI
from slax_neurons import LIF as LIF
from slax_neurons import Connect as Connect
from slax_neurons import Dropout as Dropout
from slax_neurons import Edge as Edge
from slax_neurons import Trainable as Trainable
from slax_neurons import connect as connect
from slax_rules import BPTT as BPTT
from slax_rules import OSTL as OSTL
from slax_rules import OTPE as OTPE
from slax_rules import OTTT as OTTT
from slax_rules import RTRL as RTRL
from slax_rules import RULES as RULES
from slax_rules import SLTT as SLTT
from slax_rules import Checkpoints as Checkpoints
from slax_rules import Every as Every
from slax_rules import Penalty as Penalty
from slax_rules import PerLayer as PerLayer
from slax_rules import Sampler as Sampler
from slax_rules import SequenceLoss as SequenceLoss
from slax_rules import cross_entropy as cross_entropy
from slax_rules import extend_stream as extend_stream
from slax_rules import extend_trial as extend_trial
from slax_rules import firing_rate as firing_rate
from slax_rules import fit as fit
from slax_rules import fptt as fptt
from slax_rules import gradients as gradients
from slax_rules import reward_gradient as reward_gradient
from slax_rules import start_stream as start_stream
from slax_rules import start_trial as start_trial


def per_layer(rules: list[Any]) -> Any:
    """A rule for each layer."""
    return PerLayer(rules)


def numbers_of(model: Connect) -> dict[str, np.ndarray]:
    """The parameters of a stack of Linear and neurons, by module and name, and not by how the packages keep them."""
    found = {}
    for index, module in enumerate(model.modules):
        if isinstance(module, nnx.Linear):
            found |= {f"{index}.kernel": module.kernel[...], f"{index}.bias": module.bias[...]}
        elif isinstance(module, LIF | LI):
            found |= {f"{index}.decay": module.decay.value}
    for index, edge in enumerate(model.synapses):
        found |= {f"edge{index}.kernel": edge.kernel[...], f"edge{index}.bias": edge.bias[...]}
    return {name: np.asarray(value, float) for name, value in found.items()}


def rule_numbers(rule: Any) -> dict[str, np.ndarray]:
    """The parameters of a rule, such as those of adaptive feedback."""
    leaves = jax.tree.leaves(nnx.state(rule, nnx.Param))
    return {f"rule{index}": np.asarray(jnp.asarray(leaf), float) for index, leaf in enumerate(leaves)}
