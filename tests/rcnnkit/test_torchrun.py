"""Two processes on a CPU: what one process with the whole batch computes, one set of files, errors in one line."""

import json
import math
import re

import pytest
import torch

from rcnnkit.engine_choice import activate_engine
from tests.rcnnkit import runs, tiny

pytestmark = pytest.mark.slow
joins = pytest.mark.skipif(activate_engine() != "builtin", reason="stock Detectron2 does not join torchrun's processes")
STEPS = 6
# Each loss is then a mean over as many terms on either process, so that the mean of the two is that of the whole batch:
# every anchor is sampled and is a proposal, every proposal is sampled and counts as an object.
TAKE_ALL = [
    *("MODEL.RPN.IN_FEATURES", "['p4', 'p5', 'p6']", "MODEL.ANCHOR_GENERATOR.SIZES", "[[16], [24], [48]]"),
    *("MODEL.RPN.NMS_THRESH", "1.0", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "1000", "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "1000"),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "128", "MODEL.RPN.POSITIVE_FRACTION", "1.0"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "256", "MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.0"),
    *("MODEL.ROI_HEADS.IOU_LABELS", "[1, 1]", "MODEL.ROI_HEADS.NUM_CLASSES", "2", "MODEL.MASK_ON", "True"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.RANDOM_FLIP", "none", "DATALOADER.ASPECT_RATIO_GROUPING", "False"),
    *("SOLVER.MAX_ITER", str(STEPS), "SOLVER.BASE_LR", "0.02", "SOLVER.CHECKPOINT_PERIOD", "1000"),
    *("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm"),
]  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Four images with two objects each."""
    return {"tiny": (tiny.write_data_set(tmp_path), tmp_path)}


def torchrun(*command: str) -> tuple[int, str, str]:
    """Run two processes; ends within the time limit or fails."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    return runs.finish(runs.start(*launcher, *command), timeout=120)


def observed(folder, arguments, *, processes: int) -> list[dict]:
    """Train under observation; what each process saw."""
    folder.mkdir()
    command = (str(runs.REPOSITORY / "tests" / "rcnnkit" / "observed_run.py"), str(folder), *arguments)
    status, out, err = torchrun(*command) if processes == 2 else runs.finish(runs.start(*command))
    assert status == 0, out[-2000:] + err[-2000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(processes)]


@joins
def test_two_processes_compute_what_one_does(data, tmp_path):
    def arguments(name: str) -> list[str]:
        return runs.train_net(tmp_path, data, *TAKE_ALL, "OUTPUT_DIR", str(tmp_path / name))

    alone = observed(tmp_path / "one", arguments("out1"), processes=1)[0]
    both = observed(tmp_path / "two", arguments("out2"), processes=2)

    assert len(alone["losses"]) == len(both[0]["losses"]) == STEPS
    shared = [[*first, *second] for first, second in zip(both[0]["images"], both[1]["images"], strict=True)]
    assert [sorted(step) for step in shared[:STEPS]] == [sorted(step) for step in alone["images"][:STEPS]]
    for step, (one, two) in enumerate(zip(alone["losses"], both[0]["losses"], strict=True)):
        assert one.keys() == two.keys() and len(one) == 6
        for name, value in one.items():
            assert math.isclose(value, two[name], rel_tol=1e-4), (step, name, value, two[name])
    assert alone["losses"][-1]["loss_mask"] < 0.9 * alone["losses"][0]["loss_mask"]  # the gradients did something
    for name, value in both[0]["parameters"].items():
        assert torch.equal(value, both[1]["parameters"][name]), name
        torch.testing.assert_close(value, alone["parameters"][name], rtol=1e-3, atol=2e-4, msg=name)

    # One set of files, as of one process; only the log of the second process is beside them.
    one_process, two_processes = (
        sorted(re.sub(r"tfevents.*", "tfevents", str(file.relative_to(tmp_path / name)))
               for file in (tmp_path / name).rglob("*") if file.is_file())
        for name in ("out1", "out2")
    )  # fmt: skip
    assert runs.missing_files(tmp_path / "out2") == []
    assert [name for name in two_processes if name != "log.txt.rank1"] == one_process
    assert [line["iteration"] for line in runs.metrics(tmp_path / "out2")] == [STEPS - 1]
    found = json.loads((tmp_path / "out2" / "inference" / "coco_instances_results.json").read_text())
    assert {detection["image_id"] for detection in found} == {1, 2, 3, 4}  # both processes' halves


@joins
def test_a_process_without_objects_keeps_pace(data, tmp_path):
    """Images without objects leave a process without mask targets; its gradients must still meet the other's."""
    file = data["tiny"][0]
    content = json.loads(file.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 1]
    file.write_text(json.dumps(content))
    more = ("MODEL.MASK_ON", "True", "MODEL.ROI_HEADS.NUM_CLASSES", "2", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False")
    both = observed(tmp_path / "two", runs.train_net(tmp_path, data, *more), processes=2)
    for name, value in both[0]["parameters"].items():
        assert torch.isfinite(value).all() and torch.equal(value, both[1]["parameters"][name]), name


def own_lines(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("train_net.py: ")]


def test_bad_input_is_one_line_and_nothing_is_written(data, tmp_path):
    arguments = runs.train_net(tmp_path, data, "MODEL.ROI_HEADS.NUM_CLASSES", "7")
    status, _, err = torchrun("train_net.py", *arguments)
    assert status == 1  # torchrun's own, whatever its processes end with
    assert len(own_lines(err)) == 1 and "set it to 2" in own_lines(err)[0]
    assert re.search(r"rank +: 0 .*\n *exitcode +: 2 ", err), err
    assert not (tmp_path / "output").exists()


def test_a_batch_that_the_processes_cannot_share(data, tmp_path):
    arguments = runs.train_net(tmp_path, data, "MODEL.ROI_HEADS.NUM_CLASSES", "2", "SOLVER.IMS_PER_BATCH", "3")
    status, _, err = torchrun("train_net.py", *arguments)
    assert status == 1
    assert len(own_lines(err)) == 1 and "SOLVER.IMS_PER_BATCH: 3" in own_lines(err)[0]
    assert not (tmp_path / "output").exists()


@joins
def test_a_training_that_diverges_stops_both(data, tmp_path):
    overrides = ("MODEL.ROI_HEADS.NUM_CLASSES", "2", "SOLVER.BASE_LR", "1e30", "SOLVER.WARMUP_ITERS", "0")
    status, _, err = torchrun("train_net.py", *runs.train_net(tmp_path, data, *overrides))
    assert status == 1
    assert len(own_lines(err)) == 1, err
    assert "iteration 1: " in own_lines(err)[0] and ".png" in own_lines(err)[0]
    assert "FloatingPointError" not in err
    assert not list((tmp_path / "output").glob("model_*.pth"))


@joins
def test_a_loss_that_is_not_finite_on_one_process_stops_both(data, tmp_path):
    """The second process alone meets the bad number; the first must not save weights."""
    arguments = runs.train_net(tmp_path, data, "MODEL.ROI_HEADS.NUM_CLASSES", "2")
    status, _, err = torchrun(str(runs.REPOSITORY / "tests" / "rcnnkit" / "bad_loss_run.py"), "1", *arguments)
    assert status == 1
    assert len(own_lines(err)) == 1, err
    assert "iteration 0: the loss is not finite (" in own_lines(err)[0] and "loss_cls nan" in own_lines(err)[0]
    assert own_lines(err)[0].count(".png") == 1  # the image of that process
    assert "FloatingPointError" not in err
    assert not list((tmp_path / "output").glob("model_*.pth"))


@pytest.mark.parity
def test_an_engine_that_joins_nothing_is_refused(data, tmp_path):
    """Else two trainings would write the same files."""
    arguments = runs.train_net(tmp_path, data, "MODEL.ROI_HEADS.NUM_CLASSES", "2")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train_net.py")
    status, _, err = runs.finish(runs.start(*launcher, *arguments, engine="detectron2"), timeout=120)
    if "Detectron2 is not installed" in err:
        pytest.skip("stock Detectron2 is not on the path: make parity STOCK_DETECTRON2=/folder/with/detectron2")
    assert status == 1
    assert len(own_lines(err)) == 1 and "started as 2 processes" in own_lines(err)[0]
    assert not (tmp_path / "output").exists()
