"""Mask R-CNN R50-FPN from scratch with large-scale jitter: 400 epochs of COCO."""

from .mask_rcnn_R_50_FPN_100ep_LSJ import dataloader, lr_multiplier, model, optimizer, train

train.max_iter = 737500
lr_multiplier.scheduler.update(milestones=[655556, 710184], num_updates=737500)
