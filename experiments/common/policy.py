"""What happens to results that are intact but were made from other sources than the present ones."""

OUTDATED = ("keep", "remake")
KEPT = ("full",)  # scales whose results are shipped: they are older than the sources after each edit


def is_kept(scale: str, outdated: str | None) -> bool:
    """True if such results are used; `outdated` is one of OUTDATED, or None for what is usual at the scale."""
    return outdated == "keep" or (outdated is None and scale in KEPT)
