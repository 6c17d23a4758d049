"""Mask R-CNN R50-FPN from scratch with large-scale jitter: 50 epochs of COCO."""

from .mask_rcnn_R_50_FPN_100ep_LSJ import dataloader, lr_multiplier, model, optimizer, train

train.max_iter = 92187
lr_multiplier.scheduler.update(milestones=[81944, 88773], num_updates=92187)
