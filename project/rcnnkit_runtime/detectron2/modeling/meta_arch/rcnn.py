"""R-CNN models (Ren et al.; He et al.): backbone, proposals, RoI heads; and the proposal network alone.

The input is a list with one dict per image:
    image: (C, H, W) tensor in ``input_format``, 0 to 255
    instances: ``Instances`` of ground truth, needed in training
    proposals: ``Instances``, needed when the model has no proposal generator
    height, width: the wanted output resolution, the input's if missing
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from detectron2.config import configurable
from detectron2.layers import move_device_like
from detectron2.modeling.backbone import Backbone, build_backbone
from detectron2.modeling.meta_arch.build import META_ARCH_REGISTRY
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.proposal_generator import build_proposal_generator
from detectron2.modeling.roi_heads import build_roi_heads
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage

__all__ = ["GeneralizedRCNN", "ProposalNetwork"]

_MAX_VISUALIZED_PROPOSALS = 20


class NormalizesPixels(nn.Module):
    """A model that normalises its images, and lives where its pixel mean does."""

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def _register_pixel_statistics(self, pixel_mean: tuple[float, ...], pixel_std: tuple[float, ...]) -> None:
        """Buffers of shape (C, 1, 1) that stay out of the state dict."""
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        assert self.pixel_mean.shape == self.pixel_std.shape, (
            f"PIXEL_MEAN and PIXEL_STD need one value per channel each, got {list(pixel_mean)} and {list(pixel_std)}"
        )

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def _move_to_current_device(self, x: torch.Tensor) -> torch.Tensor:
        return move_device_like(x, self.pixel_mean)


def _batch_images(model, batched_inputs: list[dict]) -> ImageList:
    """Normalises the images of a batch and pads them to a common size that suits the backbone."""
    images = [model._move_to_current_device(x["image"]) for x in batched_inputs]
    images = [(image - model.pixel_mean) / model.pixel_std for image in images]
    return ImageList.from_tensors(
        images, model.backbone.size_divisibility, padding_constraints=model.backbone.padding_constraints
    )


def _output_size(batched_input: dict, image_size: tuple[int, int]) -> tuple[int, int]:
    return batched_input.get("height", image_size[0]), batched_input.get("width", image_size[1])


def _to_rgb(image: torch.Tensor, input_format: str) -> np.ndarray:
    """(C, H, W) of ``input_format`` to (H, W, 3) uint8 RGB."""
    array = image.detach().permute(1, 2, 0).cpu().numpy()
    if input_format == "BGR":
        array = array[:, :, ::-1]
    elif input_format == "L":
        array = array.repeat(3, axis=2)
    return np.ascontiguousarray(array.clip(0, 255).astype(np.uint8))


def _up_to_proposals(cfg) -> dict[str, Any]:
    """What both models are made of: pixel statistics, backbone and proposal generator."""
    backbone = build_backbone(cfg)
    return {
        "backbone": backbone,
        "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
    }


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(NormalizesPixels):
    """Per-image feature extraction, region proposals, per-region prediction."""

    roi_heads: Any

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
        pixel_mean: tuple[float],
        pixel_std: tuple[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ) -> None:
        """
        Args:
            backbone: makes the feature maps.
            proposal_generator: makes proposals; None where the input brings them.
            roi_heads: predicts from features and proposals.
            pixel_mean: subtracted from each channel.
            pixel_std: divides each channel.
            input_format: order of the channels, needed for visualization only.
            vis_period: visualize every so many iterations, 0 for never.
        """
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.input_format = input_format
        self.vis_period = vis_period
        if vis_period > 0:
            assert input_format is not None, "input_format is required for visualization!"
        self._register_pixel_statistics(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg) -> dict:
        parts = _up_to_proposals(cfg)
        return {
            **parts,
            "roi_heads": build_roi_heads(cfg, parts["backbone"].output_shape()),
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
        }

    def visualize_training(self, batched_inputs: list[dict], proposals: list[Instances]) -> None:
        """Puts ground truth beside the best proposals of the batch's first image into the event storage."""
        from detectron2.utils.visualizer import Visualizer  # drawing libraries load only where someone looks

        storage = get_event_storage()
        image = _to_rgb(batched_inputs[0]["image"], self.input_format or "BGR")
        gt_boxes = batched_inputs[0]["instances"].gt_boxes.tensor.cpu().numpy()
        best = proposals[0].proposal_boxes.tensor[:_MAX_VISUALIZED_PROPOSALS].detach().cpu().numpy()
        drawn = [Visualizer(image, None).overlay_instances(boxes=boxes).get_image() for boxes in (gt_boxes, best)]
        picture = np.concatenate(drawn, axis=1).transpose(2, 0, 1)
        storage.put_image("Left: GT bounding boxes;  Right: Predicted proposals", picture)

    def forward(self, batched_inputs: list[dict[str, torch.Tensor]]):
        """
        Args:
            batched_inputs: see the top of the file.

        Returns:
            In training a dict of losses; in inference per image a dict with ``instances``: ``pred_boxes``, ``scores``,
            ``pred_classes`` and whatever the heads add, in the output resolution.
        """
        if not self.training:
            return self.inference(batched_inputs)

        images = self.preprocess_image(batched_inputs)
        gt_instances = None
        if "instances" in batched_inputs[0]:
            gt_instances = [x["instances"].to(self.device) for x in batched_inputs]  # type: ignore[arg-type]
        features = self.backbone(images.tensor)
        losses: dict[str, torch.Tensor] = {}
        if self.proposal_generator is not None:
            proposals, proposal_losses = self.proposal_generator(images, features, gt_instances)
            losses.update(proposal_losses)
        else:
            proposals = self._given_proposals(batched_inputs)
        _, detector_losses = self.roi_heads(images, features, proposals, gt_instances)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return {**detector_losses, **losses}

    def _given_proposals(self, batched_inputs: list[dict]) -> list[Instances]:
        assert "proposals" in batched_inputs[0], (
            "the model has no proposal generator, so each input needs 'proposals': "
            "set MODEL.LOAD_PROPOSALS and DATASETS.PROPOSAL_FILES_*"
        )
        return [x["proposals"].to(self.device) for x in batched_inputs]

    def inference(
        self,
        batched_inputs: list[dict[str, torch.Tensor]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ):
        """
        Args:
            batched_inputs: see the top of the file.
            detected_instances: per image, ``pred_boxes`` and ``pred_classes``; only mask and keypoint heads run.
            do_postprocess: scale the results to the output resolution.

        Returns:
            As ``forward``; without post-processing per image ``Instances`` in the network's input resolution.
        """
        assert not self.training, "inference() needs the model in eval mode"
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        if detected_instances is None:
            if self.proposal_generator is not None:
                proposals, _ = self.proposal_generator(images, features, None)
            else:
                proposals = self._given_proposals(batched_inputs)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            detected = [x.to(self.device) for x in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, detected)
        if do_postprocess:
            return self._postprocess(results, batched_inputs, images.image_sizes)
        return results

    def preprocess_image(self, batched_inputs: list[dict[str, torch.Tensor]]) -> ImageList:
        """Normalises, pads and batches the images."""
        return _batch_images(self, batched_inputs)

    @staticmethod
    def _postprocess(
        instances: list[Instances], batched_inputs: list[dict[str, torch.Tensor]], image_sizes: list[tuple[int, int]]
    ) -> list[dict[str, Instances]]:
        """Scales the detections of each image to its output resolution."""
        return [
            {"instances": detector_postprocess(results, *_output_size(batched_input, image_size))}
            for results, batched_input, image_size in zip(instances, batched_inputs, image_sizes)
        ]


@META_ARCH_REGISTRY.register()
class ProposalNetwork(NormalizesPixels):
    """Backbone and proposal generator only."""

    @configurable
    def __init__(
        self, *, backbone: Backbone, proposal_generator: nn.Module, pixel_mean: tuple[float], pixel_std: tuple[float]
    ) -> None:
        """
        Args:
            backbone: makes the feature maps.
            proposal_generator: makes proposals from them.
            pixel_mean: subtracted from each channel.
            pixel_std: divides each channel.
        """
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self._register_pixel_statistics(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg) -> dict:
        return _up_to_proposals(cfg)

    def forward(self, batched_inputs: list[dict]):
        """
        Args:
            batched_inputs: see the top of the file.

        Returns:
            In training a dict of losses; in inference per image a dict with ``proposals``: ``proposal_boxes`` and
            ``objectness_logits``, in the output resolution.
        """
        images = _batch_images(self, batched_inputs)
        features = self.backbone(images.tensor)
        gt_instances = None
        if "instances" in batched_inputs[0]:
            gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        proposals, proposal_losses = self.proposal_generator(images, features, gt_instances)
        if self.training:
            return proposal_losses
        return [
            {"proposals": detector_postprocess(results, *_output_size(batched_input, image_size))}
            for results, batched_input, image_size in zip(proposals, batched_inputs, images.image_sizes)
        ]
