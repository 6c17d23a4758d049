"""torchvision's weights: names, class order, and its own detections from the converted models."""

import argparse

import pytest
import torch
import torchvision
from torchvision.models.detection import KeypointRCNN, MaskRCNN
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, RPNHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.ops import FrozenBatchNorm2d, box_iou

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.torchvision_weights import (
    COCO_CATEGORY_IDS,
    convert_torchvision_detector,
    convert_torchvision_resnet,
)
from detectron2.config import get_cfg
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances

NUM_CLASSES = 5
SIZE = (128, 160)


def config(repository, depth=18):
    cfg = get_cfg()
    cfg.merge_from_file(str(repository / "configs/torchvision/mask_rcnn_R_50_FPN.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = {18: 64, 50: 256}[depth]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST, cfg.MODEL.RPN.POST_NMS_TOPK_TEST, cfg.TEST.DETECTIONS_PER_IMAGE = 100, 80, 30
    return cfg


# The same limits on torchvision's side, and images that it does not resize.
LIMITS = {
    "rpn_pre_nms_top_n_test": 100,
    "rpn_post_nms_top_n_test": 80,
    "box_detections_per_img": 30,
    "min_size": SIZE[0],
    "max_size": SIZE[1],
}


def pyramid(depth):
    """torchvision's backbone with FPN, as its own builders make it."""
    return _resnet_fpn_extractor(getattr(torchvision.models, f"resnet{depth}")(norm_layer=torch.nn.BatchNorm2d), 5)


def images(number=2):
    """RGB in [0, 1] with large shapes, so that features differ over the image."""
    blocks = torch.rand(number, 3, 8, 10)
    return list(torch.nn.functional.interpolate(blocks, size=SIZE, mode="bicubic").clamp(0, 1))


@torch.no_grad()
def spread(model, sample):
    """Random weights with usual statistics: normalised features, and scores and offsets that vary over the boxes."""
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, std=0.2)
    batch, _ = model.transform(sample)
    model.backbone.train()
    model.backbone(batch.tensors)
    model.eval()
    features = model.backbone(batch.tensors)
    head, heads = model.rpn.head, model.roi_heads
    adjust(
        head.bbox_pred, torch.cat([out.movedim(1, -1).flatten(0, 2) for out in head(list(features.values()))[1]]), 0.2
    )
    proposals, _ = model.rpn(batch, features)
    hidden = heads.box_head(heads.box_roi_pool(features, proposals, batch.image_sizes))
    adjust(heads.box_predictor.cls_score, heads.box_predictor.cls_score(hidden), 2.0)
    adjust(heads.box_predictor.bbox_pred, heads.box_predictor.bbox_pred(hidden), 0.3)
    return model


def adjust(layer, outputs, deviation):
    """Give each output [N, C] of a linear layer or a 1 × 1 convolution the mean 0 and the standard deviation."""
    scale = deviation / outputs.std(dim=0)
    layer.bias.sub_(outputs.mean(dim=0)).mul_(scale)
    layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))


def freeze(model, eps):
    """The backbone's normalisation frozen, as torchvision has it where weights are given."""
    for parent in list(model.backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(child.num_features)
                frozen.load_state_dict({key: child.state_dict()[key] for key in frozen.state_dict()})
                setattr(parent, name, frozen)
    overwrite_eps(model, eps)


def same_detections(expected, instances):
    """The share of torchvision's detections that ours has: same class, score within 1e-3 and IoU of 0.99 or more."""
    iou = box_iou(expected["boxes"], instances.pred_boxes.tensor)
    same_class = expected["labels"][:, None] - 1 == instances.pred_classes[None]
    same_score = (expected["scores"][:, None] - instances.scores[None]).abs() < 1e-3
    return ((iou >= 0.99) & same_class & same_score).any(dim=1).float().mean().item()


@torch.no_grad()
def detections_of_both(reference, cfg, path, sample):
    model = build_model(cfg).eval()
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(path))
    assert checkpointer.report.is_complete, str(checkpointer.report)
    expected = reference.eval()(sample)
    ours = model([{"image": image * 255} for image in sample])
    return model, expected, [one["instances"] for one in ours]


@pytest.mark.parametrize(
    ("depth", "eps"),
    [(18, 0.0), pytest.param(18, 1e-5, marks=pytest.mark.slow), pytest.param(50, 0.0, marks=pytest.mark.slow)],
)
@torch.no_grad()
def test_mask_rcnn_detects_what_torchvision_does(repository, tmp_path, depth, eps):
    reference = MaskRCNN(pyramid(depth), num_classes=NUM_CLASSES + 1, **LIMITS)
    sample = images()
    spread(reference, sample)
    if eps == 0.0:  # published models are frozen and run with an epsilon of 0
        for module in reference.backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                # a channel that hardly varies tells the two epsilons apart
                module.weight[0] *= 1e-5**0.5 / module.running_var[0].sqrt()
                module.running_var[0] = 1e-5
        freeze(reference, eps)
    path = tmp_path / "maskrcnn.pth"
    torch.save(reference.state_dict(), path)

    model, expected, found = detections_of_both(reference, config(repository, depth), path, sample)
    assert sum(len(one["boxes"]) for one in expected) >= 30
    for theirs, ours in zip(expected, found):
        assert len(theirs["boxes"]) == len(ours)
        assert same_detections(theirs, ours) >= 0.95
        assert len(ours.pred_classes.unique()) >= 2

    # masks: the same probabilities for the same boxes; pasting them into the image is documented to differ
    features = reference.backbone(reference.transform(sample)[0].tensors)
    pooled = reference.roi_heads.mask_roi_pool(features, [one["boxes"] for one in expected], [SIZE] * len(sample))
    logits = reference.roi_heads.mask_predictor(reference.roi_heads.mask_head(pooled))
    labels = torch.cat([one["labels"] for one in expected])
    given = []
    for one in expected:
        given.append(Instances(SIZE))
        given[-1].pred_boxes, given[-1].pred_classes = Boxes(one["boxes"]), one["labels"] - 1
    normalised = model.preprocess_image([{"image": image * 255} for image in sample])
    ours = model.roi_heads.forward_with_given_boxes(model.backbone(normalised.tensor), given)
    masks = torch.cat([one.pred_masks for one in ours])[:, 0]
    torch.testing.assert_close(masks, logits[torch.arange(len(labels)), labels].sigmoid(), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_mask_rcnn_v2_detects_what_torchvision_does(repository, tmp_path):
    """The parts of maskrcnn_resnet50_fpn_v2: normalisation everywhere, a deeper RPN, convolutions in the box head."""
    norm = torch.nn.BatchNorm2d
    backbone = torchvision.models.resnet18(norm_layer=norm)
    reference = MaskRCNN(
        _resnet_fpn_extractor(backbone, 5, norm_layer=norm),
        num_classes=NUM_CLASSES + 1,
        rpn_head=RPNHead(256, 3, conv_depth=2),
        box_head=FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm),
        mask_head=MaskRCNNHeads(256, [256] * 4, 1, norm_layer=norm),
        **LIMITS,
    )
    sample = images(1)
    spread(reference, sample)
    path = tmp_path / "maskrcnn_v2.pth"
    torch.save({"model": reference.state_dict(), "args": argparse.Namespace(lr=0.02)}, path)
    cfg = config(repository)
    cfg.MODEL.FPN.NORM = cfg.MODEL.ROI_BOX_HEAD.NORM = cfg.MODEL.ROI_MASK_HEAD.NORM = cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RPN.CONV_DIMS = [-1, -1]
    cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 4, 1
    _, expected, found = detections_of_both(reference, cfg, path, sample)
    assert len(expected[0]["boxes"]) >= 15
    assert same_detections(expected[0], found[0]) >= 0.95


@pytest.mark.slow
def test_keypoint_rcnn_detects_what_torchvision_does(repository, tmp_path):
    reference = KeypointRCNN(pyramid(18), num_classes=2, num_keypoints=3, **LIMITS)
    sample = images(1)
    spread(reference, sample)
    path = tmp_path / "keypointrcnn.pth"
    torch.save(reference.state_dict(), path)
    cfg = config(repository)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON = False, True
    head = cfg.MODEL.ROI_KEYPOINT_HEAD
    head.NUM_KEYPOINTS, head.POOLER_TYPE, head.POOLER_SAMPLING_RATIO = 3, "ROIAlign", 2
    _, (theirs,), (ours,) = detections_of_both(reference, cfg, path, sample)
    assert len(theirs["boxes"]) == len(ours) > 5
    assert same_detections(theirs, ours) >= 0.95
    matched = box_iou(theirs["boxes"], ours.pred_boxes.tensor).argmax(dim=1)
    distance = (theirs["keypoints"][..., :2] - ours.pred_keypoints[matched][..., :2]).norm(dim=-1)
    assert distance.median() < 1.0  # pixels; both look for the maximum of an enlarged map, on different grids


def small_detector(rows):
    """The class-dependent tensors of a detector, filled with the number of their row."""
    number = torch.arange(float(rows))
    return {
        "roi_heads.box_predictor.cls_score.weight": number[:, None].expand(rows, 2).clone(),
        "roi_heads.box_predictor.cls_score.bias": number.clone(),
        "roi_heads.box_predictor.bbox_pred.bias": number.repeat_interleave(4),
        "roi_heads.mask_predictor.mask_fcn_logits.bias": number.clone(),
    }


def test_background_moves_and_goes():
    converted = convert_torchvision_detector(small_detector(3))
    assert converted["roi_heads.box_predictor.cls_score.bias"].tolist() == [1, 2, 0]
    assert converted["roi_heads.box_predictor.cls_score.weight"][:, 1].tolist() == [1, 2, 0]
    assert converted["roi_heads.box_predictor.bbox_pred.bias"].tolist() == [1] * 4 + [2] * 4
    assert converted["roi_heads.mask_head.predictor.bias"].tolist() == [1, 2]


def test_the_80_of_90_classes_are_those_of_coco():
    assert list(COCO_CATEGORY_IDS) == [category["id"] for category in COCO_CATEGORIES if category["isthing"]]
    converted = convert_torchvision_detector(small_detector(91), category_ids=COCO_CATEGORY_IDS)
    assert converted["roi_heads.box_predictor.cls_score.bias"].tolist() == [*COCO_CATEGORY_IDS, 0]
    assert len(converted["roi_heads.box_predictor.bbox_pred.bias"]) == 4 * 80


def test_names_of_older_files():
    names = ("backbone.fpn.inner_blocks.0.weight", "rpn.head.conv.bias", "other")
    converted = convert_torchvision_detector(dict.fromkeys(names, torch.ones(1)))
    assert set(converted) == {"backbone.fpn_lateral2.weight", "proposal_generator.rpn_head.conv.bias", "other"}


def test_norm_eps_goes_into_the_scale():
    body = "backbone.body.bn1."
    weights = {f"{body}weight": torch.ones(2), f"{body}running_var": torch.tensor([1e-5, 3e-5])}
    scales = convert_torchvision_detector(weights)["backbone.bottom_up.stem.conv1.norm.weight"]
    # sqrt((1 + 1) / 1), sqrt((3 + 1) / 3)
    assert scales.tolist() == pytest.approx([2**0.5, (4 / 3) ** 0.5])
    assert convert_torchvision_detector(weights, norm_eps=1e-5)["backbone.bottom_up.stem.conv1.norm.weight"][0] == 1.0
    counted = weights | {f"{body}num_batches_tracked": torch.tensor(1)}
    converted = convert_torchvision_detector(counted)
    assert converted["backbone.bottom_up.stem.conv1.norm.weight"][0] == 1.0
    assert len(converted) == 3


@pytest.mark.parametrize("depth", [18, 50])
@torch.no_grad()
def test_resnet_into_a_backbone(repository, tmp_path, depth):
    cfg = config(repository, depth)
    reference = getattr(torchvision.models, f"resnet{depth}")(num_classes=2).eval()
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    torch.save({f"module.{key}": tensor for key, tensor in reference.state_dict().items()}, tmp_path / "resnet.pth")
    model = torch.nn.Module()
    model.backbone = build_backbone(cfg).eval()
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(tmp_path / "resnet.pth"))
    report = checkpointer.report
    assert sorted(report.unexpected) == ["linear.bias", "linear.weight"]
    assert {key.split(".")[1][:-1] for key in report.missing} == {"fpn_lateral", "fpn_output"}
    assert not report.mis_shaped

    image = torch.rand(1, 3, 64, 64)
    found = model.backbone.bottom_up(image)["res5"]
    hidden = reference.maxpool(reference.relu(reference.bn1(reference.conv1(image))))
    for layer in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
        hidden = layer(hidden)
    torch.testing.assert_close(found, hidden, rtol=1e-4, atol=1e-4)


def test_a_model_written_in_torchvisions_names_is_left_alone(tmp_path):
    model = torch.nn.Module()
    model.body = torchvision.models.resnet18(num_classes=2)
    state = {f"body.{key}": torch.zeros_like(tensor) for key, tensor in model.body.state_dict().items()}
    torch.save(state, tmp_path / "own.pth")
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(tmp_path / "own.pth"))
    assert checkpointer.report.is_complete
    bare = DetectionCheckpointer(model.body)
    torch.save(model.body.state_dict(), tmp_path / "bare.pth")
    bare.load(str(tmp_path / "bare.pth"))
    assert bare.report.is_complete


def test_norm_eps_is_refused_for_other_files(tmp_path):
    torch.save({"weight": torch.zeros(1, 1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="norm_eps is for torchvision"):
        DetectionCheckpointer(torch.nn.Linear(1, 1)).load(f"{tmp_path}/other.pth?norm_eps=0.0")


def test_resnet_names():
    names = convert_torchvision_resnet(dict.fromkeys(["layer4.2.bn3.bias", "layer1.0.downsample.1.weight", "fc.bias"]))
    assert list(names) == ["res5.2.conv3.norm.bias", "res2.0.shortcut.norm.weight", "linear.bias"]
