"""The null of the variance that two directions explain: random walks with the step lengths of the checkpoints.

A few checkpoints have most of their variance along two directions even if each step goes its own way (Antognini and
Sohl-Dickstein 2018, arXiv 1806.08805). The null has a walk for each rule, from the start that they share. Its steps are as long
as the rule's steps from checkpoint to checkpoint, and their directions are uniform in the space of all parameters.
"""

from collections.abc import Mapping, Sequence

import numpy as np

WALKS = 1000  # for each seed


def lengths_of(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The length of each step of a rule, [seeds, steps], from its checkpoints, [seeds, checkpoints, ...] by path."""
    squares = [np.square(np.diff(of.astype(float), axis=1)) for of in arrays.values()]
    return np.sqrt(sum(of.reshape(*of.shape[:2], -1).sum(axis=-1) for of in squares))


def explained_by_walks(lengths: Sequence[np.ndarray], dimensions: int, seed: int) -> np.ndarray:
    """The shares of variance along the first two principal directions, in each of `WALKS` draws, [walks, 2].

    Gaussian vectors g_1, ..., g_k in D dimensions have, in an orthonormal basis of their own span, the coordinates of a lower
    triangular matrix: the i-th has chi(D - i + 1) on the diagonal and normal numbers before it. So no vector of D numbers is
    drawn.

    Args:
        lengths: for each rule those of its steps.
        dimensions: D, the number of parameters, not below the number of all steps.
        seed: of the draws.
    """
    random, count = np.random.default_rng(seed), sum(map(len, lengths))
    steps = np.tril(random.standard_normal((WALKS, count, count)), -1)
    steps[:, range(count), range(count)] = np.sqrt(random.chisquare(dimensions - np.arange(count), (WALKS, count)))
    steps *= np.concatenate(lengths)[:, None] / np.linalg.norm(steps, axis=-1, keepdims=True)
    walks = np.split(steps, np.cumsum([*map(len, lengths)])[:-1], axis=1)
    points = np.concatenate([np.pad(walk.cumsum(axis=1), ((0, 0), (1, 0), (0, 0))) for walk in walks], axis=1)
    points -= points.mean(axis=1, keepdims=True)
    variances = np.linalg.eigvalsh(points.swapaxes(1, 2) @ points)
    return variances[:, :-3:-1] / variances.sum(axis=1, keepdims=True)
