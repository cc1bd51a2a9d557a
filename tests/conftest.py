"""Shared fixtures: where the real data sets lie, and a skip that says so where they are missing."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("GRADFLOW_SHARED", Path(__file__).parents[2] / "shared")) / "data"


@pytest.fixture
def shared_data() -> Path:
    """Folder of the real data sets (set GRADFLOW_SHARED to move it)."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real data sets, which are not at {SHARED} (set GRADFLOW_SHARED)")
    return SHARED
