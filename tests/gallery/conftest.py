import pytest
from small_gallery import build, write_small_gallery


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The small gallery with its page and text. Only to be looked at."""
    return build(write_small_gallery(tmp_path_factory.mktemp("small")))
