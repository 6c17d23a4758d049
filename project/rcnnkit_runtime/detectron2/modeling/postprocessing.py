"""From the network's input resolution to the resolution that the caller asked for."""

import torch
import torch.nn.functional as F

from detectron2.structures import Boxes, Instances, ROIMasks


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Scales detections to an output size, clips and drops the boxes that become empty, and pastes masks.

    Args:
        results: ``pred_boxes`` or ``proposal_boxes`` in absolute pixels of the network's input, optionally
            ``pred_masks`` (R, 1, M, M) probabilities and ``pred_keypoints`` (R, K, 3); left as they are.
        output_height: wanted resolution, usually the original image's.
        output_width: see ``output_height``.
        mask_threshold: probability above which a pixel belongs to the mask.

    Returns:
        New ``Instances`` of the output size; ``pred_masks`` become (R, output_height, output_width) bool.
    """
    input_height, input_width = results.image_size
    if isinstance(output_width, torch.Tensor):
        # Tracing: sizes are tensors, and integers would freeze the traced image's size.
        new_size = torch.stack([output_height, output_width])  # type: ignore[list-item]
        scale_x, scale_y = output_width.float() / input_width, output_height.float() / input_height  # type: ignore[attr-defined]
    else:
        new_size = (output_height, output_width)  # type: ignore[assignment]
        scale_x, scale_y = output_width / input_width, output_height / input_height
    fields = dict(results.get_fields())
    box_field = next((name for name in ("pred_boxes", "proposal_boxes") if name in fields), None)
    assert box_field is not None, "Predictions must contain boxes!"
    output_boxes: Boxes = fields[box_field].clone()
    output_boxes.scale(scale_x, scale_y)
    output_boxes.clip(new_size)
    fields[box_field] = output_boxes
    if "pred_keypoints" in fields:
        fields["pred_keypoints"] = _scale_keypoints(fields["pred_keypoints"], scale_x, scale_y)

    # Filter before pasting: full-size masks of dropped boxes would be wasted work.
    output = Instances(new_size, **fields)[output_boxes.nonempty()]  # type: ignore[arg-type]
    if output.has("pred_masks"):
        masks = output.pred_masks
        roi_masks = masks if isinstance(masks, ROIMasks) else ROIMasks(masks[:, 0, :, :])
        output.pred_masks = roi_masks.to_bitmasks(
            output.get(box_field), output_height, output_width, mask_threshold
        ).tensor
    return output


def _scale_keypoints(keypoints: torch.Tensor, scale_x: float, scale_y: float) -> torch.Tensor:
    """(R, K, 3) x, y, score with x and y scaled, in a new tensor."""
    scaled = keypoints.clone()
    scaled[..., 0] *= scale_x
    scaled[..., 1] *= scale_y
    return scaled


def sem_seg_postprocess(
    result: torch.Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> torch.Tensor:
    """Cuts the padding off (C, H, W) logits of the padded input and resizes them bilinearly.

    Args:
        result: (C, H, W) logits.
        img_size: (height, width) of the image without padding.
        output_height: wanted resolution.
        output_width: see ``output_height``.

    Returns:
        (C, output_height, output_width) logits.
    """
    cropped = result[:, : img_size[0], : img_size[1]].unsqueeze(0)
    return F.interpolate(cropped, size=(output_height, output_width), mode="bilinear", align_corners=False)[0]
