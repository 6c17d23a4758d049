"""What tests of detection code need again and again.

These functions build models and compare structures, so they import those packages when called: `utils` itself
depends on nothing to its right.
"""

import torch

__all__ = ["assert_instances_allclose", "get_model_no_weights", "random_boxes"]


def get_model_no_weights(config_path: str):
    """Build a model-zoo config's model on the CPU, with random weights.

    Args:
        config_path: name in the model zoo, such as "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml".
    """
    from detectron2 import model_zoo
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config(config_path)
    cfg.MODEL.DEVICE = "cpu"
    return build_model(cfg)


def random_boxes(num_boxes: int, max_coord: float = 100, device: str | torch.device = "cpu") -> torch.Tensor:
    """Draw boxes that are never empty.

    Returns:
        (num_boxes, 4) float32, absolute XYXY inside [0, max_coord]; both sides at least max_coord / 100.
    """
    least = max_coord / 100
    corner = torch.rand(num_boxes, 2, device=device) * (max_coord - least)
    size = least + torch.rand(num_boxes, 2, device=device) * (max_coord - least - corner)
    return torch.cat([corner, corner + size], dim=1)


def _assert_field_close(name: str, value, wanted, rtol: float, msg: str) -> None:
    if hasattr(value, "tensor"):  # Boxes and their like
        value, wanted = value.tensor, wanted.tensor
    if not isinstance(value, torch.Tensor):
        assert type(value) is type(wanted) and list(value) == list(wanted), f"{msg}field {name} differs"
        return
    assert value.shape == wanted.shape, f"{msg}field {name}: shape {tuple(value.shape)}, not {tuple(wanted.shape)}"
    if value.dtype.is_floating_point:
        # Relative to the field's greatest value: a coordinate near 0 has the error of one far from it.
        tolerance = rtol * wanted.abs().max().item() if wanted.numel() else 0.0
        worst = (value - wanted).abs().max().item() if wanted.numel() else 0.0
        assert worst <= tolerance, f"{msg}field {name} differs by {worst}, allowed {tolerance}"
    else:
        assert torch.equal(value, wanted), f"{msg}field {name} differs"


def assert_instances_allclose(input, other, *, rtol: float = 1e-5, msg: str = "", size_as_tensor: bool = False) -> None:
    """Assert that two `Instances` have the same image size, the same fields and close values.

    Args:
        input, other: the instances.
        rtol: allowed difference of float fields, relative to the field's greatest magnitude.
        msg: put before the failure's text.
        size_as_tensor: compare image sizes as tensors (traced models return those).
    """
    from detectron2.structures import Instances

    msg = f"{msg}: " if msg else ""
    pair = [x if isinstance(x, Instances) else Instances(x.image_size, **x.get_fields()) for x in (input, other)]
    sizes = [torch.as_tensor(x.image_size).tolist() if size_as_tensor else x.image_size for x in pair]
    assert sizes[0] == sizes[1], f"{msg}image_size is {sizes[0]}, not {sizes[1]}"
    fields, wanted = pair[0].get_fields(), pair[1].get_fields()
    assert sorted(fields) == sorted(wanted), f"{msg}fields are {sorted(fields)}, not {sorted(wanted)}"
    for name, value in fields.items():
        _assert_field_close(name, value, wanted[name], rtol, msg)
