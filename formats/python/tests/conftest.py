import pathlib
import sys

import pytest

FIXTURES = pathlib.Path(__file__).resolve().parents[3] / "fixtures"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


@pytest.fixture
def write(tmp_path):
    """Writes bytes to a file and gives its path."""
    def write(data, name="model.otq"):
        path = tmp_path / name
        path.write_bytes(data)
        return path
    return write


@pytest.fixture(scope="session")
def fixtures():
    return FIXTURES
