import pytest
from tree import Tree, new_tree


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Tree:
    """A tree in which figures/all is made. Only to be looked at."""
    tree = new_tree(tmp_path_factory.mktemp("built") / "tree")
    tree.output_of("snakemake", "figures/all")
    return tree


@pytest.fixture
def tree(built, tmp_path) -> Tree:
    """A copy of the built tree, to be changed."""
    return built.copy(tmp_path / "tree")
