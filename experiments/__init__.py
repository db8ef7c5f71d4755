"""The experiments, which can also be run by hand: `python -m experiments.run accuracy randman/bptt`.

Where the packages are not installed, those of this checkout are used.
`SLAX_IMPORTS=slax_my_rule` imports modules of yours, separated by spaces, which add to RULES, NEURONS, DATASETS or ENCODERS.
"""

import importlib.util
import os
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]

if importlib.util.find_spec("slax_rules") is None:
    sys.path += [str(source) for source in sorted(_ROOT.glob("packages/*/src"))]
for _module in os.environ.get("SLAX_IMPORTS", "").split():
    importlib.import_module(_module)
