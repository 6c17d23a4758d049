"""Traced detectors give the eager model's numbers on images of other sizes and with other numbers of objects."""

import pytest
import torch

from detectron2.config import get_cfg
from detectron2.export import TracingAdapter
from detectron2.modeling import build_model
from detectron2.structures import Boxes

CASES = {
    "boxes": [],
    "masks": ["MODEL.MASK_ON", True],
    "keypoints": ["MODEL.KEYPOINT_ON", True],
    "proposals": ["MODEL.META_ARCHITECTURE", "ProposalNetwork"],
    "few candidates": ["MODEL.RPN.PRE_NMS_TOPK_TEST", 60],  # the coarser maps have fewer anchors, if the image is small
    "dense": [
        *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.IN_FEATURES", ["p3", "p4", "p5", "p6"]),
        *("MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32], [64], [128]], "MODEL.RETINANET.NUM_CONVS", 1),
        *("MODEL.RETINANET.TOPK_CANDIDATES_TEST", 40, "MODEL.RETINANET.NUM_CLASSES", 3),
    ],
}


def small_model(overrides):
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", 18),
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
            *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.FPN.OUT_CHANNELS", 16),
            *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32], [64], [128], [256]]),
            *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"], "MODEL.RPN.POST_NMS_TOPK_TEST", 30),
            *("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
            *("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.3),
            *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1),
            *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8),
            *("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead", "MODEL.ROI_MASK_HEAD.NUM_CONV", 1),
            *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (8,), "MODEL.PIXEL_STD", [57.0, 57.0, 57.0]),
            *overrides,
        ]
    )
    torch.manual_seed(3)
    model = build_model(cfg).eval()
    if hasattr(model, "head"):
        torch.nn.init.normal_(model.head.cls_score.weight, std=20.0)
    if hasattr(model, "roi_heads"):
        # Spread the class scores, so that the number of detections depends on the image.
        torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.7)
        for pooler in (getattr(model.roi_heads, f"{kind}_pooler", None) for kind in ("box", "mask", "keypoint")):
            if pooler is not None:
                pooler.canonical_box_size = 40  # small boxes on all levels
    return model


def image(height, width, seed):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255


def without_resizing(model, inputs):
    """What the network finds, in its own resolution, as deployments take it."""
    if hasattr(model, "head"):  # a dense detector, which always resizes
        return [{"instances": x["instances"]} for x in model(inputs)]
    if not hasattr(model, "roi_heads"):
        return [{"proposals": x["proposals"]} for x in model(inputs)]
    return [{"instances": model.inference(inputs, do_postprocess=False)[0]}]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_traced_model_equals_the_eager_one_on_other_images(case):
    model = small_model(CASES[case])
    adapter = TracingAdapter(model, [{"image": image(96, 128, 0)}], inference_func=without_resizing)
    traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    counts = set()
    for height, width, seed in ((96, 128, 0), (128, 100, 1), (70, 160, 2), (64, 64, 3)):
        inputs = [{"image": image(height, width, seed)}]
        with torch.no_grad():
            (wanted,) = without_resizing(model, inputs)[0].values()
        (found,) = adapter.outputs_schema(traced(inputs[0]["image"]))[0].values()
        assert found.image_size == wanted.image_size == (height, width)
        assert set(found.get_fields()) == set(wanted.get_fields())
        counts.add(len(wanted))
        for name, value in wanted.get_fields().items():
            value, other = (x.tensor if isinstance(x, Boxes) else x for x in (value, found.get(name)))
            torch.testing.assert_close(other, value, rtol=1e-5, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert max(counts) > 0 and (len(counts) > 1 or case == "proposals")


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_whole_model_with_postprocessing():
    model = small_model(CASES["masks"])
    adapter = TracingAdapter(model, [{"image": image(96, 128, 0)}])
    traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    run = adapter._create_wrapper(traced)
    inputs = [{"image": image(70, 160, 2)}]
    with torch.no_grad():
        wanted = model(inputs)[0]["instances"]
    found = run(inputs)[0]["instances"]
    assert len(found) == len(wanted) > 0 and found.pred_masks.shape == (len(wanted), 70, 160)
    torch.testing.assert_close(found.pred_boxes.tensor, wanted.pred_boxes.tensor, rtol=1e-5, atol=1e-3)
    assert (found.pred_masks != wanted.pred_masks).float().mean() < 1e-3
