import pytest
import torch

from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, TrainerBase
from detectron2.utils.events import EventStorage
from tests.runtime.engine.tiny_training import Batches, TinyModel


def _trainer(kind=SimpleTrainer, loader=None, lr=0.1, **kwargs):
    model = TinyModel()
    return kind(model, loader or Batches(), torch.optim.SGD(model.parameters(), lr=lr), **kwargs)


class _Recorder(HookBase):
    def __init__(self):
        self.calls = []

    def _note(self, name):
        self.calls.append((name, self.trainer.iter, self.trainer.storage.iter))

    def before_train(self):
        self._note("before_train")

    def after_train(self):
        self._note("after_train")

    def before_step(self):
        self._note("before_step")

    def after_backward(self):
        self._note("after_backward")

    def after_step(self):
        self._note("after_step")


def test_order_of_hooks():
    trainer, recorder = _trainer(), _Recorder()
    trainer.register_hooks([recorder, None])
    trainer.train(5, 7)
    step = ["before_step", "after_backward", "after_step"]
    names = ["before_train", *step, *step, "after_train"]
    assert recorder.calls == list(zip(names, [5, 5, 5, 5, 6, 6, 6, 7], [5, 5, 5, 5, 6, 6, 6, 7]))


def test_after_train_runs_after_an_exception_and_tells_where():
    class Fails(HookBase):
        def after_step(self):
            raise RuntimeError("boo")

    trainer, recorder = _trainer(), _Recorder()
    trainer.register_hooks([Fails(), recorder])
    with pytest.raises(RuntimeError, match="boo"):
        trainer.train(0, 3)
    assert recorder.calls[-1] == ("after_train", 0, 0)


def test_only_hooks_are_hooks():
    with pytest.raises(TypeError, match="int"):
        _trainer().register_hooks([3])


def test_step_is_plain_sgd():
    trainer = _trainer()
    expected = TinyModel()
    loss = sum(expected(next(iter(Batches()))).values())
    gradients = torch.autograd.grad(loss, list(expected.parameters()))
    trainer.train(0, 1)
    for trained, start, gradient in zip(trainer.model.parameters(), expected.parameters(), gradients):
        torch.testing.assert_close(trained, start - 0.1 * gradient)


def test_metrics_of_a_step():
    trainer = _trainer()
    trainer.train(0, 2)
    latest = trainer.storage.latest()
    assert set(latest) == {"loss_a", "loss_b", "total_loss", "data_time", "rank_data_time"}
    assert latest["total_loss"][0] == pytest.approx(latest["loss_a"][0] + latest["loss_b"][0])
    assert latest["total_loss"][1] == 1


def test_a_single_loss_tensor():
    class OneLoss(TinyModel):
        def forward(self, batch):
            return self.layer(batch).mean()

    model = OneLoss()
    trainer = SimpleTrainer(model, Batches(), torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.train(0, 1)
    assert set(trainer.storage.latest()) == {"total_loss", "data_time", "rank_data_time"}


def test_metrics_are_gathered_by_period():
    trainer = _trainer(gather_metric_period=2)
    trainer.train(0, 4)
    assert [iteration for _, iteration in trainer.storage.history("total_loss").values()] == [1, 3]


@pytest.mark.parametrize("options", [{"async_write_metrics": True}, {"zero_grad_before_forward": True}])
def test_options_do_not_change_the_result(options):
    plain, other = _trainer(), _trainer(**options)
    plain.train(0, 4)
    other.train(0, 4)
    torch.testing.assert_close(other.model.state_dict(), plain.model.state_dict(), rtol=0, atol=0)
    assert other.storage.history("total_loss").values() == plain.storage.history("total_loss").values()


@pytest.mark.parametrize("period", [1, 100])
@pytest.mark.parametrize("kind", [SimpleTrainer, AMPTrainer])
def test_non_finite_loss_stops_before_the_weights_change(kind, period):
    options = {"precision": torch.bfloat16} if kind is AMPTrainer else {}
    trainer = _trainer(kind, Batches(spoilt=(2,)), gather_metric_period=period, **options)
    reference = _trainer(kind, gather_metric_period=period, **options)
    reference.train(0, 2)
    with pytest.raises(FloatingPointError, match="iteration=2") as caught:
        trainer.train(0, 5)
    assert "'loss_a': nan" in str(caught.value)
    torch.testing.assert_close(trainer.model.state_dict(), reference.model.state_dict(), rtol=0, atol=0)


def test_model_in_eval_mode_is_refused():
    trainer = _trainer()
    trainer.model.eval()
    with pytest.raises(AssertionError, match="eval mode"):
        trainer.train(0, 1)


def test_write_metrics_with_prefix_and_iteration():
    with EventStorage(4) as storage:
        SimpleTrainer.write_metrics({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 0.1, 3, prefix="x_")
        assert storage.latest()["x_total_loss"] == (3.0, 3)
        assert storage.latest()["data_time"] == (0.1, 3)
        with pytest.raises(FloatingPointError, match="iteration=3"):
            SimpleTrainer.write_metrics({"a": torch.tensor(float("inf"))}, 0.1, 3)


def test_state_resumes_the_optimizer():
    def momentum_trainer(start):
        model = TinyModel()
        return SimpleTrainer(model, Batches(start), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    whole, first, second = momentum_trainer(0), momentum_trainer(0), momentum_trainer(2)
    whole.train(0, 4)
    first.train(0, 2)
    second.load_state_dict(first.state_dict())
    second.model.load_state_dict(first.model.state_dict())
    assert second.iter == 2
    second.train(2, 4)
    torch.testing.assert_close(second.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def test_state_of_hooks(caplog):
    class Counts(HookBase):
        count = 0

        def after_step(self):
            self.count += 1

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state_dict):
            self.count = state_dict["count"]

    trainer, hook = _trainer(), Counts()
    trainer.register_hooks([hook])
    trainer.train(0, 3)
    state = trainer.state_dict()
    (name,) = state["hooks"]
    assert state["hooks"][name] == {"count": 3}

    other, other_hook = _trainer(), Counts()
    other.register_hooks([other_hook])
    other.load_state_dict({**state, "hooks": {name: {"count": 3}, "Gone": {}}})
    assert other_hook.count == 3
    assert "Cannot find the hook 'Gone'" in caplog.text


def test_data_loader_can_be_replaced():
    trainer = _trainer()
    trainer.train(0, 1)
    trainer.reset_data_loader(lambda: Batches(size=7))
    assert len(next(trainer._data_loader_iter)) == 7


def test_base_has_no_step():
    with pytest.raises(NotImplementedError):
        TrainerBase().run_step()


def test_amp_in_bfloat16_on_a_cpu():
    seen = []

    class Sees(TinyModel):
        def forward(self, batch):
            seen.append(self.layer(batch).dtype)
            return super().forward(batch)

    model = Sees()
    trainer = AMPTrainer(
        model, Batches(), torch.optim.SGD(model.parameters(), lr=0.1), precision=torch.bfloat16, log_grad_scaler=True
    )
    plain = _trainer()
    trainer.train(0, 5)
    plain.train(0, 5)
    assert seen == [torch.bfloat16] * 5
    assert model.layer.weight.dtype == torch.float32
    torch.testing.assert_close(trainer.model.state_dict(), plain.model.state_dict(), rtol=0.02, atol=0.02)
    assert trainer.storage.latest()["[metric]grad_scaler"] == (1.0, 4)


def _float16_trainer():
    return _trainer(AMPTrainer, precision=torch.float16, grad_scaler=torch.amp.GradScaler("cpu", init_scale=512.0))


def test_amp_in_float16_scales_and_keeps_its_scale():
    trainer, plain = _float16_trainer(), _trainer()
    trainer.train(0, 3)
    plain.train(0, 3)
    torch.testing.assert_close(trainer.model.state_dict(), plain.model.state_dict(), rtol=2e-3, atol=2e-3)
    state = trainer.state_dict()
    assert state["grad_scaler"]["scale"] == 512.0
    state["grad_scaler"]["scale"] = 1024.0
    other = _float16_trainer()
    other.load_state_dict(state)
    assert other.grad_scaler.get_scale() == 1024.0
    other.load_state_dict(plain.state_dict())  # of a training without a scaler
    assert other.grad_scaler.get_scale() == 1024.0


def test_amp_in_float16_skips_a_step_whose_gradients_overflow():
    trainer = _trainer(AMPTrainer, precision=torch.float16, grad_scaler=torch.amp.GradScaler("cpu", init_scale=2.0**40))
    trainer.train(0, 1)
    torch.testing.assert_close(trainer.model.state_dict(), TinyModel().state_dict(), rtol=0, atol=0)
    assert trainer.grad_scaler.get_scale() == 2.0**39
