"""`python -m fastfeed` is the `fastfeed` command."""

import sys

from fastfeed.cli.main import main

# Guarded: worker processes of `convert` import this module again, and must not start a command of their own.
if __name__ == "__main__":
    sys.exit(main())
