"""`python -m adapter_hub` is `adapter-hub`."""

import sys

from adapter_hub.cli import main

sys.exit(main())
