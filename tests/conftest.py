"""What the tests share: real images where they are at hand, and a cache of their own."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data():
    """The folder with the real data sets that may lie beside the checkout."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real images at ../shared/data ({folder.name} is absent)")
    return folder


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder, so that a test neither sees nor leaves squared images."""
    monkeypatch.setenv("CHROMOLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
