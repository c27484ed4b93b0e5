"""`python -m patches`: the same as the command `patches`."""

from __future__ import annotations

import sys

from patches.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
