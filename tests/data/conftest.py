"""Settings for the tests of slax_data."""

import pytest

pytest.register_assert_rewrite("contract")
