"""Mask R-CNN on the stride-16 features of a ResNet-50, its fifth stage being the head."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.modeling.roi_heads import Res5ROIHeads

from ..data.constants import constants
from .mask_rcnn_fpn import model

model.backbone = model.backbone.bottom_up
model.backbone.out_features = ["res4"]

rpn = model.proposal_generator
rpn.in_features = ["res4"]
rpn.head.update(in_channels=1024, num_anchors=15)
rpn.anchor_generator.update(sizes=[[32, 64, 128, 256, 512]], strides=[16])
rpn.update(pre_nms_topk=(12000, 6000), post_nms_topk=(2000, 1000))
del rpn

pyramid = model.roi_heads
model.roi_heads = L(Res5ROIHeads)(
    num_classes=pyramid.num_classes,
    batch_size_per_image=pyramid.batch_size_per_image,
    positive_fraction=pyramid.positive_fraction,
    proposal_matcher=pyramid.proposal_matcher,
    in_features=["res4"],
    pooler=pyramid.mask_pooler,
    res5=L(ResNet.make_stage)(
        block_class=BottleneckBlock,
        num_blocks=3,
        stride_per_block=[2, 1, 1],
        in_channels=1024,
        bottleneck_channels=512,
        out_channels=2048,
        norm="FrozenBN",
        stride_in_1x1=True,
    ),
    box_predictor=pyramid.box_predictor,
    mask_head=pyramid.mask_head,
)
del pyramid
model.roi_heads.pooler.scales = (1.0 / 16,)
model.roi_heads.box_predictor.input_shape = L(ShapeSpec)(channels="${...res5.out_channels}", width=1, height=1)
model.roi_heads.mask_head.update(
    input_shape=L(ShapeSpec)(
        channels="${...res5.out_channels}", width="${...pooler.output_size}", height="${...pooler.output_size}"
    ),
    conv_dims=[256],
)
