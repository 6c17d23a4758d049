"""A training on photographs that is killed, goes on at the next iteration and is evaluated; no file is half there."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.rcnnkit import runs

pytestmark = [pytest.mark.slow, pytest.mark.realdata]


@pytest.fixture
def arguments(real_data, tmp_path):
    """Arguments of a run on the nuts whose outputs go to `tmp_path/output`; more overrides and flags win."""
    data = {"nuts": (real_data / "nuts" / "trainval.json", real_data / "nuts" / "images")}
    model = ("MODEL.MASK_ON", "True", "MODEL.ROI_HEADS.NUM_CLASSES", "3", "SOLVER.IMS_PER_BATCH", "1")
    return lambda *more: runs.train_net(tmp_path, data, *model, *more)


def kill_when(process, condition, timeout: float = 120) -> None:
    """SIGKILL as soon as the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def checkpoints(output: Path) -> list[Path]:
    return sorted(output.glob("model_*.pth"))


def iteration_of(checkpoint: Path) -> int:
    """The iteration in a checkpoint, which must be whole: it loads and holds model, optimiser and schedule."""
    content = torch.load(checkpoint, weights_only=True)
    assert {"model", "optimizer", "scheduler", "iteration"} <= set(content) or "trainer" in content, list(content)
    return content.get("iteration", content.get("trainer", {}).get("iteration"))


def finished(*command: str) -> str:
    """Run train_net.py to its end; returns what it printed."""
    status, out, err = runs.finish(runs.start("train_net.py", *command))
    assert status == 0, out[-2000:] + err[-2000:]
    return out


def test_killed_resumed_and_evaluated(arguments, tmp_path):
    output = tmp_path / "output"
    schedule = ("SOLVER.MAX_ITER", "1000", "SOLVER.CHECKPOINT_PERIOD", "3")
    process = runs.start("train_net.py", *arguments(*schedule))
    kill_when(process, (output / "model_0000005.pth").is_file)

    pointer = output / "last_checkpoint"
    last = output / pointer.read_text()
    done = iteration_of(last)
    assert done >= 2 and not (output / "model_final.pth").exists()
    end = done + 4

    finished(*arguments(*schedule, "SOLVER.MAX_ITER", str(end), "--resume"))
    log = (output / "log.txt").read_text()
    assert re.findall(r"Starting training from iteration (\d+)", log) == ["0", str(done + 1)]
    assert pointer.read_text() == "model_final.pth" and iteration_of(output / "model_final.pth") == end - 1
    assert runs.metrics(output)[-1]["iteration"] == end - 1
    named = [path.name for path in checkpoints(output)]
    assert runs.missing_files(output, last.name) == [] and len(named) >= 3

    # The same detections again by --eval-only, from the last checkpoint as from the file by name.
    results = output / "inference" / "coco_instances_results.json"
    after_training = json.loads(results.read_text())
    assert after_training
    for more in (("--resume",), ("MODEL.WEIGHTS", str(output / "model_final.pth"))):
        results.unlink()
        finished(*arguments("--eval-only", *more))
        assert json.loads(results.read_text()) == after_training
    assert [path.name for path in checkpoints(output)] == named


@pytest.mark.parametrize("moment", ["while a checkpoint is written", "once it has its name"])
def test_killed_around_a_checkpoint(arguments, tmp_path, moment):
    """With a checkpoint at every step, whatever has a checkpoint's name is whole, and the run goes on from the last."""
    output = tmp_path / "output"
    schedule = ("SOLVER.MAX_ITER", "1000", "SOLVER.CHECKPOINT_PERIOD", "1")
    process = runs.start("train_net.py", *arguments(*schedule))
    unfinished = ".model_*.tmp" if moment.startswith("while") else "model_0000002.pth"
    kill_when(process, lambda: (output / "model_0000001.pth").is_file() and any(output.glob(unfinished)))

    whole = {path.name: iteration_of(path) for path in checkpoints(output)}
    assert len(whole) >= 2 and list(whole.values()) == list(range(len(whole)))
    done = whole[(output / "last_checkpoint").read_text()]
    assert done >= len(whole) - 2  # the pointer follows the newest file

    finished(*arguments(*schedule, "SOLVER.MAX_ITER", str(done + 2), "DATASETS.TEST", "()", "--resume"))
    log = (output / "log.txt").read_text()
    assert f"Starting training from iteration {done + 1}" in log
    assert not list(output.glob(".*.tmp"))  # nor what the killed run left of the file that it was writing
