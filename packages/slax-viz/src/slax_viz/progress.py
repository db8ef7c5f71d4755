"""Progress bars."""

from tqdm import tqdm


def progress(total: int, what: str, unit: str) -> tqdm:
    """A bar that appears after ten seconds, and only in a terminal."""
    return tqdm(total=total, desc=what, unit=unit, delay=10, disable=None)
