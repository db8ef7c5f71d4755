# /// script
# requires-python = "==3.11.*"
# dependencies = ["torch==2.13.0", "numpy==2.4.6"]
# ///
"""Writes what the code of SK-RTRL's authors gives on one network, for tests/laws/test_certificates.py.

    uv run --script sketched_rtrl.py FOLDER

FOLDER has their repository, sonaradarcn/sketched-rtrl, at commit bb6055e. All numbers are float64. With J what they carry after
each step, and p the inputs of a unit: its states before, its inputs, and 1:

    kernel [p, n], inputs [T, B, m], delta [T, B, n]    the network, and the derivatives of a loss by its states
    RANK/gradient [p, n]                                sum_t delta_t J_t, the mean over B; their first cut keeps all directions
    RANK/bound [T, B]                                   the Frobenius norm that they give for the error of J
    signs [T, B], kf/gradient                           the same of KF-RTRL, and the sign of a step beside that of its vector
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, sys.argv[1])
from skrtrl import algos, baselines, cells

T, B, M, N = 8, 2, 3, 5
torch.manual_seed(0)
cell = cells.TanhRNNCell(M, N, dtype=torch.float64)
with torch.no_grad():
    for array, size in ((cell.W, 0.6), (cell.U, 1.0), (cell.b, 0.3)):
        array.copy_(size * torch.randn(array.shape, dtype=torch.float64))
inputs, delta = torch.randn(T, B, M, dtype=torch.float64), torch.randn(T, B, N, dtype=torch.float64)
kernel = torch.cat([cell.W, cell.U, cell.b[:, None]], dim=1).T
found = {"kernel": kernel, "inputs": inputs, "delta": delta}
draws, randint = [], torch.randint


def drawn(*arguments, **options):
    draws.append(randint(*arguments, **options))
    return draws[-1]


torch.randint = drawn
rules = {str(rank): algos.SKRTRL(cell, B, r=rank, c=N) for rank in (0, 2, N)} | {"kf": baselines.KFRTRL(cell, B)}
for name, rule in rules.items():
    states, total, bounds = cell.init_state(B), 0, []
    for t in range(T):
        before, states = states, cell(inputs[t], states).detach()
        rule.step_state(*cell.jac_pieces(inputs[t], before, states))
        total = total + rule.grad_rows(delta[t])
        bounds += [rule.e] if name != "kf" else []
    found[f"{name}/gradient"] = total.T
    found |= {f"{name}/bound": torch.stack(bounds)} if bounds else {}
first, second = (2 * torch.stack(draws[which::2])[..., 0] - 1 for which in (0, 1))
found["signs"] = first.cumprod(dim=0) * second
arrays = {name: array.detach().numpy() for name, array in found.items()}
np.savez_compressed(Path(__file__).with_name("sketched_rtrl.npz"), **arrays)
