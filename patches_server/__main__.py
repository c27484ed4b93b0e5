"""`python -m patches_server`: the same as the command `patches-server`."""

from __future__ import annotations

import sys

from patches_server.cli.main import main

sys.exit(main())
