"""Arguments and configs that no run could start from."""

import os

import pytest

from detectron2.config import get_cfg
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.engine.setup import argument_parser, check_counts, check_output_dir, check_training
from rcnnkit.errors import UserError


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-gpus=-1"], "--num-gpus -1: .*0 or more"),
        (["--num-machines=0"], "--num-machines 0: .*1 or more"),
        (["--num-machines=2", "--machine-rank=2"], "--machine-rank 2: .*0 to 1"),
    ],
)
def test_numbers_of_processes(flags, message):
    with pytest.raises(UserError, match=message):
        check_counts(argument_parser().parse_args(flags))


@pytest.mark.parametrize(("key", "value"), [("DATASETS.TRAIN", ()), ("SOLVER.MAX_ITER", 0)])
def test_training_without_data_or_steps(key, value):
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.DATASETS.TRAIN = ("any",)
    check_training(cfg)
    cfg.merge_from_list([key, value])
    with pytest.raises(UserError, match=key):
        check_training(cfg)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that even root cannot write into")
def test_output_dir_that_even_root_cannot_write():
    with pytest.raises(UserError, match="OUTPUT_DIR /proc/rcnnkit/run: /proc is not writable"):
        check_output_dir("/proc/rcnnkit/run")


def test_output_dir_is_tried_and_left_as_it_was(tmp_path):
    check_output_dir(str(tmp_path / "new" / "run"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="OUTPUT_DIR: is empty"):
        check_output_dir("")
