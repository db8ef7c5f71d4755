"""An adapter to NeuroBench's own harness, whose hooks inspect torch modules; needs `slax-neurons[neurobench]`.

    model = neurobench_model(stack)
    Benchmark(model, loader, [], [ChooseMaxCount()], [[Footprint], [SynapticOperations]]).run()

`slax_neurons.complexity` counts the same without torch, and accepts more kinds of stacks.

References:
    Yik et al.: The NeuroBench framework for benchmarking neuromorphic computing algorithms and systems, 2025,
    doi 10.1038/s41467-025-56739-4.
"""

from typing import Any

import jax
from flax import nnx

from slax_neurons.neurons.neuron import Neuron
from slax_neurons.synapses.effective_model import with_effective_weights
from slax_neurons.wiring import Connect


def neurobench_model(model: Any) -> Any:
    """Wrap a stack as a `neurobench.models.NeuroBenchModel`.

    Its `__net__()` is a torch Sequential of Linear and Conv with the stack's weights, and of neurons that replay the outputs of
    the jitted stack: the numbers come from JAX, and NeuroBench's hooks count them. When called with data [B, T, ...], it
    returns the outputs [B, T, ...] as tensors. Features of a convolution come last in both, as in Flax.

    Args:
        model: a chain of synapses, neurons and modules without parameters; nested stacks are flattened. A copy is
            made here, with effective weights: later changes to the model have no effect.

    Raises:
        ImportError: NeuroBench, snnTorch or torch is missing.
        TypeError: edges, cells other than a `Neuron`, or other modules with parameters: a chain of torch modules has none.
        ValueError: a convolution that torch does not have, or weights that are neither float32 nor float64.
    """
    if not isinstance(model, Connect):
        raise TypeError(f"neurobench_model got {type(model).__name__}, expected a stack. Make one: connect([...]).")
    model = with_effective_weights(model)
    _check_chain(model)
    try:
        from slax_neurons.analysis.replay import ReplayedModel
    except ImportError as error:
        raise ImportError(
            "NeuroBench's harness needs neurobench, snntorch and torch. Install them: pip install 'slax-neurons[neurobench]'. "
            "slax_neurons.complexity needs none of them."
        ) from error
    return ReplayedModel(model)


def _check_chain(model: Connect) -> None:
    if model.edges:
        edge = model.edges[0]
        raise TypeError(
            f"neurobench_model got a stack with an edge from {edge.sender} to {edge.receiver}, which a chain of torch modules "
            "cannot have. slax_neurons.complexity counts edges."
        )
    for index, module in enumerate(model.modules):
        if isinstance(module, Connect):
            _check_chain(module)
        elif isinstance(module, Neuron) or type(module) in (nnx.Linear, nnx.Conv):
            continue
        elif isinstance(module, nnx.RNNCellBase) or jax.tree.leaves(nnx.state(module)):
            raise TypeError(
                f"neurobench_model got {type(module).__name__} as module {index}, expected Linear, Conv, a Neuron such as LIF, "
                "or a module without variables: NeuroBench would not count what is inside it."
            )
