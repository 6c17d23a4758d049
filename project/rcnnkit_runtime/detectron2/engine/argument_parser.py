"""The command line that every training script shares."""

import argparse
import os
import sys

_FIRST_DYNAMIC_PORT = 49152  # IANA's range for private use


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The parser of `train_net.py`; scripts add arguments of their own to it.

    Args:
        epilog: text below the list of options; examples by default.
    """
    parser = argparse.ArgumentParser(
        epilog=epilog or _examples(sys.argv[0]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="config file (YAML)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from OUTPUT_DIR's last checkpoint if there is one, at the iteration after it",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, do not train")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs, and so processes, *per machine*")
    parser.add_argument("--num-machines", type=int, default=1, help="machines in all")
    parser.add_argument("--machine-rank", type=int, default=0, help="rank of this machine, from 0, each its own")
    # Users of one machine get different ports. Orphans of a killed job keep theirs, hence no random one by default.
    user = os.getuid() if hasattr(os, "getuid") else 1
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{_FIRST_DYNAMIC_PORT + user % 2**14}",
        help="where the processes meet, tcp://host:port, or auto for a free port on one machine",
    )
    parser.add_argument(
        "opts",
        default=None,
        nargs=argparse.REMAINDER,
        help="changes to the config at the end of the command: PATH.KEY VALUE pairs, separated by spaces",
    )
    return parser


def _examples(program: str) -> str:
    return f"""
Examples:

One machine:
    $ {program} --num-gpus 8 --config-file cfg.yaml

Changed options:
    $ {program} --config-file cfg.yaml MODEL.WEIGHTS /path/to/weight.pth SOLVER.BASE_LR 0.001

Several machines:
    (machine0)$ {program} --machine-rank 0 --num-machines 2 --dist-url <URL> [--other-flags]
    (machine1)$ {program} --machine-rank 1 --num-machines 2 --dist-url <URL> [--other-flags]
"""
