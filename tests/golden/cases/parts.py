"""The parts between the networks: anchors, box encoding, matching, levels, pooling, pasted masks, key points."""

import numpy as np
import torch

from detectron2.config import get_cfg
from detectron2.layers import ROIAlign, ShapeSpec, batched_nms, paste_masks_in_image
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import BitMasks, Boxes, BoxMode, Keypoints, PolygonMasks, pairwise_ioa, pairwise_iou
from detectron2.structures.keypoints import heatmaps_to_keypoints


def random_boxes(count: int, seed: int, extent: float = 200.0) -> torch.Tensor:
    """(count, 4) float32 XYXY in absolute pixels, widths and heights from 1 to `extent` / 2."""
    random = np.random.RandomState(seed)
    corner = random.uniform(0, extent, (count, 2))
    size = np.exp(random.uniform(0, np.log(extent / 2), (count, 2)))
    return torch.from_numpy(np.concatenate([corner, corner + size], axis=1).astype(np.float32))


def anchors() -> dict:
    """FPN's anchors (five levels, one size each) and C4's (one level, five sizes) on odd grids."""
    grids = [(25, 34), (13, 17), (7, 9), (4, 5), (2, 3)]
    fpn = get_cfg()
    fpn.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    fpn.MODEL.ANCHOR_GENERATOR.OFFSET = 0.5
    shapes = [ShapeSpec(channels=1, stride=stride) for stride in (4, 8, 16, 32, 64)]
    levels = build_anchor_generator(fpn, shapes)([torch.zeros(1, 1, *grid) for grid in grids])
    out = {f"fpn_{index}": boxes.tensor.numpy()[::7] for index, boxes in enumerate(levels)}
    (single,) = build_anchor_generator(get_cfg(), [ShapeSpec(channels=1, stride=16)])([torch.zeros(1, 1, 5, 7)])
    return {**out, "c4": single.tensor.numpy()}


def box_deltas() -> dict:
    """Encoding and decoding of boxes, with sizes beyond the clamp of the logarithm."""
    transform = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))
    source, target = random_boxes(50, 1), random_boxes(50, 2)
    deltas = transform.get_deltas(source, target)
    many = torch.from_numpy(np.random.RandomState(3).standard_normal((50, 12)).astype(np.float32)) * 30
    return {"deltas": deltas.numpy(), "decoded": transform.apply_deltas(many, source).numpy()}


def overlaps() -> dict:
    """Intersection over union, and over the area of the second box."""
    one, two = Boxes(random_boxes(20, 4, 60.0)), Boxes(random_boxes(30, 5, 60.0))
    return {"iou": pairwise_iou(one, two).numpy(), "ioa": pairwise_ioa(one, two).numpy()}


def matching() -> dict:
    """Labels and matches of the RPN's matcher (low-quality matches allowed) and of the RoI heads'."""
    quality = torch.from_numpy(np.random.RandomState(6).uniform(0, 1, (7, 200)).astype(np.float32)) ** 2
    out = {}
    for name, matcher in {
        "rpn": Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        "roi": Matcher([0.5], [0, 1], allow_low_quality_matches=False),
    }.items():
        for case, matrix in {"": quality, "_weak": quality * 0.4, "_empty": quality[:0]}.items():
            matches, labels = matcher(matrix)
            out[f"{name}{case}_matches"], out[f"{name}{case}_labels"] = matches.numpy(), labels.numpy()
    return out


def levels() -> dict:
    """The FPN level of each box, at the borders of levels too."""
    exact = torch.tensor(
        [[0.0, 0.0, side, side] for side in (1, 55, 56, 111, 112, 113, 223, 224, 225, 447, 448, 449, 2000)]
    )
    boxes = [Boxes(exact), Boxes(random_boxes(100, 8, 1200.0))]
    return {"levels": assign_boxes_to_levels(boxes, 2, 5, 224, 4).numpy()}


def pooling() -> dict:
    """RoIAlign in both conventions, RoIPool, and the pooler over four levels."""
    random = np.random.RandomState(9)
    feature = torch.from_numpy(random.standard_normal((2, 3, 24, 32)).astype(np.float32))
    rois = torch.cat([torch.tensor([[0.0]] * 4 + [[1.0]] * 4), random_boxes(8, 10, 90.0)], dim=1)
    out = {
        f"aligned_{aligned}": ROIAlign((7, 7), 0.25, ratio, aligned=aligned)(feature, rois).numpy()
        for aligned, ratio in ((True, 0), (False, 2))
    }
    pyramid = [torch.from_numpy(random.standard_normal((1, 2, 64 >> i, 96 >> i)).astype(np.float32)) for i in range(4)]
    boxes = [Boxes(random_boxes(30, 11, 380.0))]
    for kind in ("ROIAlignV2", "ROIPool"):
        pooler = ROIPooler(7, scales=(1 / 4, 1 / 8, 1 / 16, 1 / 32), sampling_ratio=0, pooler_type=kind)
        out[kind] = pooler(pyramid, boxes).numpy()
    return out


def nms() -> dict:
    """Class-wise suppression."""
    random = np.random.RandomState(12)
    scores = torch.from_numpy(random.permutation(300).astype(np.float32) / 300)
    classes = torch.from_numpy(random.randint(0, 5, 300))
    return {"kept": batched_nms(random_boxes(300, 13, 100.0), scores, classes, 0.5).numpy()}


def masks() -> dict:
    """Masks pasted into the image, polygons and bit masks cropped to RoIs, tight boxes of both."""
    random = np.random.RandomState(14)
    coarse = torch.from_numpy(random.uniform(0, 1, (6, 28, 28)).astype(np.float32))
    boxes = random_boxes(6, 15, 90.0)
    boxes[0] = torch.tensor([-10.0, -5.0, 30.0, 40.0])
    pasted = paste_masks_in_image(coarse, Boxes(boxes), (97, 113), threshold=0.5)
    soft = paste_masks_in_image(coarse, Boxes(boxes), (97, 113), threshold=-1)[:, ::3, ::3]
    polygons = PolygonMasks(
        [
            [np.array([10.0, 10, 60, 15, 50, 70, 12, 55])],
            [np.array([5.5, 5, 20, 5, 12, 30]), np.array([40.0, 40, 80, 40, 60, 90])],
        ]
    )
    rois = torch.tensor([[8.0, 8.0, 62.0, 72.0], [3.0, 4.0, 85.5, 92.25]])
    bits = BitMasks.from_polygon_masks(polygons, 100, 110)
    return {
        "pasted": np.packbits(pasted.numpy()),
        "soft": soft.numpy(),
        "polygons_cropped": np.packbits(polygons.crop_and_resize(rois, 28).numpy()),
        "bits": np.packbits(bits.tensor.numpy()),
        "bits_cropped": np.packbits(bits.crop_and_resize(rois, 28).numpy()),
        "polygon_boxes": polygons.get_bounding_boxes().tensor.numpy(),
        "bit_boxes": bits.get_bounding_boxes().tensor.numpy(),
        "area": polygons.area().numpy(),
    }


def keypoints() -> dict:
    """Points to heatmap targets, heatmaps to points."""
    random = np.random.RandomState(16)
    boxes = random_boxes(5, 17, 80.0)
    points = np.concatenate([random.uniform(0, 120, (5, 4, 2)), random.randint(0, 3, (5, 4, 1))], axis=2).astype(
        np.float32
    )
    points[0, 0, :2] = boxes[0, 2:].numpy()  # exactly on the far corner, which counts as inside
    targets, valid = Keypoints(points).to_heatmap(boxes, 56)
    maps = torch.from_numpy(random.standard_normal((5, 4, 56, 56)).astype(np.float32))
    return {"targets": targets.numpy(), "valid": valid.numpy(), "decoded": heatmaps_to_keypoints(maps, boxes).numpy()}


def box_modes() -> dict:
    """Conversions between the box formats."""
    boxes = random_boxes(6, 18)
    return {
        "xywh": BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).numpy(),
        "xyxy": BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS).numpy(),
    }


CASES = {
    function.__name__: function
    for function in (anchors, box_deltas, overlaps, matching, levels, pooling, nms, masks, keypoints, box_modes)
}
