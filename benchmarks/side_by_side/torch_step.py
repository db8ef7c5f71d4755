"""A step of a contender that runs on PyTorch, which is eager: there is no compiled step and no count of its temporaries."""

from collections.abc import Callable, Iterable

import numpy as np
import torch


class TorchStep:
    """One forward and backward pass.

    Args:
        run: runs the model from rest, adds the gradient to that of the weights, and returns the loss.
        weights: what the gradient is for, [outputs, inputs] of each layer.
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
        return self.run()

    def gradient(self) -> list[np.ndarray]:
        self()
        return [weight.grad.numpy().T for weight in self.weights]

    def temporary_bytes(self) -> None:
        return None
