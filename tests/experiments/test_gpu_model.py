"""The model of the time on a GPU: by hand for one operation, and the table in the page."""

from pathlib import Path

from benchmarks.gpu_model import BATCH, STEPS, operations, table

PAGE = Path(__file__).parents[2] / "benchmarks/README.md"


def test_page_has_the_table():
    assert table() in PAGE.read_text()


def test_products_and_bytes_by_hand():
    """Eight products of [T B, N] by [N, N], and arrays of 4 T B N bytes."""
    found = list(operations(64, "fused"))
    assert sum(one.products for one in found) == 8 * STEPS * BATCH * 64**2
    array = 4 * STEPS * BATCH * 64
    assert sum(one.bytes for one in found if not one.products) == 3 * (2 + 2 + 3 + 5) * array
    assert sum(one.launches for one in found) == 8 + 3 * 4


def test_launches_of_a_scan_grow_with_time_and_those_of_a_kernel_do_not():
    scan, fused = (sum(one.launches for one in operations(64, kernel)) for kernel in ("scan", "fused"))
    assert scan - fused == 6 * (3 * STEPS - 1)
