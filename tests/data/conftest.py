"""Fixtures for the tests of slax_data."""

import jaxtyping
import pytest

pytest.register_assert_rewrite("contract")


@pytest.fixture
def no_shape_checks():
    """Runs a test as a user does, without the shape annotations being checked, so that it sees our own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
