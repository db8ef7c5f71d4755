# /// script
# requires-python = ">=3.12"
# dependencies = ["slax-neurons", "slax-rules", "jax==0.11.2", "flax==0.12.12"]
#
# [tool.benchmark]
# editable = ["packages/slax-neurons", "packages/slax-rules"]
#
# [tool.benchmark.variants.rules]
# bptt = {}
# ottt = {}
# e_prop = {}
# ///
"""This repository on the JAX of sparx, for ratios on one version: see `slax`."""

from benchmarks.peers.slax import rules

__all__ = ["rules"]
