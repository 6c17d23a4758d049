import pytest
import torch
from fvcore.common.param_scheduler import ConstantParamScheduler, LinearParamScheduler, MultiStepParamScheduler

from detectron2.config import get_cfg
from detectron2.solver import LRMultiplier, WarmupCosineLR, WarmupMultiStepLR, WarmupParamScheduler, build_lr_scheduler
from detectron2.solver.lr_scheduler import _get_warmup_factor_at_iter


def _optimizer(lr=1.0):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def _rates(scheduler, optimizer, num_iter):
    rates = []
    for _ in range(num_iter):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _configured_rates(num_iter=20, **solver):
    cfg = get_cfg()
    for key, value in {"MAX_ITER": num_iter, "WARMUP_ITERS": 5, "BASE_LR": 1.0, **solver}.items():
        setattr(cfg.SOLVER, key, value)
    optimizer = _optimizer()
    return _rates(build_lr_scheduler(cfg, optimizer), optimizer, num_iter)


def test_multi_step_with_linear_warmup():
    rates = _configured_rates(STEPS=(10, 15), WARMUP_FACTOR=0.001)
    # 0.001 + (1 - 0.001) * i / 5, then one tenth at 10 and again at 15
    expected = [0.001, 0.2008, 0.4006, 0.6004, 0.8002] + [1.0] * 5 + [0.1] * 5 + [0.01] * 5
    assert rates == pytest.approx(expected, abs=1e-12)


def test_steps_beyond_the_end_are_ignored(caplog):
    rates = _configured_rates(STEPS=(10, 25), WARMUP_ITERS=0)
    assert rates == pytest.approx([1.0] * 10 + [0.1] * 10)
    assert "larger than SOLVER.MAX_ITER" in caplog.text


def test_constant_warmup_stays():
    rates = _configured_rates(STEPS=(), WARMUP_METHOD="constant", WARMUP_FACTOR=0.25)
    assert rates == pytest.approx([0.25] * 5 + [1.0] * 15)


def test_warmup_longer_than_the_first_step_ends_at_the_decayed_rate():
    rates = _configured_rates(STEPS=(10,), WARMUP_ITERS=15)
    # rises to the value at iteration 15, which is 0.1: 0.001 + 0.099 * i / 15
    assert rates[14] == pytest.approx(0.001 + 0.099 * 14 / 15)
    assert rates[15:] == pytest.approx([0.1] * 5)


def test_cosine_ends_at_base_lr_end():
    rates = _configured_rates(LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR_END=0.1, WARMUP_ITERS=0)
    assert rates[0] == pytest.approx(1.0)
    assert rates[10] == pytest.approx(0.55)  # half way: mean of 1 and 0.1
    assert rates[5] == pytest.approx(0.1 + 0.45 * (1 + 2**-0.5))


def test_cosine_rescaled_begins_after_the_warmup():
    fixed = _configured_rates(LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR_END=0.1)
    rescaled = _configured_rates(LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR_END=0.1, RESCALE_INTERVAL=True)
    assert fixed[5] == pytest.approx(0.8681980515339464)
    assert rescaled[5] == pytest.approx(1.0)
    assert rescaled[19] == pytest.approx(0.10983357966978749)  # recorded


def test_fixed_gamma_steps_reach_the_last_step_without_an_error():
    rates = _configured_rates(LR_SCHEDULER_NAME="WarmupStepWithFixedGammaLR", NUM_DECAYS=3, WARMUP_ITERS=0)
    assert rates == pytest.approx([1.0] * 5 + [0.1] * 5 + [0.01] * 5 + [0.001] * 5)


@pytest.mark.parametrize(
    ("solver", "named"),
    [
        ({"LR_SCHEDULER_NAME": "Nope"}, "WarmupCosineLR"),
        ({"WARMUP_METHOD": "Nope", "STEPS": ()}, "linear"),
        ({"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 2.0}, "BASE_LR_END"),
    ],
)
def test_bad_names_and_values_are_told(solver, named):
    with pytest.raises(ValueError, match=named):
        _configured_rates(**solver)


def test_multiplier_resumes_from_its_small_state():
    schedule = MultiStepParamScheduler([1.0, 0.1], milestones=[6], num_updates=10)
    optimizer = _optimizer(2.0)
    scheduler = LRMultiplier(optimizer, schedule, 10)
    _rates(scheduler, optimizer, 4)
    state = scheduler.state_dict()
    assert state == {"base_lrs": [2.0], "last_epoch": 4}

    resumed_optimizer = _optimizer(2.0)
    resumed_scheduler = LRMultiplier(resumed_optimizer, schedule, 10)
    resumed_scheduler.load_state_dict(state)
    assert _rates(resumed_scheduler, resumed_optimizer, 4)[1:] == pytest.approx([2.0, 0.2, 0.2])


def test_multiplier_wants_a_param_scheduler():
    with pytest.raises(ValueError, match="ParamScheduler"):
        LRMultiplier(_optimizer(), lambda where: 1.0, 10)


def test_warmup_scheduler_of_a_constant():
    schedule = WarmupParamScheduler(ConstantParamScheduler(4.0), 0.5, 0.2)
    assert [schedule(0.0), schedule(0.1), schedule(0.5)] == pytest.approx([2.0, 3.0, 4.0])


def test_warmup_scheduler_without_rescaling_continues_the_schedule():
    schedule = WarmupParamScheduler(LinearParamScheduler(1.0, 0.0), 0.0, 0.5)
    assert [schedule(0.25), schedule(0.5), schedule(0.75)] == pytest.approx([0.25, 0.5, 0.25])


@pytest.mark.parametrize(
    ("method", "iteration", "factor"),
    [("linear", 0, 0.01), ("linear", 5, 0.505), ("linear", 10, 1.0), ("constant", 9, 0.01), ("constant", 10, 1.0)],
)
def test_warmup_factor(method, iteration, factor):
    assert _get_warmup_factor_at_iter(method, iteration, 10, 0.01) == pytest.approx(factor)


def test_warmup_factor_of_an_unknown_method():
    with pytest.raises(ValueError, match="Unknown warmup method"):
        _get_warmup_factor_at_iter("nope", 0, 10, 0.01)


def test_older_schedules():
    optimizer = _optimizer(2.0)
    rates = _rates(WarmupMultiStepLR(optimizer, [8, 15], warmup_iters=5), optimizer, 16)
    assert rates == pytest.approx([0.002, 0.4016, 0.8012, 1.2008, 1.6004, 2, 2, 2] + [0.2] * 7 + [0.02])
    optimizer = _optimizer(2.0)
    rates = _rates(WarmupCosineLR(optimizer, 20, warmup_iters=5), optimizer, 20)
    assert [rates[1], rates[10]] == pytest.approx([0.39912781879150366, 1.0])
    with pytest.raises(ValueError, match="increasing"):
        WarmupMultiStepLR(_optimizer(), [15, 8])
