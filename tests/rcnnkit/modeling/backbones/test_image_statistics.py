"""What a backbone's weights get of an image that was normalised for Detectron2, by hand."""

import pytest
import torch

from detectron2.modeling import build_backbone
from rcnnkit.modeling.backbones.image_statistics import ImageStatistics

from .common import MOBILENET, TIMM, config

# Means and deviations of red, green and blue, from 0 to 1. ImageNet's differ from each other and from colour to colour.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_by_hand():
    statistics = ImageStatistics(
        given_mean=[10.0, 20.0],
        given_std=[2.0, 4.0],
        wanted_mean=[5.0, 15.0],
        wanted_std=[3.0, 7.0],
        reverse_channels=True,
    )
    # 1 in the second channel was 4 × 1 + 20 = 24, the first of the weights: (24 − 5) / 3; −2 in the first was 6, their
    # second: (6 − 15) / 7
    image = torch.tensor([-2.0, 1.0]).reshape(1, 2, 1, 1)
    assert statistics(image).flatten().tolist() == pytest.approx([19 / 3, -9 / 7])


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
@pytest.mark.parametrize(
    ("builder", "own", "published"),
    [
        (TIMM, {"NAME": "pvt_v2_b0"}, IMAGENET),
        (TIMM, {"NAME": "test_resnet"}, HALVES),
        (MOBILENET, {"SIZE": "small"}, IMAGENET),
    ],
)
def test_images_reach_the_model_as_its_weights_want_them(builder, own, published, image_format):
    cfg = config(builder, **own)
    cfg.INPUT.FORMAT = image_format
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [103.53, 116.28, 123.675], [1.0, 2.0, 3.0]
    statistics = build_backbone(cfg).bottom_up.statistics
    rgb = torch.randint(0, 256, (2, 3, 4, 5)).float()
    given = rgb if image_format == "RGB" else rgb.flip(1)
    normalised = (given - per_channel(cfg.MODEL.PIXEL_MEAN)) / per_channel(cfg.MODEL.PIXEL_STD)
    mean, std = map(per_channel, published)
    torch.testing.assert_close(statistics(normalised), (rgb / 255 - mean) / std, atol=2e-6, rtol=1e-5)


def per_channel(values) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]
