"""Mask R-CNN R50-FPN from scratch with large-scale jitter (Ghiasi et al.): 100 epochs of COCO, 64 images a step."""

from fvcore.common.param_scheduler import MultiStepParamScheduler

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from detectron2.solver import WarmupParamScheduler

from ..common.data.coco import dataloader
from ..common.models.mask_rcnn_fpn import model
from ..common.optim import SGD as optimizer
from ..common.train import train

_IMAGE_SIZE = 1024

dataloader.train.total_batch_size = 64
dataloader.train.mapper.augmentations = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=_IMAGE_SIZE, target_width=_IMAGE_SIZE),
    L(T.FixedSizeCrop)(crop_size=(_IMAGE_SIZE, _IMAGE_SIZE)),
    L(T.RandomFlip)(horizontal=True),
]
dataloader.train.mapper.recompute_boxes = True

# From scratch: every layer learns and every normalization spans the whole batch.
model.backbone.bottom_up.freeze_at = 0
model.backbone.bottom_up.stem.norm = model.backbone.bottom_up.stages.norm = model.backbone.norm = "SyncBN"
model.proposal_generator.head.conv_dims = [-1, -1]
model.roi_heads.box_head.update(conv_dims=[256, 256, 256, 256], fc_dims=[1024])
# RoIs per process vary, so a process counts by its number of them.
model.roi_heads.box_head.conv_norm = model.roi_heads.mask_head.conv_norm = lambda channels: NaiveSyncBatchNorm(
    channels, stats_mode="N"
)

train.amp.enabled = True
train.ddp.fp16_compression = True
train.max_iter = 184375
optimizer.update(lr=0.1, weight_decay=4e-5)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01], milestones=[163889, 177546], num_updates=train.max_iter
    ),
    warmup_length=500 / train.max_iter,
    warmup_factor=0.067,
)
