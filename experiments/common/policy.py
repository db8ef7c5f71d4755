"""What is asked for when the pipeline is started: which peers are timed, and what happens to results of other sources."""

from typing import Any

OUTDATED = ("keep", "remake")
PEERS = {"light": "light", "all": True}  # the `own_environments` of the experiment that times them
KEPT = ("full",)  # scales whose results are shipped: they are older than the sources after each edit


def is_kept(scale: str, outdated: str | None) -> bool:
    """True if such results are used; `outdated` is one of OUTDATED, or None for what is usual at the scale."""
    return outdated == "keep" or (outdated is None and scale in KEPT)


def with_peers(settings: dict[str, Any], peers: str | None) -> dict[str, Any]:
    """The settings of an experiment with the peers that are asked for, one of PEERS; None asks for what the scale says.

    An experiment that times no peers has the same settings in any case.
    """
    if peers is None or "own_environments" not in settings:
        return settings
    return settings | {"own_environments": PEERS[peers]}
