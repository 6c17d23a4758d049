"""Weights of the tasks: by hand."""

import math

import pytest
import torch

from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from rcnnkit.modeling.task_balance import FixedBalance, UncertaintyBalance, task_of, uncertainty_weighted
from tests.rcnnkit.modeling import small_rcnn

TASKS = ["rpn", "box", "mask", "mask_quality"]


@pytest.mark.parametrize(
    "loss, task",
    [
        ("loss_rpn_cls", "rpn"),
        ("loss_cls", "box"),
        ("loss_box_reg_stage2", "box"),
        ("loss_mask", "mask"),
        ("loss_mask_boundary", "mask"),
        ("loss_mask_quality", "mask_quality"),  # the longer name
        ("loss_keypoint", "box"),  # of a task that is not there
    ],
)
def test_whose_loss(loss, task):
    assert task_of(loss, TASKS) == task


def test_uncertainty_by_hand():
    s = torch.tensor(math.log(4.0), requires_grad=True)  # σ² = 4
    weighted, price = uncertainty_weighted(torch.tensor(6.0), s)
    assert weighted.item() == pytest.approx(1.5)
    assert price.item() == pytest.approx(math.log(2.0))  # log σ
    (weighted + price).backward()
    assert s.grad.item() == pytest.approx(0.5 - 1.5)


def test_the_best_variance_is_twice_the_loss():
    s = torch.tensor(math.log(2 * 0.3), requires_grad=True)
    sum(uncertainty_weighted(torch.tensor(0.3), s)).backward()
    assert s.grad.item() == pytest.approx(0.0, abs=1e-7)


def test_a_task_without_labels_costs_0_and_its_variance_stays():
    s = torch.tensor(-3.0, requires_grad=True)
    parameter = torch.tensor(2.0, requires_grad=True)
    weighted, price = uncertainty_weighted(parameter * 0, s)
    assert weighted.item() == price.item() == 0
    (weighted + price).backward()
    assert s.grad.item() == 0 and parameter.grad.item() == 0


def losses(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_fixed():
    given = losses(loss_cls=1.0, loss_mask=3.0, loss_rpn_cls=5.0, loss_rpn_loc=7.0)
    found = FixedBalance(TASKS, {"mask": 2.0, "rpn": 0.0})(given)
    assert {name: loss.item() for name, loss in found.items()} == {
        "loss_cls": 1.0,
        "loss_mask": 6.0,
        "loss_rpn_cls": 0.0,
        "loss_rpn_loc": 0.0,
    }
    assert list(found) == list(given) and found["loss_cls"] is given["loss_cls"]
    assert not list(FixedBalance(TASKS, {}).state_dict())


def test_the_box_s_weight_is_that_of_its_classes_too():
    given = losses(loss_cls=1.0, loss_box_reg=3.0, loss_cls_stage2=5.0, loss_mask=7.0)
    found = FixedBalance(TASKS, {"box": 2.0})(given)
    assert {name: loss.item() for name, loss in found.items()} == {
        "loss_cls": 2.0,
        "loss_box_reg": 6.0,
        "loss_cls_stage2": 10.0,
        "loss_mask": 7.0,
    }


@pytest.mark.parametrize("heads", [(), small_rcnn.CASCADE])
def test_the_box_s_weight_reaches_every_loss_of_the_box_head(repository, heads):
    found = []
    for more in ((), ("RCNNKIT.TASK_WEIGHTS", [["box", 2.0]])):
        torch.manual_seed(0)
        model = build_model(small_rcnn.config(repository, *small_rcnn.MULTI_TASK, *heads, *more)).train()
        torch.manual_seed(1)
        with EventStorage():
            found.append({name: loss.item() for name, loss in model(small_rcnn.full_batch()).items()})
    plain, weighed = found
    of_box = {name for name in plain if name.startswith(("loss_cls", "loss_box_reg"))}
    assert len(of_box) == (6 if heads else 2)
    assert weighed == pytest.approx({name: loss * (2 if name in of_box else 1) for name, loss in plain.items()})


def test_learnt():
    balance = UncertaintyBalance(["rpn", "box", "mask"], {"box": 0.5})
    given = losses(loss_cls=1.0, loss_box_reg=2.0, loss_mask=0.0, loss_rpn_cls=5.0)
    with EventStorage() as storage:
        found = balance(given)
    total = sum(found.values())
    assert {name: round(loss.item(), 6) for name, loss in found.items()} == {
        "loss_cls": 0.5,
        "loss_box_reg": 1.0,
        "loss_mask": 0.0,
        "loss_rpn_cls": 5.0,
        "loss_balance": round(math.log(2) / 2, 6),
    }
    assert storage.latest()["task_balance/weight_box"][0] == pytest.approx(0.5)
    total.backward()
    gradients = {task: parameter.grad.item() for task, parameter in balance.log_variance.items()}
    assert gradients == pytest.approx({"rpn": 0.5 - 5, "box": 0.5 - 1.5, "mask": 0.0})


def test_learnt_with_a_task_that_gave_no_loss():
    balance = UncertaintyBalance(["rpn", "box"], {})
    with EventStorage():
        found = balance(losses(loss_cls=1.0))
    sum(found.values()).backward()
    assert balance.log_variance["rpn"].grad.item() == 0
