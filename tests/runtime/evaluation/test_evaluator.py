import logging
from collections import OrderedDict

import pytest
import torch

from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators, inference_context, inference_on_dataset


class Recorder(DatasetEvaluator):
    def __init__(self, result):
        self.result = result
        self.events = []

    def reset(self):
        self.events = ["reset"]

    def process(self, inputs, outputs):
        self.events.append((inputs, outputs))

    def evaluate(self):
        return self.result


class Double(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.modes = []

    def forward(self, inputs):
        self.modes.append((self.training, torch.is_grad_enabled()))
        return inputs * self.weight


def test_each_batch_reaches_each_evaluator_without_gradients():
    model = Double().train()
    first, second = Recorder({"a": 1}), Recorder(None)
    batches = [torch.tensor(float(i)) for i in range(3)]
    results = inference_on_dataset(model, batches, [first, second])
    assert results == OrderedDict(a=1)
    assert set(model.modes) == {(False, False)}
    assert model.training
    assert first.events[0] == "reset"
    assert [float(outputs) for _, outputs in first.events[1:]] == [0.0, 2.0, 4.0]
    assert second.events == first.events


def test_the_mode_comes_back_after_an_error():
    model = Double().train()
    with pytest.raises(TypeError):
        inference_on_dataset(model, [None], None)
    assert model.training
    with inference_context(model):
        assert not model.training
    assert model.training


@pytest.mark.parametrize("number", [0, 1, 4, 12])
def test_log_of_any_length(number, caplog):
    logger = logging.getLogger("detectron2.evaluation.evaluator")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    try:
        inference_on_dataset(lambda batch: batch, list(range(number)), Recorder(None))
    finally:
        logger.removeHandler(caplog.handler)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == f"Start inference on {number} batches"
    assert any(message.startswith("Total inference time: 0:00:") for message in messages)
    assert any("s / iter per device, on 1 devices)" in message for message in messages)


def test_none_becomes_an_empty_dict():
    assert inference_on_dataset(lambda batch: batch, [1], Recorder(None)) == {}
    assert inference_on_dataset(lambda batch: batch, [1], None) == {}


def test_callbacks_in_order():
    calls = []
    names = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {name: lambda name=name: calls.append(name) for name in names}
    inference_on_dataset(lambda batch: batch, [1, 2], None, callbacks=callbacks)
    assert calls == ["on_start", *["before_inference", "after_inference"] * 2, "on_end"]


def test_two_evaluators_with_one_key():
    with pytest.raises(AssertionError, match="same key x"):
        DatasetEvaluators([Recorder({"x": 1}), Recorder({"x": 2})]).evaluate()
