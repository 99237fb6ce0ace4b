"""What a wheel must hold: the list of packages equals the disk, the pins fit the ranges."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PLACES = {"adapter_hub": "adapter_hub", "adapter_hub.cards": "cards", "adapter_hub.trainers": "trainers"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages_on_disk() -> set[str]:
    found = set()
    for package, folder in PLACES.items():
        for path in (ROOT / folder).rglob("__init__.py"):
            if not any(parent.is_symlink() for parent in path.parents):
                inner = path.parent.relative_to(ROOT / folder).parts
                found.add(".".join((package, *inner)))
    return found


def pins(file: str = "constraints.txt") -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in found.items()}


def requirements(project: dict[str, Any]) -> list[Requirement]:
    extras = project["project"]["optional-dependencies"].values()
    asked = [Requirement(text) for texts in (project["project"]["dependencies"], *extras) for text in texts]
    return [requirement for requirement in asked if requirement.name != project["project"]["name"]]


def test_the_list_of_packages_equals_the_disk(project: dict[str, Any]) -> None:
    assert set(project["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_every_folder_with_modules_is_a_package() -> None:
    bare = [
        path.parent
        for folder in PLACES.values()
        for path in (ROOT / folder).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert not bare


def test_the_links_that_static_tools_follow_are_there() -> None:
    for name in ("cards", "trainers"):
        assert (ROOT / "adapter_hub" / name).is_symlink()
        assert (ROOT / "adapter_hub" / name).resolve() == ROOT / name


def test_the_project_asks_for_ranges_and_pins_them_all_in_constraints(project: dict[str, Any]) -> None:
    known = pins()
    for requirement in requirements(project):
        assert not any(part.operator == "==" for part in requirement.specifier), requirement
        assert requirement.specifier.contains(known[canonicalize_name(requirement.name)]), requirement


def test_the_lowest_versions_that_are_tested_are_the_bounds_that_are_promised(
    project: dict[str, Any],
) -> None:
    lowest = pins("constraints-lowest.txt")
    asked = requirements(project)
    assert set(lowest) == {canonicalize_name(requirement.name) for requirement in asked}
    for requirement in asked:
        bounds = [part.version for part in requirement.specifier if part.operator == ">="]
        assert [Version(bound) for bound in bounds] == [Version(lowest[canonicalize_name(requirement.name)])]


def test_the_suite_runs_with_the_lowest_versions_in_an_environment_of_its_own() -> None:
    said = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = re.findall(r"-c (constraints\S*) -e '\.\[(.*?)\]'", said)
    assert dict(extras).keys() == {"constraints.txt", "constraints-lowest.txt"}
    assert len(set(dict(extras).values())) == 1
    assert ".venv-lowest/bin" in said


def test_torch_is_pinned_without_a_build_and_cuda_is_left_to_it() -> None:
    known = pins()
    assert Version(known["torch"]).local is None
    assert not [name for name in known if re.match("nvidia|cuda|triton", name)]
