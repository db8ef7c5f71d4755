"""Torch modules that stand in for a stack's modules, for NeuroBench's hooks; needs torch, see `neurobench.neurobench_model`."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from jaxtyping import Array
from neurobench.models import NeuroBenchModel
from snntorch import SpikingNeuron

from slax_neurons.neurons.neuron import Neuron
from slax_neurons.wiring import Connect

CONVOLUTIONS: dict[int, Any] = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}


class Replay(torch.nn.Module):
    """A module that returns, call by call, the outputs [T, B, ...] that were loaded into it."""

    def load(self, outputs: np.ndarray, membranes: np.ndarray) -> None:
        self.outputs, self.step = torch.from_numpy(outputs), 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.step += 1
        return self.outputs[self.step - 1]


class ReplayedNeurons(SpikingNeuron):
    """Neurons that return (spikes, membranes) and have a membrane `mem`, as in snnTorch; NeuroBench finds them by their class.

    Neurons that do not spike, such as LI, have no activations to count, and return an empty array in place of spikes.
    """

    def __init__(self, neuron: Neuron):
        torch.nn.Module.__init__(self)  # not SpikingNeuron's __init__, whose buffers would be counted as memory
        self.spiking = neuron.spikes
        self.init_hidden = self.output = True  # snnTorch's flags for keeping the membrane and returning it
        for index, leaf in enumerate(jax.tree.leaves(nnx.state(neuron))):
            self.register_buffer(f"variable_{index}", torch.from_numpy(np.array(leaf)))

    def load(self, outputs: np.ndarray, membranes: np.ndarray) -> None:
        self.outputs, self.membranes, self.step = torch.from_numpy(outputs), torch.from_numpy(membranes), 0
        self.mem = self.membranes[0]

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.step += 1
        self.mem = self.membranes[self.step]
        outputs = self.outputs[self.step - 1]
        return outputs if self.spiking else outputs[:0], self.mem


class ReplayedModel(NeuroBenchModel):
    """A stack as NeuroBench sees it; see `neurobench_model`."""

    def __init__(self, model: Connect):
        super().__init__()
        self.add_activation_module(SpikingNeuron)
        self.model = nnx.clone(model)
        self.net = torch.nn.Sequential(*map(_torch_module, _chain(model))).eval()

    def __net__(self) -> torch.nn.Module:
        return self.net

    def __call__(self, data: torch.Tensor) -> torch.Tensor:
        inputs = jnp.asarray(np.moveaxis(data.numpy(), 1, 0))
        replayed = jax.tree.map(np.array, _run(*nnx.split(self.model), inputs))
        for layer, (outputs, membranes) in zip(self.net, replayed, strict=True):
            if isinstance(layer, Replay | ReplayedNeurons):
                layer.load(outputs, membranes)
        with torch.no_grad():
            for x in data.transpose(0, 1):
                for layer in self.net:
                    x = _called(layer, x)
        return torch.from_numpy(replayed[-1][0]).transpose(0, 1)


def _called(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Apply a layer to x, channels last; hooks see torch's order."""
    if type(layer) in CONVOLUTIONS.values():
        return layer(x.movedim(-1, 1)).movedim(1, -1)
    if isinstance(layer, ReplayedNeurons):
        layer(x)
        return layer.outputs[layer.step - 1]
    return layer(x)


@partial(jax.jit, static_argnums=0)
def _run(graphdef: Any, state: Any, inputs: Array) -> list[tuple[Array, Array]]:
    """The outputs [T, B, ...] of each module of the chain, and for neurons the membranes around each step, [T + 1, ...]."""
    model = nnx.merge(graphdef, state)
    return _outputs(model, model.initialize_carry(inputs.shape[1:]), inputs)


def _outputs(model: Connect, carry: Any, inputs: Array) -> list[tuple[Array, Array]]:
    made = []
    _, outputs = model.outputs(carry, inputs)
    for module, before, current, output in zip(model.modules, carry, (inputs, *outputs[:-1]), outputs, strict=True):
        if isinstance(module, Connect):
            made += _outputs(module, before, current)
        elif isinstance(module, Neuron):
            made.append((output, _membranes(module, before, current)))
        else:
            made.append((output, output))
    return made


def _membranes(neuron: Neuron, carry: Any, currents: Array) -> Array:
    def step(carry: Any, current: Array) -> tuple[Any, Array]:
        after = neuron(carry, current)[0]
        return after, neuron.membrane(after)

    return jnp.concatenate([neuron.membrane(carry)[None], jax.lax.scan(step, carry, currents)[1]])


def _chain(model: Connect) -> Iterator[Any]:
    for module in model.modules:
        if isinstance(module, Connect):
            yield from _chain(module)
        else:
            yield module


def _torch_module(module: Any) -> torch.nn.Module:
    if isinstance(module, Neuron):
        return ReplayedNeurons(module)
    if type(module) is nnx.Linear:
        layer = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
        return _with_weights(layer, module, np.asarray(module.kernel[...]).T)
    if type(module) is nnx.Conv:
        kernel = np.moveaxis(np.asarray(module.kernel[...]), (-1, -2), (0, 1))
        return _with_weights(_convolution(module), module, kernel)
    return Replay()


def _with_weights(layer: Any, module: Any, kernel: np.ndarray) -> torch.nn.Module:
    if kernel.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"neurobench_model got a {type(module).__name__} with weights of {kernel.dtype}, expected float32 or float64: "
            "torch counts operations in the dtype of the weights."
        )
    layer.weight = torch.nn.Parameter(torch.from_numpy(np.array(kernel)))
    if module.bias is not None:
        layer.bias = torch.nn.Parameter(torch.from_numpy(np.array(module.bias[...])))
    return layer


def _convolution(module: nnx.Conv) -> torch.nn.Module:
    axes = len(module.kernel_size)
    strides, dilation, input_dilation = (
        (value,) * axes if isinstance(value, int) else tuple(value or (1,) * axes)
        for value in (module.strides, module.kernel_dilation, module.input_dilation)
    )
    pads = _padding(module, strides, dilation)
    if axes not in CONVOLUTIONS or any(size != 1 for size in input_dilation) or module.mask is not None or pads is None:
        raise ValueError(
            f"neurobench_model got a Conv with kernel_size={module.kernel_size}, strides={module.strides}, "
            f"padding={module.padding!r}, input_dilation={module.input_dilation} and a mask: {module.mask is not None}, "
            "expected one that torch has: 1 to 3 axes, as many zeros before as after, no dilated input and no mask. "
            "slax_neurons.complexity counts all of them."
        )
    return CONVOLUTIONS[axes](
        module.in_features,
        module.out_features,
        module.kernel_size,
        stride=strides,
        padding=pads,
        dilation=dilation,
        groups=module.feature_group_count,
        bias=module.bias is not None,
    )


def _padding(module: nnx.Conv, strides: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...] | None:
    """The number of zeros on each side of each axis; None if the sides differ, or if the number depends on the inputs."""
    reach = [spread * (size - 1) for size, spread in zip(module.kernel_size, dilation, strict=True)]
    padding = module.padding
    if padding == "VALID":
        return (0,) * len(reach)
    if padding == "SAME":
        symmetric = all(stride == 1 for stride in strides) and all(size % 2 == 0 for size in reach)
        return tuple(size // 2 for size in reach) if symmetric else None
    if isinstance(padding, str):
        return None
    sides = [(padding, padding)] * len(reach) if isinstance(padding, int) else list(padding)
    pairs = [(side, side) if isinstance(side, int) else tuple(side) for side in sides]
    return tuple(low for low, _ in pairs) if all(low == high for low, high in pairs) else None
