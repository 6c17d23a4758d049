"""The processes of a run: started here or by torchrun, and which of them tells a person what is wrong."""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from torch.multiprocessing import ProcessExitedException

from detectron2.engine import launch
from detectron2.utils import comm
from rcnnkit.errors import UserError

SECONDS_FOR_THE_MAIN_PROCESS = 20  # to end and to be noticed by the launcher, on a busy machine


def is_first_process() -> bool:
    """Whether this is the main process of all, also before they have found one another."""
    return os.environ.get("RANK", "0") == "0" and comm.is_main_process()


def prepare_device(device: str) -> None:
    """Hide the GPUs from a run on the CPU, in this process and those it starts, before CUDA looks for them.

    An engine chooses how processes talk by the GPUs that it sees, and would refuse more processes than there are.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def start_processes(function: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    """Run `function(arguments)` in as many processes as the arguments or torchrun say; exit as a failed one does.

    Raises:
        UserError: the engine refuses to start so many processes, or to join torchrun's.
    """
    try:
        launch(
            function,
            max(arguments.num_gpus, 1),
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
            args=(arguments,),
        )
    except ProcessExitedException as stopped:  # it has said why
        sys.exit(stopped.exit_code)
    except (ValueError, AssertionError) as error:
        if _came_from(function, error):
            raise
        reason = str(error) or "the arguments of the launch do not fit together"
        raise UserError(f"the processes cannot be started: {reason}") from error


def _came_from(function: Callable, error: Exception) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is getattr(function, "__code__", None) for frame, _ in frames)


def check_joined() -> None:
    """Refuse to train in processes that do not know of each other, as where an engine does not join torchrun's."""
    asked, joined = int(os.environ.get("WORLD_SIZE", "1")), comm.get_world_size()
    if asked > 1 and joined != asked:
        raise UserError(
            f"started as {asked} processes, but this engine joined {joined}: it does not read torchrun's environment; "
            "use --num-gpus, or the built-in engine (RCNNKIT_ENGINE=builtin)"
        )


def tell_and_stop(program: str, error: UserError) -> NoReturn:
    """Print one line and exit with status 2.

    Of several processes the main one speaks first: where it stops for the same reason, its line is enough, and the
    launcher ends the others before they repeat it.
    """
    if not is_first_process():
        time.sleep(SECONDS_FOR_THE_MAIN_PROCESS)
    print(f"{program}: {error}", file=sys.stderr)
    sys.exit(2)
