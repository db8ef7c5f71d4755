import sys

import pytest
from small_gallery import write_small_gallery

from gallery import __main__ as command


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The small gallery with its page and text. Only to be looked at."""
    small = write_small_gallery(tmp_path_factory.mktemp("small"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gallery", *small.options()])
        command.main()
    return small
