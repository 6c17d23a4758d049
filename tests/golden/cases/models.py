"""Whole models: state dicts, RPN proposals, detections and losses, with fixed weights on fixed images.

In training, sampling takes everything (batch sizes beyond the number of anchors and proposals), so nothing is random.
Where stock Detectron2 was installed without its compiled operators, its deformable convolutions run on torchvision's.
"""

import numpy as np
import torch

from detectron2.config import get_cfg
from detectron2.model_zoo import get_config_file
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage
from tests.golden.cases.deformable import usable_deformable_layers
from tests.golden.fixed_weights import fill

ARCHITECTURES = {
    "faster_R50_C4": "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml",
    "faster_R50_DC5": "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml",
    "faster_R50_FPN": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "faster_R101_FPN": "COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml",
    "faster_X101_FPN": "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml",
    "mask_R50_C4": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml",
    "mask_R50_DC5": "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x.yaml",
    "mask_R50_FPN": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    "mask_R50_FPN_gn": "Misc/mask_rcnn_R_50_FPN_3x_gn.yaml",
    "mask_R50_FPN_dconv": "Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5.yaml",
    "mask_R101_FPN": "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml",
    "cascade_R50_FPN": "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    "keypoint_R50_FPN": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
    "rpn_R50_C4": "COCO-Detection/rpn_R_50_C4_1x.yaml",
    "rpn_R50_FPN": "COCO-Detection/rpn_R_50_FPN_1x.yaml",
    "retinanet_R50_FPN": "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "narrow_agnostic": "Misc/mask_rcnn_R_50_FPN_1x_cls_agnostic.yaml",
    "narrow_syncbn": "Misc/mask_rcnn_R_50_FPN_3x_syncbn.yaml",
    "narrow_dconv_v2": "Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5.yaml",
    "narrow_giou": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou.yaml",
    "narrow_diou": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou.yaml",
    "narrow_ciou": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou.yaml",
    "narrow_cascade_keypoint": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml",
}
# Few channels keep a variant of the same code cheap.
NARROW = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS", 16, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 8,
    "MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_BOX_HEAD.FC_DIM", 64, "MODEL.ROI_BOX_HEAD.CONV_DIM", 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM", 32, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", (32, 32),
]  # fmt: skip
OVERRIDES = {
    "narrow_dconv_v2": ["MODEL.RESNETS.DEFORM_MODULATED", True, "MODEL.RESNETS.DEFORM_NUM_GROUPS", 2],
    "narrow_diou": ["MODEL.RPN.BBOX_REG_LOSS_TYPE", "diou", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "diou"],
    "narrow_ciou": ["MODEL.RPN.BBOX_REG_LOSS_TYPE", "ciou", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "ciou"],
    "narrow_cascade_keypoint": [
        "MODEL.ROI_HEADS.NAME",
        "CascadeROIHeads",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
        True,
    ],
    "retinanet_R50_FPN": ["MODEL.RETINANET.SCORE_THRESH_TEST", 0.3],
}
# The others run in `make test-all`.
QUICK = ("faster_R50_FPN", "mask_R50_C4", "mask_R50_FPN", "cascade_R50_FPN", "keypoint_R50_FPN", "narrow")
HEIGHT, WIDTH = 96, 128


def config(name: str):
    """The zoo's config, on the CPU, with few proposals and detections."""
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(ARCHITECTURES[name]))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 4000
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 40
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 40
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 4000
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.02
    cfg.TEST.DETECTIONS_PER_IMAGE = 12
    if name.startswith("narrow"):
        cfg.merge_from_list(NARROW)
    cfg.merge_from_list(OVERRIDES.get(name, []))
    return cfg


def build(name: str) -> torch.nn.Module:
    """The model with the fixed weights."""
    with usable_deformable_layers():
        return fill(build_model(config(name)))


def images() -> list[torch.Tensor]:
    """Two smooth BGR images, uint8 (3, H, W), the second one smaller."""
    random = np.random.RandomState(7)
    coarse = torch.from_numpy(random.uniform(0, 255, (2, 3, 12, 16)).astype(np.float32))
    fine = (
        torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        .round()
        .to(torch.uint8)
    )
    return [fine[0], fine[1, :, :80, :100].contiguous()]


def ground_truth(size: tuple[int, int], keypoints: bool) -> Instances:
    """Three objects: boxes in absolute XYXY, quadrilaterals inside them, COCO's 17 keypoints if asked for."""
    boxes = np.array([[8.0, 6.0, 60.0, 70.0], [30.0, 20.0, 95.0, 78.0], [50.5, 10.25, 70.0, 30.75]], dtype=np.float32)
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.from_numpy(boxes))
    instances.gt_classes = torch.tensor([0, 0, 0] if keypoints else [17, 2, 61])
    polygons = []
    for x0, y0, x1, y1 in boxes.tolist():
        polygons.append([np.array([x0, (y0 + y1) / 2, (x0 + x1) / 2, y0, x1, (y0 + y1) / 2, (x0 + x1) / 2, y1])])
    instances.gt_masks = PolygonMasks(polygons)
    if keypoints:
        random = np.random.RandomState(3)
        points = np.zeros((3, 17, 3), dtype=np.float32)
        points[..., 0] = boxes[:, None, 0] + random.uniform(0, 1, (3, 17)) * (boxes[:, None, 2] - boxes[:, None, 0])
        points[..., 1] = boxes[:, None, 1] + random.uniform(0, 1, (3, 17)) * (boxes[:, None, 3] - boxes[:, None, 1])
        points[..., 2] = random.randint(0, 3, (3, 17))
        instances.gt_keypoints = Keypoints(points)
    return instances


def state_dict(name: str) -> dict:
    """Key → shape of the state dict, in order."""
    with usable_deformable_layers():
        model = build_model(config(name))
    state = model.state_dict()
    return {"keys": list(state), "shapes": [list(value.shape) for value in state.values()]}


def inference(name: str) -> dict:
    """RPN proposals (if there is an RPN) and detections of two images; the second is asked for at twice its size."""
    model = build(name).eval()
    first, second = images()
    inputs = [
        {"image": first, "height": HEIGHT, "width": WIDTH},
        {"image": second, "height": 2 * second.shape[1], "width": 2 * second.shape[2]},
    ]
    out: dict = {}
    with torch.no_grad():
        outputs = model(inputs)
        proposals = [output.get("proposals") for output in outputs]
        if hasattr(model, "roi_heads"):
            batch = model.preprocess_image(inputs)
            proposals, _ = model.proposal_generator(batch, model.backbone(batch.tensor), None)
    for index, (proposal, output) in enumerate(zip(proposals, outputs)):
        if proposal is not None:
            out[f"proposal_boxes_{index}"] = proposal.proposal_boxes.tensor.numpy()
            out[f"objectness_{index}"] = proposal.objectness_logits.numpy()
        if "instances" in output:
            out.update(detections(output["instances"], index))
    return out


def detections(found: Instances, index: int) -> dict:
    """The fields of one image's detections."""
    out = {
        f"boxes_{index}": found.pred_boxes.tensor.numpy(),
        f"scores_{index}": found.scores.numpy(),
        f"classes_{index}": found.pred_classes.numpy(),
    }
    if found.has("pred_masks"):
        out[f"masks_{index}"] = np.packbits(found.pred_masks.numpy())
    if found.has("pred_keypoints"):
        out[f"keypoints_{index}"] = found.pred_keypoints[..., :2].numpy()
        out[f"keypoint_scores_{index}"] = found.pred_keypoints[..., 2].numpy()
    return out


def losses(name: str) -> dict:
    """Every loss of a training step on two images, the second one without objects; and the norm of the gradient."""
    model = build(name).train()
    keypoints = "keypoint" in name
    inputs = []
    for index, image in enumerate(images()):
        truth = ground_truth(tuple(image.shape[1:]), keypoints)
        inputs.append({"image": image, "instances": truth if index == 0 else truth[:0]})
    with EventStorage(0):
        values = model(inputs)
        sum(values.values()).backward()
    gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    out = {key: value.item() for key, value in values.items()}
    out["gradient_norm"] = torch.stack(gradients).norm().item()
    return out


CASES = {}
SLOW = set()
for _name in ARCHITECTURES:
    CASES[f"keys_{_name}"] = lambda name=_name: state_dict(name)
    CASES[f"inference_{_name}"] = lambda name=_name: inference(name)
    CASES[f"losses_{_name}"] = lambda name=_name: losses(name)
    if not _name.startswith(QUICK):
        SLOW |= {f"{kind}_{_name}" for kind in ("keys", "inference", "losses")}
