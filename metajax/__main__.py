"""`python -m metajax`."""

import sys

from metajax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
