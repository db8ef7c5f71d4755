"""Losses of one step, as signals: (t, outputs [B, C]) -> (losses [B], their derivatives by the outputs [B, C])."""

import numpy as np


def softmax_cross_entropy(labels):
    """Signal of integer labels [B], or [T, B]."""
    labels = np.asarray(labels)

    def signal(t, outputs):
        targets = labels if labels.ndim == 1 else labels[t]
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        one_hot = np.eye(outputs.shape[1])[targets]
        return -(one_hot * log_probabilities).sum(axis=1), np.exp(log_probabilities) - one_hot

    return signal


def linear(weights):
    """Signal of the loss weights . outputs; weights [T, B, C]."""
    return lambda t, outputs: ((weights[t] * outputs).sum(axis=1), weights[t])
