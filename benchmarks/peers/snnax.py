# /// script
# requires-python = ">=3.11"
# dependencies = ["snnax==0.0.1", "jax==0.10.2", "equinox==0.13.8", "numpy"]
#
# [tool.benchmark.variants.bptt]
# default = {}
#
# [tool.benchmark.neurons]
# all = { equation = "subtract", differs = "not known: it cannot be imported" }
# ///
"""snnax: the wheel of its only release does not import, because two of its modules import each other.

If it did, the neuron would be `SimpleLIF` and the loop would come from `snnax.snn`.
"""

import snnax.snn  # noqa: F401 the attempt
