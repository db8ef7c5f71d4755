"""The picture of the rooms is that of the code."""

import pytest

from docs.architecture_picture import PACKAGES, PICTURE, floors, imports, picture


def test_the_picture_is_current():
    assert PICTURE.read_text() == picture(), "python docs/architecture_picture.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_on_a_floor_and_imports_lower_ones_alone(package):
    height = {room: number for number, floor in enumerate(reversed(floors(package))) for room in floor}
    found = imports(package)
    assert {room for pair in found for room in pair} <= set(height)
    assert all(height[upper] > height[lower] for upper, lower in found)
