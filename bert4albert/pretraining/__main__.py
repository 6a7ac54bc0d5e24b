"""`python -m bert4albert.pretraining`: the commands of this package alone."""

import sys

from bert4albert.pretraining.command import main

if __name__ == "__main__":
    sys.exit(main())
