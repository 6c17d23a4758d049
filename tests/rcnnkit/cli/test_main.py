"""The console command itself: how it ends."""

import os
import subprocess
import sys

from rcnnkit.cli.main import PIPE_CLOSED
from tests.rcnnkit import tiny


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    """As `rcnnkit data info FOLDER | head -1`: neither a traceback nor a line on stderr."""
    tiny.write_data_set(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    # stock Detectron2 warns of its own imports
    command = [sys.executable, "-W", "ignore", "-c", "import sys, rcnnkit.cli.main; sys.exit(rcnnkit.cli.main.main())"]
    with os.fdopen(writing, "w") as closed:
        ended = subprocess.run(
            [*command, "data", "info", str(tmp_path)], stdout=closed, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ended.returncode, ended.stderr) == (PIPE_CLOSED, "")
