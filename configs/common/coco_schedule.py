"""Learning-rate multipliers of Detectron2's COCO schedules: 1x is 90,000 steps of 16 images."""

from fvcore.common.param_scheduler import MultiStepParamScheduler

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler


def default_X_scheduler(num_X):
    """A tenth of the rate from 60,000 steps before the end, a hundredth in the last 20,000; warm-up of 1,000 steps.

    Schedules up to 2x share the milestones of 1x, in proportion.
    """
    total_steps = num_X * 90000
    end = 90000 if num_X <= 2 else total_steps
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=_milestones(end)),
        warmup_length=1000 / total_steps,
        warmup_method="linear",
        warmup_factor=0.001,
    )


def _milestones(end):
    first = 60000 if end == 90000 else end - 60000
    second = 80000 if end == 90000 else end - 20000
    return [first, second, end]


lr_multiplier_1x = default_X_scheduler(1)
lr_multiplier_2x = default_X_scheduler(2)
lr_multiplier_3x = default_X_scheduler(3)
lr_multiplier_6x = default_X_scheduler(6)
lr_multiplier_9x = default_X_scheduler(9)
