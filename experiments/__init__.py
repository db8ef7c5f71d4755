"""The experiments, which can also be run by hand on a machine that has only JAX, Flax, Optax, matplotlib and numpy.

    python -m experiments.run accuracy randman/bptt

On such a machine the packages of this checkout are used, and stand-ins, last on the path, replace missing dependencies.
`SLAX_IMPORTS=slax_my_rule` imports modules of yours, separated by spaces, which add to RULES, NEURONS, DATASETS or ENCODERS.
"""

import importlib.util
import os
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]

if importlib.util.find_spec("slax_rules") is None:
    sys.path += [str(source) for source in sorted(_ROOT.glob("packages/*/src"))]
if any(importlib.util.find_spec(name) is None for name in ("jaxtyping", "tqdm")):
    sys.path.append(str(_ROOT / "experiments" / "common" / "stand_ins"))
for _module in os.environ.get("SLAX_IMPORTS", "").split():
    importlib.import_module(_module)
