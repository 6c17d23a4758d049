import pytest
import torch

from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import Boxes, Instances


def detections(**fields):
    boxes = Boxes(torch.tensor([[0.0, 0.0, 5.0, 5.0], [3.0, 3.0, 3.0, 9.0], [-2.0, -3.0, 40.0, 8.0]]))
    return Instances((10, 10), pred_boxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7]), **fields)


def test_scale_clip_and_drop_empty():
    results = detections()
    output = detector_postprocess(results, 20, 30)
    assert output.image_size == (20, 30)
    assert output.pred_boxes.tensor.tolist() == [[0, 0, 15, 10], [0, 0, 30, 16]]
    assert output.scores.tolist() == pytest.approx([0.9, 0.7])
    # The input is left as it was.
    assert results.pred_boxes.tensor[2].tolist() == [-2, -3, 40, 8]


def test_keypoints_scale_and_keep_their_score():
    keypoints = torch.tensor([[[1.0, 2.0, 0.5]]]).repeat(3, 1, 1)
    results = detections(pred_keypoints=keypoints)
    assert detector_postprocess(results, 20, 30).pred_keypoints.tolist() == [[[3, 4, 0.5]]] * 2
    assert keypoints[0].tolist() == [[1, 2, 0.5]]


def test_masks_are_pasted_into_the_output():
    results = detections(pred_masks=torch.ones(3, 1, 28, 28))
    masks = detector_postprocess(results, 20, 30).pred_masks
    assert masks.shape == (2, 20, 30)
    assert masks.dtype == torch.bool
    assert masks[0, :10, :15].all()
    assert not masks[0, 12:].any()


def test_proposals_and_nothing_at_all():
    proposals = Instances((10, 10), proposal_boxes=Boxes(torch.tensor([[0.0, 0.0, 5.0, 5.0]])))
    assert detector_postprocess(proposals, 5, 20).proposal_boxes.tensor.tolist() == [[0, 0, 10, 2.5]]
    empty = Instances((10, 10), pred_boxes=Boxes(torch.zeros(0, 4)), pred_masks=torch.zeros(0, 1, 28, 28))
    assert detector_postprocess(empty, 20, 30).pred_masks.shape == (0, 20, 30)
    with pytest.raises(AssertionError, match="boxes"):
        detector_postprocess(Instances((10, 10)), 20, 30)


def test_semantic_logits_lose_the_padding_and_are_resized():
    logits = torch.arange(50.0).view(2, 5, 5)
    output = sem_seg_postprocess(logits, (3, 4), 6, 8)
    assert output.shape == (2, 6, 8)
    # Bilinear at half-pixel centres: the second sample lies a quarter between columns 0 and 1.
    assert output[0, 0, :3].tolist() == pytest.approx([0.0, 0.25, 0.75])
    assert output[1, -1, -1].item() == logits[1, 2, 3].item()
