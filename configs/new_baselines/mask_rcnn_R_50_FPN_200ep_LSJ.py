"""Mask R-CNN R50-FPN from scratch with large-scale jitter: 200 epochs of COCO."""

from .mask_rcnn_R_50_FPN_100ep_LSJ import dataloader, lr_multiplier, model, optimizer, train

train.max_iter = 368750
lr_multiplier.scheduler.update(milestones=[327778, 355092], num_updates=368750)
