"""The console script `rcnnkit`. It stands outside the package so that a broken engine is one line, not a traceback."""

import sys


def main() -> int:
    try:
        import rcnnkit.cli.main
    except ImportError as error:
        print(f"rcnnkit: {error}", file=sys.stderr)
        return 2
    return rcnnkit.cli.main.main()
