"""Traced models with rcnnkit's heads give the eager model's numbers whatever number of objects there is."""

import pytest
import torch

from detectron2.export import TracingAdapter
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from tests.rcnnkit.modeling import small_rcnn

MASK, KEYPOINT = "MODEL.ROI_MASK_HEAD.", "MODEL.ROI_KEYPOINT_HEAD."
BOUNDARY = (MASK + "NAME", "BoundaryMaskHead", MASK + "POOLER_TYPE", "", MASK + "BOUNDARY.DETAIL_DIM", 4)
QUALITY = (MASK + "NAME", "MaskQualityHead", MASK + "QUALITY.CONV_DIM", 4, MASK + "QUALITY.FC_DIM", 8)
SUBPIXEL = (KEYPOINT + "NAME", "SubpixelKeypointHead", KEYPOINT + "CLASS_KEYPOINTS", [[0, 1], [1], []])
COORDINATE = (KEYPOINT + "NAME", "CoordinateKeypointHead", KEYPOINT + "COORDINATE.CONV_DIM", 8)
CASES = {
    "plain heads": small_rcnn.MULTI_TASK,
    "boundary, subpixel": (*small_rcnn.MULTI_TASK, *BOUNDARY, *SUBPIXEL),
    "quality, coordinate": (*small_rcnn.MULTI_TASK, *QUALITY, *COORDINATE),
    "quality of boundary, cascade": (
        *(*small_rcnn.MULTI_TASK, *small_rcnn.CASCADE, *QUALITY, *COORDINATE),
        *(MASK + "QUALITY.MASK_HEAD", *BOUNDARY[1:]),
    ),
    "boundary in Detectron2's model": BOUNDARY,
}


def without_resizing(model, inputs):
    """What the network finds, in its own resolution, as deployments take it."""
    return model.inference(inputs, do_postprocess=False)


def image(seed: int, height: int = 96, width: int = 128) -> list[dict]:
    return [{"image": torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 255}]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("case", CASES)
def test_other_numbers_of_objects(case, repository):
    torch.manual_seed(0)
    model = build_model(small_rcnn.config(repository, *CASES[case], "TEST.DETECTIONS_PER_IMAGE", 100)).eval()
    predictors = model.roi_heads.box_predictor
    for predictor in predictors if isinstance(predictors, torch.nn.ModuleList) else [predictors]:
        torch.nn.init.normal_(predictor.cls_score.weight, std=2.0)  # scores that spread
        predictor.test_score_thresh = 0.5
    adapter = TracingAdapter(model, image(0), inference_func=without_resizing)
    traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    counts = set()
    for inputs in (image(0), image(1, 128, 100), image(2, 70, 160), image(3, 64, 64)):
        with torch.no_grad():
            [wanted] = without_resizing(model, inputs)
        [found] = adapter.outputs_schema(traced(inputs[0]["image"]))
        assert set(found.get_fields()) == set(wanted.get_fields()) >= {"pred_masks", "pred_boxes"}
        counts.add(len(wanted))
        for name, value in wanted.get_fields().items():
            value, other = (x.tensor if isinstance(x, Boxes) else x for x in (value, found.get(name)))
            torch.testing.assert_close(other, value, rtol=1e-5, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert len(counts) > 1 and max(counts) > 0
