"""COCO person keypoints: loaders and evaluator."""

from detectron2.data.detection_utils import create_keypoint_hflip_indices

from .coco import dataloader

dataloader.train.dataset.names = "keypoints_coco_2017_train"
dataloader.train.dataset.min_keypoints = 1
dataloader.train.mapper.update(
    use_instance_mask=False,
    use_keypoint=True,
    keypoint_hflip_indices=create_keypoint_hflip_indices(dataloader.train.dataset.names),
)
dataloader.test.dataset.names = "keypoints_coco_2017_val"
