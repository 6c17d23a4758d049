"""A model and a batch so small that a training step takes a fraction of a second."""

import torch
from torch import nn

from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks
from rcnnkit.config import add_rcnnkit_config

SIZE = (96, 128)  # height, width
MULTI_TASK = (
    "MODEL.META_ARCHITECTURE", "MultiTaskRCNN",
    "MODEL.ROI_HEADS.NAME", "TaskROIHeads",
    "MODEL.PROPOSAL_GENERATOR.NAME", "IgnoringRPN",
)  # fmt: skip
CASCADE = ("MODEL.ROI_HEADS.NAME", "CascadeTaskROIHeads")
CASCADE_PLAIN = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads")


@BACKBONE_REGISTRY.register()
class SmallPyramid(Backbone):
    """Five maps of 8 channels with strides 4 to 64."""

    def __init__(self, cfg, input_shape):
        super().__init__()
        strides = {"p2": 4, "p3": 2, "p4": 2, "p5": 2, "p6": 2}
        self.levels = nn.ModuleDict(
            {name: nn.Conv2d(3 if name == "p2" else 8, 8, 5, stride, 2) for name, stride in strides.items()}
        )
        self._out_features = list(strides)
        self._shapes = {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 7)}

    def forward(self, x):
        features = {}
        for name, level in self.levels.items():
            x = features[name] = torch.tanh(level(x))
        return features

    @property
    def size_divisibility(self):
        return 32

    def output_shape(self):
        return self._shapes


def config(repository, *overrides) -> CfgNode:
    """Boxes of 3 classes, masks and 2 keypoints, on a pyramid of five convolutions."""
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.merge_from_file(str(repository / "configs" / "Base-RCNN-FPN.yaml"))
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.BACKBONE.NAME", "SmallPyramid"),
            *("MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", True),
            *("MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32], [64], [96]]),
            *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 100, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 60),
            *("MODEL.RPN.PRE_NMS_TOPK_TEST", 50, "MODEL.RPN.POST_NMS_TOPK_TEST", 20),
            *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 64, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32),
            *("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
            *("MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
            *("MODEL.ROI_MASK_HEAD.NUM_CONV", 1, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8),
            *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [8], "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 2),
            *("TEST.DETECTIONS_PER_IMAGE", 10),
            *overrides,
        ]
    )
    return cfg


def objects(boxes, masks=None, keypoints=None) -> Instances:
    """Objects of classes 0, 1, 2, 0, ...; `masks` and `keypoints` say which have these labelled; None: no field."""
    count = len(boxes)
    found = Instances(SIZE)
    found.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.gt_classes = torch.arange(count) % 3
    if masks is not None:
        outlines = [[torch.tensor([a, b, c, b, c, d]).double().numpy()] for a, b, c, d in boxes]
        found.gt_masks = PolygonMasks([o if has else [] for o, has in zip(outlines, masks)])
        found.gt_has_mask = torch.tensor(masks, dtype=torch.bool)
    if keypoints is not None:
        points = torch.tensor([[[a + 5, b + 5, 2], [c - 5, d - 5, 2]] for a, b, c, d in boxes], dtype=torch.float32)
        points = points.reshape(count, 2, 3) * torch.tensor(keypoints).reshape(-1, 1, 1)
        found.gt_keypoints = Keypoints(points)
        found.gt_has_keypoints = torch.tensor(keypoints, dtype=torch.bool)
    return found


def sampled(count: int) -> Instances:
    """Proposals of one image as a mask head gets them in training, each two pixels beside its object."""
    instances = objects([[8.0, 8.0, 40.0, 40.0]] * count, [True] * count)
    instances.proposal_boxes = Boxes(instances.gt_boxes.tensor + 2)
    return instances


def detected(count: int) -> Instances:
    """Detections of one image as a mask head gets them in inference."""
    boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]] * count).reshape(-1, 4))
    return Instances(SIZE, pred_boxes=boxes, pred_classes=torch.arange(count) % 3, scores=torch.full((count,), 0.5))


def batch(*targets: Instances) -> list[dict]:
    """An image of noise for each."""
    random = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (len(targets), 3, *SIZE), generator=random, dtype=torch.uint8)
    return [{"image": image, "instances": target} for image, target in zip(images, targets)]


TWO = [[10.0, 10.0, 50.0, 60.0], [60.0, 20.0, 100.0, 80.0]]
ONE = [[30.0, 30.0, 90.0, 90.0]]


def full_batch() -> list[dict]:
    """Two images whose objects have all labels, and one without objects."""
    return batch(
        objects(TWO, [True, True], [True, True]),
        objects(ONE, [True], [True]),
        objects([], [], []),
    )
