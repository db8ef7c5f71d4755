"""A step of a contender that runs on PyTorch, which is eager: there is no compiled step and no count of its temporaries.

It runs on a GPU where PyTorch finds one, and waits for its results there.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from benchmarks.side_by_side.workload import Workload

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def tensor(array: np.ndarray, dtype: str = "float32") -> torch.Tensor:
    """An array as a tensor on the device."""
    return torch.from_numpy(array).to(DEVICE, getattr(torch, dtype))


def linears(workload: Workload, scale: float = 1.0) -> list[torch.nn.Linear]:
    """The Linear of each layer, with its weights times a factor."""
    layers = []
    for weight in workload.weights():
        layers.append(torch.nn.Linear(*weight.shape, bias=False))
        layers[-1].weight.data = tensor(weight.T.copy() * scale)
    return layers


class TorchStep:
    """One forward and backward pass.

    Args:
        run: runs the model from rest, adds its gradient to the gradient of the weights, and returns the loss.
        weights: the weights to differentiate, [outputs, inputs] of each layer.
    """

    def __init__(self, run: Callable[[], torch.Tensor], weights: Iterable[torch.nn.Parameter]):
        self.run = run
        self.weights = list(weights)

    @classmethod
    def of(cls, loss: Callable[[], torch.Tensor], weights: Iterable[torch.nn.Parameter]) -> "TorchStep":
        """The step of a loss that is differentiated as a whole."""

        def run() -> torch.Tensor:
            total = loss()
            total.backward()
            return total

        return cls(run, weights)

    def __call__(self) -> torch.Tensor:
        for weight in self.weights:
            weight.grad = None
        loss = self.run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return loss

    def release(self) -> None:
        """Release unused device memory to the contenders whose turn is next."""
        if DEVICE == "cuda":
            torch.cuda.empty_cache()

    def temporary_bytes(self) -> None:
        return None

    def device(self) -> str:
        return torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"

    def peak_device_bytes(self) -> int | None:
        """The peak memory of a separate device so far; None on a CPU."""
        return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None
