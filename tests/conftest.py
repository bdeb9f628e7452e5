from collections.abc import Iterator

import pytest

from tests.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole local stack with our tables in it, once for all tests that ask for it."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running
