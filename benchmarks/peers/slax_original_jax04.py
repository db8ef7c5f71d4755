# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#   "slax==0.0.1", "jax==0.4.25", "jaxlib==0.4.25", "flax==0.8.2", "numpy<2", "scipy<1.13", "orbax-checkpoint==0.5.18"
# ]
#
# [tool.benchmark.variants.rules]
# ottt = {}
# ostl = {}
# ///
"""slax 0.0.1 on the JAX of its time, where its rules run: see `slax_original`, whose file describes them."""

from benchmarks.peers.slax_original import rules

__all__ = ["rules"]
