"""Mosaic: four training images around a random point.

Bochkovskiy et al., "YOLOv4: optimal speed and accuracy of object detection", 2020, https://arxiv.org/abs/2004.10934,
section 3.3.

Shapes: H×W image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detectron2.structures import Boxes, Instances
from rcnnkit.data.augmentation.labelled_image import LabelledImage, LeastLeft, View, regions_of


class Mosaic:
    """With some probability, show this image and three others in the four parts of a frame as large as this image.

    All four were augmented by themselves; none is resized. A part shows a random window of its image; an image smaller
    than the part lies at the centre, and beside it is fill.

    Args:
        prob: 0 to 1.
        center: (least, most) place of the centre relative to the sides, each axis drawn for itself.
        fill: value of the pixels that no image covers.
        least: which of the objects that a window cuts stay. Of one without a mask the area of its box counts.
    """

    def __init__(self, prob: float, *, center: tuple[float, float], fill: float, least: LeastLeft):
        self.prob = prob
        self.center = tuple(center)
        self.fill = fill
        self.least = least

    def __call__(
        self, first: LabelledImage, another: Callable[[], LabelledImage], rng: np.random.Generator
    ) -> tuple[LabelledImage, int]:
        """The mosaic, and the number of the four images' objects that it does not show; `another` draws an image."""
        if rng.random() >= self.prob:
            return first, 0
        images = [first, another(), another(), another()]
        size = first.image.shape[:2]
        y, x = (round(side * rng.uniform(self.center[0], self.center[1])) for side in size)
        order = rng.permutation(4)
        views = [random_part(images[i].image.shape[:2], part, (x, y), size, rng) for part, i in enumerate(order)]
        return joined([images[i] for i in order], views, fill=self.fill, least=self.least)


def random_part(
    image: tuple[int, int], part: int, center: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> View:
    """The view of an image in one of the four parts.

    Args:
        image: (height, width) of the image.
        part: 0 upper left, 1 upper right, 2 lower left, 3 lower right.
        center: (x, y) where the parts meet.
        size: (height, width) of the frame.
    """
    places = []
    for length, whole, middle, after in zip(image[::-1], size[::-1], center, (part % 2, part // 2), strict=True):
        start, stop = (middle, whole) if after else (0, middle)
        room = stop - start - length
        if room >= 0:  # the whole image, its edge at the centre
            begin = start if after else stop - length
            places.append((begin, begin, begin + length))
        else:
            places.append((start - int(rng.integers(-room + 1)), start, stop))
    (x, x0, x1), (y, y0, y1) = places
    return View((x, y), (x0, y0, x1, y1), size)


def joined(
    images: Sequence[LabelledImage], views: Sequence[View], *, fill: float, least: LeastLeft
) -> tuple[LabelledImage, int]:
    """All images in one frame, each where its view says; the number of objects that are not there any more.

    What is still seen of these is ignored: it is no background.
    """
    image = np.full((*views[0].size, images[0].image.shape[2]), fill, dtype=images[0].image.dtype)
    shown: list[Instances] = []
    ignored: list[Boxes | None] = []
    lost = 0
    for one, view in zip(images, views, strict=True):
        x0, y0, x1, y1 = view.window
        image[y0:y1, x0:x1] = view.pixels(one.image)
        instances, keep, remains = view.instances(one.instances, least)
        shown.append(instances)
        lost += int((~keep).sum())
        ignored += [remains, None if one.ignored is None else view.boxes(one.ignored)[0]]
    return LabelledImage(image, Instances.cat(shown), regions_of(ignored)), lost
