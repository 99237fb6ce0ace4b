"""`python -m adapter_hub.cli` is `adapter-hub`."""

from __future__ import annotations

import sys

from adapter_hub.cli import main

if __name__ == "__main__":
    sys.exit(main())
