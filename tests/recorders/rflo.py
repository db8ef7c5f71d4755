"""Record what the author of RFLO computes for one sequence of a small network: `rflo.py SOURCES`.

The network begins at rest, 12 steps of 3 inputs, 5 units and 2 outputs, float64. A change of weights is for a rate of 1: minus
the gradient of the halved squared error, summed over the outputs and the steps, and divided by the number of steps.
"""

import json
import sys
from pathlib import Path

import numpy as np

T, INPUTS, UNITS, OUTPUTS, TAU = 12, 3, 5, 2, 4.0

cells = json.loads(Path(sys.argv[1], "RFLO_Example.ipynb").read_text(encoding="utf-8"))["cells"]
code = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
code = "\n".join(line for line in code.splitlines() if "matplotlib" not in line)
scope: dict = {}
exec(code, scope)  # the classes of the notebook

np.random.seed(0)
network = scope["RNN"](INPUTS, UNITS, OUTPUTS, np.zeros(UNITS), TAU)
network.w_in, network.w_out = 10 * network.w_in, 10 * network.w_out
inputs, targets = np.random.randn(T, INPUTS), np.random.randn(T, OUTPUTS)
inputs[0] = 0  # the code's first step only sets the traces
names = ("w_in", "w_rec", "w_out")
arrays = {name: getattr(network, name) for name in (*names, "b")} | {"inputs": inputs, "targets": targets, "tau": TAU}
arrays["outputs"], *_ = network.run_trial(inputs, targets, [1.0] * 3, learning="rflo")
arrays |= {f"change_{name}": getattr(network, name) - arrays[name] for name in names}
np.savez_compressed(Path(__file__).with_name("rflo.npz"), **arrays)
