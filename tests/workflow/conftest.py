import pytest
from toy_pipeline import Tree, jobs


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Tree:
    """A tree in which figures/all is made. Only to be looked at."""
    tree = Tree.new(tmp_path_factory.mktemp("built") / "tree")
    tree.set(jobs(a=0, b=0), total=True)
    assert tree.run("figures/all") == 0, tree.said()
    return tree


@pytest.fixture
def tree(built, tmp_path) -> Tree:
    """A copy of the built tree, to be changed."""
    return built.copy(tmp_path / "tree")
