"""`python -m metajax`."""

import sys

from metajax.cli.main import console

if __name__ == "__main__":
    sys.exit(console())
