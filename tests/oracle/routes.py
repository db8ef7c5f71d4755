"""Routes: how a signal, the derivative of the loss of this step by a layer's outputs, gets to the layers.

What a layer hands to a route is its cotangent: the derivative by the layer's current as the rule has it, the signal times a
factor. A kernel, those of edges too, brings to its receiver what its sender put out in the same step; what an edge carries
from the past is a number. So signals take the chain and the edges without a delay, and no others; of inputs with learned
delays, they take the share that arrives in the same step.
"""

from dataclasses import replace

import numpy as np

from oracle.running import signals_of_outputs


class Route:
    """Base: the loss is that of the outputs, and signals come down from layer to layer."""

    def signals(self, steps, signal, t):
        """Losses [B], and per layer the part of the signal that does not come from other layers."""
        return signals_of_outputs(steps, signal)

    def below(self, layers, index, cotangent) -> list[tuple[int, np.ndarray]]:
        """What a layer's cotangent [B, N] is to others: their indices, and the signals [B, N] that they get."""
        signals = []
        for prefix, edge in layers[index].connections(index).items():
            if edge.delay == 0 and edge.sender >= 0:
                share = edge.weights_of_lags().get(0, (0.0, 0.0))[0]
                signals.append((edge.sender, (cotangent @ self.matrix(index, prefix, edge).T) * share))
        return signals

    def matrix(self, index, prefix, edge):
        """[I, N], what stands for a kernel on the way down."""
        raise NotImplementedError


class Symmetric(Route):
    """signal below = cotangent W^T, the transposed kernels themselves."""

    def matrix(self, index, prefix, edge):
        return edge.matrix()


class Matrices(Route):
    """signal below = cotangent B^T with a matrix in place of each kernel: random and adaptive feedback.

    kernels: per layer, by the name of the kernel that each stands for, "kernel" or "edge0_kernel", in its shape; the first
    layer needs none. Adaptive ones are changed by the gradients of the kernels in whose place they are.
    """

    def __init__(self, kernels):
        self.kernels = kernels

    def matrix(self, index, prefix, edge):
        return replace(edge, kernel=self.kernels[index][f"{prefix}kernel"]).matrix()


class ToHidden(Symmetric):
    """Base: layers below the top have signals of their own, and none from layers above; not over edges either.

    There is a matrix for each of them, the lowest layer first; the lowest layer without a matrix is the top. It and the
    layers above it, if any, have the loss of the outputs, and signals among themselves as with `Symmetric`.
    """

    def __init__(self, matrices):
        self.matrices = [np.asarray(matrix, np.float64) for matrix in matrices]
        self.top = len(self.matrices)

    def below(self, layers, index, cotangent):
        return [(sender, part) for sender, part in super().below(layers, index, cotangent) if sender >= self.top]


class Direct(ToHidden):
    """signal = e B^T with B [N, C] and the cotangent e [B, C] of the last layer: the error of an LI or of synapses alone
    itself, psi signal of an LIF."""

    def below(self, layers, index, cotangent):
        last = index == len(layers) - 1
        direct = [(hidden, cotangent @ B.T) for hidden, B in enumerate(self.matrices)] if last else []
        return direct + super().below(layers, index, cotangent)


class Target(ToHidden):
    """signal = y* B^T / batch with B [N, C] and the targets y* [B, C], those of one step if given for each, [T, B, C].

    They are divided as the derivatives of the loss are, which is a mean over samples.
    """

    def __init__(self, matrices, targets):
        super().__init__(matrices)
        self.targets = np.asarray(targets, np.float64)

    def signals(self, steps, signal, t):
        losses, signals = super().signals(steps, signal, t)
        y = self.targets[t] if self.targets.ndim == 3 else self.targets
        return losses, [*(y @ B.T / len(y) for B in self.matrices), *signals[self.top :]]


class Local(ToHidden):
    """Each layer below the top has the loss of its read-out s Q, with Q [N, C], in place of the outputs.

    The loss reported is that of the outputs alone.
    """

    def signals(self, steps, signal, t):
        losses, signals = super().signals(steps, signal, t)
        hidden = [
            signal(step.output @ Q)[1] @ Q.T / len(step.output) for step, Q in zip(steps, self.matrices, strict=False)
        ]
        return losses, [*hidden, *signals[self.top :]]
