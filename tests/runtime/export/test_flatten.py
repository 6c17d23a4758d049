"""Flattening, the adapter's refusals, the readable dump."""

import pytest
import torch
from torch import nn

from detectron2.export import (
    Caffe2Tracer,
    TracingAdapter,
    add_export_config,
    dump_torchscript_IR,
    scripting_with_instances,
)
from detectron2.export.flatten import flatten_to_tuple
from detectron2.export.torchscript_patch import freeze_training_mode
from detectron2.structures import Boxes, Instances, ROIMasks

ONE = torch.ones(2)
TWO = torch.full((2,), 2.0)


def test_containers_come_back_in_their_kinds():
    nested = [ONE, (TWO, [ONE], "text"), {"b": ONE, "a": {"c": TWO}}, None, []]
    leaves, schema = flatten_to_tuple(nested)
    assert [x if isinstance(x, str) or x is None else x[0].item() for x in leaves] == [1, 2, 1, "text", 2, 1, None]
    again = schema(leaves)
    assert isinstance(again[1], tuple) and again[1][2] == "text" and again[2]["a"]["c"] is TWO and again[4] == []
    with pytest.raises(AssertionError, match="length 6 but expect length 7"):
        schema(leaves[:-1])
    with pytest.raises(KeyError, match="keys are str"):
        flatten_to_tuple({1: ONE})


def test_detections_come_back():
    instances = Instances((3, 4), pred_boxes=Boxes(torch.ones(1, 4)), scores=torch.ones(1))
    leaves, schema = flatten_to_tuple([{"instances": instances}])
    assert [tuple(x.shape) for x in leaves] == [(1, 4), (1,), (2,)]
    again = schema(leaves)[0]["instances"]
    assert isinstance(again, Instances) and again.image_size == (3, 4) and isinstance(again.pred_boxes, Boxes)
    masks, schema = flatten_to_tuple(ROIMasks(torch.ones(1, 2, 2)))
    assert isinstance(schema(masks), ROIMasks)


class AddOne(nn.Module):
    def forward(self, inputs):
        return {"sum": inputs[0]["image"] + 1}


class WithNumber(nn.Module):
    def forward(self, x):
        return [x, 3]


def test_adapter_runs_and_wraps():
    adapter = TracingAdapter(AddOne(), [{"image": ONE}])
    assert adapter.flattened_inputs == (ONE,)
    assert adapter(TWO)[0].tolist() == [3, 3] and adapter.outputs_schema(adapter(TWO))["sum"].tolist() == [3, 3]
    run = adapter._create_wrapper(torch.jit.trace(adapter, adapter.flattened_inputs))
    assert run([{"image": TWO}])["sum"].tolist() == [3, 3]


def test_adapter_refuses_what_a_trace_cannot_hold():
    with pytest.raises(ValueError, match=r"only contain tensors.*int"):
        TracingAdapter(AddOne(), [{"image": ONE, "height": 5}])
    with pytest.raises(ValueError, match="outputs cannot flatten to tensors"):
        TracingAdapter(WithNumber(), ONE)(ONE)
    fixed = TracingAdapter(AddOne(), [{"image": ONE, "height": 5}], allow_non_tensor=True)
    assert fixed.inputs_schema is None and fixed(ONE)[0].tolist() == [2, 2]
    with pytest.raises(ValueError, match="flattened_inputs"):
        fixed(TWO)
    assert TracingAdapter(WithNumber(), ONE, allow_non_tensor=True)(ONE) == (ONE,)


def test_dump_is_readable(tmp_path):
    layers = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.ReLU())
    dump_torchscript_IR(torch.jit.trace(layers, torch.ones(1, 2)), str(tmp_path / "ir"))
    names = {path.name for path in (tmp_path / "ir").iterdir()}
    assert names == {"model.txt", "model_ts_IR.txt", "model_ts_IR_inlined.txt", "model_ts_code.txt"}
    text = (tmp_path / "ir" / "model_ts_code.txt").read_text()
    assert "Code for root model, type=Sequential" in text and "Code for 1, 2, type=ReLU" in text
    assert "aten::linear" in (tmp_path / "ir" / "model_ts_IR_inlined.txt").read_text()


def test_training_modes_are_put_back():
    model = nn.Sequential(nn.Dropout(), nn.ReLU().eval())
    with freeze_training_mode(model):
        model.eval()
    assert [module.training for module in model.modules()] == [True, True, False]


def test_what_is_left_out_says_so():
    cfg = object()
    assert add_export_config(cfg) is cfg
    with pytest.raises(NotImplementedError, match="TracingAdapter"):
        scripting_with_instances(nn.ReLU(), {})
    with pytest.raises(NotImplementedError, match="Caffe2Tracer"):
        Caffe2Tracer(None, None, None)
