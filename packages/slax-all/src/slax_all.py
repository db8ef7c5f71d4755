"""The distribution slax-all has no code: it installs slax-data, slax-neurons, slax-rules and slax-viz."""
