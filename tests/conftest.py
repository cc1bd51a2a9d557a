"""Shared fixtures: where the real data sets lie, and a skip that says so where they are missing; a bug on request."""

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


if mutation := os.environ.get("GRADFLOW_MUTATION"):
    from hypothesis import Phase, settings
    from mutations import MUTATIONS

    MUTATIONS[mutation]()
    settings.register_profile("mutation", phases=(Phase.explicit, Phase.generate))  # that it fails is all one asks
    settings.load_profile("mutation")
