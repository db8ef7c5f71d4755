# /// script
# requires-python = ">=3.12"
# dependencies = ["slax-neurons", "slax-rules", "jax==0.12.0.1", "flax==0.12.12"]
#
# [tool.benchmark]
# editable = ["packages/slax-neurons", "packages/slax-rules"]
#
# [tool.benchmark.variants.rules]
# bptt = {}
# ottt = {}
# pp_prop = {}
# ostl = {}
# ostl_window_32 = {}
# ostl_window_128 = {}
# ///
"""This repository on the JAX of braintrace, for ratios on one version: see `slax`."""

from benchmarks.peers.slax import rules

__all__ = ["rules"]
