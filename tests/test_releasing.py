"""Version, changelog and citation say the same; the workflow tries every Python that the package allows."""

import re
import tomllib
from datetime import date
from pathlib import Path

import yaml

import gradflow as gf

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
RELEASES = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", CHANGELOG, re.M)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == gf.__version__ == str(CITATION["version"])
    assert PROJECT["license"] == CITATION["license"]


def test_the_changelog_ends_where_the_version_is():
    """Before its first release a version has no heading yet; then the newest one is that of the package."""
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.M)
    assert headings[0] == "[Unreleased]"
    assert headings[1:] == [f"[{version}] - {day}" for version, day in RELEASES]
    numbers = [tuple(map(int, version.split("."))) for version, _ in RELEASES]
    assert numbers == sorted(numbers, reverse=True)
    if RELEASES:
        version, day = RELEASES[0]
        assert version == gf.__version__
        assert str(CITATION["date-released"]) == day == date.fromisoformat(day).isoformat()
    else:
        assert "date-released" not in CITATION


def test_the_changelog_has_the_usual_kinds_and_short_lines():
    kinds = re.findall(r"^### (.*)$", CHANGELOG, re.M)
    assert set(kinds) <= KINDS
    assert not [line for line in CHANGELOG.splitlines() if len(line) > 120]


def test_the_workflow_tries_every_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    tried = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    known = [name.rsplit(" ", 1)[1] for name in PROJECT["classifiers"] if name.startswith("Programming Language")]
    assert tried == known
    assert any(step.get("run") == ".ci/run" for step in workflow["jobs"]["test"]["steps"])
