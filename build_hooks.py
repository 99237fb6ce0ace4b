"""The build's one own step: the catalogue at the top of the tree goes into the package.

`registry.json` lives at the top level, where a reader looks for it, and a wheel holds packages only.
"""

from __future__ import annotations

from pathlib import Path

from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Copy `registry.json` to `adapter_hub/embedded/` of a wheel (an editable install reads the original)."""

    def run(self) -> None:
        """Run setuptools' step, then copy."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "adapter_hub", "embedded", "registry.json")
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file("registry.json", str(target))
