"""Speed of the built-in engine beside its peers: `python tools/bench.py --output bench`."""

import sys

from bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
