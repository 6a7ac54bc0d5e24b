"""`python -m bert4albert`, the same as the command `bert4albert`."""

import sys

from bert4albert.cli import main

sys.exit(main())
