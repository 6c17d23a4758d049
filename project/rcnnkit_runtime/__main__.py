"""`python -m rcnnkit_runtime path`: the folder that, on PYTHONPATH, answers to `import detectron2`."""

import sys

from rcnnkit_runtime import ENGINE_ROOT

USAGE = """usage: python -m rcnnkit_runtime path

PYTHONPATH="$(python -m rcnnkit_runtime path)" python your_detectron2_project.py"""


def main(arguments: list[str]) -> int:
    if arguments == ["path"]:
        print(ENGINE_ROOT)
        return 0
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
