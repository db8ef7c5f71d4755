"""A step of a contender that runs on PyTorch, which is eager: there is no compiled step and no count of its temporaries."""

from collections.abc import Callable, Iterable

import torch


class TorchStep:
    """One forward and backward pass.

    Args:
        loss: runs the model from rest and returns the loss.
        weights: what the gradient is for.
    """

    def __init__(self, loss: Callable[[], torch.Tensor], weights: Iterable[torch.nn.Parameter]):
        self.loss = loss
        self.weights = list(weights)

    def __call__(self) -> torch.Tensor:
        for weight in self.weights:
            weight.grad = None
        loss = self.loss()
        loss.backward()
        return loss

    def temporary_bytes(self) -> None:
        return None
