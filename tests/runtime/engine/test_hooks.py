import math

import pytest
import torch
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import SimpleTrainer, hooks
from detectron2.utils.events import EventWriter
from tests.runtime.engine.tiny_training import Batches, TinyModel


def _trainer(*registered, model=None):
    model = model or TinyModel()
    trainer = SimpleTrainer(model, Batches(), torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.register_hooks(list(registered))
    return trainer


def test_callbacks_get_the_trainer():
    calls = []
    hook = hooks.CallbackHook(
        before_train=lambda trainer: calls.append("start"),
        before_step=lambda trainer: calls.append(trainer.iter),
        after_step=lambda trainer: calls.append(-trainer.iter),
        after_train=lambda trainer: calls.append("end"),
    )
    _trainer(hook, hooks.CallbackHook()).train(1, 3)
    assert calls == ["start", 1, -1, 2, -2, "end"]


def test_timer_leaves_out_the_warmup(caplog):
    caplog.set_level("INFO")
    trainer = _trainer(hooks.IterationTimer(warmup_iter=3))
    trainer.train(0, 5)
    assert [iteration for _, iteration in trainer.storage.history("time").values()] == [2, 3, 4]
    assert "Overall training speed: 3 iterations" in caplog.text
    assert "Total training time" in caplog.text


def test_writers_write_by_period_and_at_the_end():
    class Writer(EventWriter):
        def __init__(self):
            self.calls = []

        def write(self):
            self.calls.append(trainer.iter)

        def close(self):
            self.calls.append("closed")

    writer = Writer()
    trainer = _trainer(hooks.PeriodicWriter([writer], period=2))
    trainer.train(0, 5)
    assert writer.calls == [1, 3, 4, 5, "closed"]


@pytest.mark.parametrize(
    ("period", "after_train", "num_iter", "expected"),
    [(0, True, 5, [5]), (2, True, 4, [1, 4]), (2, False, 5, [1, 3]), (9, True, 5, [5]), (0, False, 3, [])],
)
def test_evaluation_times(period, after_train, num_iter, expected):
    calls = []
    trainer = _trainer(hooks.EvalHook(period, lambda: calls.append(trainer.iter), after_train))
    trainer.train(0, num_iter)
    assert calls == expected


def test_evaluation_results_are_recorded_flat():
    trainer = _trainer(hooks.EvalHook(0, lambda: {"bbox": {"AP": 3}, "x": "4"}))
    trainer.train(0, 2)
    assert trainer.storage.latest()["bbox/AP"] == (3.0, 2)
    assert trainer.storage.latest()["x"] == (4.0, 2)


@pytest.mark.parametrize(
    ("results", "error", "message"), [([1], AssertionError, "dict"), ({"a": "zz"}, ValueError, "a: zz")]
)
def test_evaluation_results_that_are_no_numbers(results, error, message):
    with pytest.raises(error, match=message):
        _trainer(hooks.EvalHook(0, lambda: results)).train(0, 1)


def test_no_evaluation_after_a_failed_training():
    calls = []

    def fail(trainer):
        raise RuntimeError("boo")

    trainer = _trainer(hooks.CallbackHook(after_step=fail), hooks.EvalHook(0, lambda: calls.append(1)))
    with pytest.raises(RuntimeError, match="boo"):
        trainer.train(0, 3)
    assert calls == []


@pytest.mark.parametrize(("mode", "best"), [("max", (9.0, 13)), ("min", (0.5, 11))])
def test_best_checkpoint(tmp_path, mode, best):
    values = iter([1.0, math.nan, 2.0, 2.0, 1.0, 0.5, 9.0])
    model = TinyModel()
    checkpointer = DetectionCheckpointer(model, str(tmp_path))
    hook = hooks.BestCheckpointer(2, checkpointer, "bbox/AP", mode)
    trainer = _trainer(hooks.EvalHook(2, lambda: {"bbox": {"AP": next(values)}}), hook, model=model)
    trainer.train(0, 13)
    assert (hook.best_metric, hook.best_iter) == best
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == best[1]


def test_best_checkpoint_without_its_metric(tmp_path, caplog):
    checkpointer = DetectionCheckpointer(TinyModel(), str(tmp_path))
    _trainer(hooks.BestCheckpointer(1, checkpointer, "nope")).train(0, 2)
    assert "nope" in caplog.text
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AssertionError, match="sideways"):
        hooks.BestCheckpointer(1, checkpointer, "nope", "sideways")


def test_periodic_checkpoints(tmp_path):
    model = TinyModel()
    _trainer(hooks.PeriodicCheckpointer(DetectionCheckpointer(model, str(tmp_path)), 2), model=model).train(0, 5)
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert names == ["model_0000001.pth", "model_0000003.pth", "model_final.pth"]


def test_schedule_of_the_trainer_or_of_fvcore():
    trainer = _trainer(hooks.LRScheduler(scheduler=LinearParamScheduler(1.0, 0.0)))
    trainer.train(0, 4)
    rates = [rate for rate, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])
    (hook,) = trainer._hooks
    assert hook.state_dict() == {"base_lrs": [0.1], "last_epoch": 4}


@pytest.mark.parametrize(
    ("sizes_and_rates", "expected"),
    [
        ([(1, 1.0), (1, 2.0)], 0),
        ([(1, 1.0), (1, 2.0), (2, 3.0)], 2),
        ([(1, 1.0), (1, 2.0), (1, 2.0)], 1),
    ],
)
def test_group_whose_rate_is_shown(sizes_and_rates, expected):
    groups = [
        {"params": [nn.Parameter(torch.zeros(1)) for _ in range(size)], "lr": rate} for size, rate in sizes_and_rates
    ]
    assert hooks.LRScheduler.get_best_param_group_id(torch.optim.SGD(groups, lr=1.0)) == expected


class _NormModel(TinyModel):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, batch):
        return super().forward(self.norm(batch))


def test_precise_statistics():
    model = _NormModel()
    loader = [torch.full((4, 2), 1.0) + torch.arange(4)[:, None], torch.full((4, 2), 5.0)]
    trainer = _trainer(hooks.PreciseBN(0, model, loader, 2), model=model)
    trainer.train(0, 2)
    # means of the batches' means, (2.5 + 5) / 2
    assert model.norm.running_mean.tolist() == pytest.approx([3.75, 3.75])


def test_precise_statistics_of_a_model_without_norm(caplog):
    caplog.set_level("INFO")
    hook = hooks.PreciseBN(1, TinyModel(), [], 2)
    hook.update_stats()
    assert "disabled" in caplog.text


def test_profilers_write_traces(tmp_path):
    _trainer(
        hooks.TorchProfiler(lambda trainer: trainer.iter == 1, str(tmp_path / "chrome"), save_tensorboard=False)
    ).train(0, 2)
    assert [path.name for path in (tmp_path / "chrome").iterdir()] == ["profiler-trace-iter1.json"]
    _trainer(hooks.AutogradProfiler(lambda trainer: trainer.iter == 0, str(tmp_path / "auto"))).train(0, 2)
    assert [path.name for path in (tmp_path / "auto").iterdir()] == ["profiler-trace-iter0.json"]
    _trainer(hooks.TorchProfiler(lambda trainer: trainer.iter == 0, str(tmp_path / "board"))).train(0, 1)
    assert len(list((tmp_path / "board" / "log" / "profiler-tensorboard-iter0").iterdir())) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU's side of it")
def test_memory_statistics_are_silent_on_a_cpu():
    trainer = _trainer(hooks.TorchMemoryStats(period=1))
    trainer.train(0, 2)
    assert not any("mem" in name for name in trainer.storage.latest())
