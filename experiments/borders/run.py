"""Learn from a stream as in `streaming`, with traces that are cut at the beginning of each sample or run on."""

from experiments.streaming.run import compute

__all__ = ["compute"]
