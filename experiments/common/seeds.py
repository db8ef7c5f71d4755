"""The seeds of a job."""

from typing import Any

FIRST_SEED = "first_seed"  # `--set first_seed=2000` takes fresh seeds


def seeds_of(config: dict[str, Any], count: int | None = None) -> range:
    """The seeds of a configuration, or so many of them, from the first one: 0 unless `first_seed` says another."""
    first = config.get(FIRST_SEED, 0)
    return range(first, first + (config["seeds"] if count is None else count))
