"""What the sizes, numbers and classes of the objects suggest for a config, as overrides.

They start from Detectron2's defaults: input of 800 pixels on the short side and at most 1333 on the long one, anchors
of 32 to 512 pixels on five levels with heights of 0.5, 1 and 2 times their width, 100 detections an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rcnnkit.data.checks.statistics import Statistics

SHORT_SIDE, LONG_SIDE = 800, 1333
ANCHORS, RATIOS, DETECTIONS = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0), 100
_SMALL = 16.0  # pixels at the model's input below which detectors with a finest stride of 4 lose most objects
_LARGE = 96.0  # a tenth of the objects being larger than this, a smaller input is as good and faster
_MAX_SHORT_SIDE, _MIN_SHORT_SIDE = 1600, 320
_WORTHWHILE = 0.2  # smaller changes of the input's size are not
_IMBALANCE, _RARE = 10.0, 0.1  # of objects, and of images


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Config keys with values, as one writes them behind a command, and the reason; no keys: advice only."""

    overrides: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        shown = " ".join(f'"{part}"' if set(part) & set("[( ") else part for part in self.overrides)
        return f"{shown}\n    {self.reason}" if shown else self.reason


def suggestions(found: Statistics) -> list[Suggestion]:
    """What a config should say for such data; nothing where the defaults fit."""
    result = []
    if len(found.sizes):
        scale = np.minimum(SHORT_SIDE / found.object_images.min(1), LONG_SIDE / found.object_images.max(1))
        at_input = found.sizes * scale
        short, input_advice = _input_size(at_input, found.sizes)
        result += [*input_advice, *_anchor_sizes(at_input * short / SHORT_SIDE), *_anchor_ratios(found.ratios)]
    return [*result, *_detections(found), *_balance(found)]


def _input_size(at_input: np.ndarray, in_file: np.ndarray) -> tuple[int, list[Suggestion]]:
    """The short side of the input, and what to say about it."""
    tenth, tenth_in_file = float(np.quantile(at_input, 0.1)), float(np.quantile(in_file, 0.1))
    if _SMALL <= tenth <= _LARGE:
        return SHORT_SIDE, []
    goal = SHORT_SIDE * (_SMALL if tenth < _SMALL else _LARGE) / tenth
    short = min(max(math.ceil(goal / 32) * 32, _MIN_SHORT_SIDE), _MAX_SHORT_SIDE)
    if abs(short / SHORT_SIDE - 1) < _WORTHWHILE:
        return SHORT_SIDE, []
    long = round(short * LONG_SIDE / SHORT_SIDE)
    train = ("INPUT.MIN_SIZE_TRAIN", f"({short},)", "INPUT.MAX_SIZE_TRAIN", str(long))
    test = ("INPUT.MIN_SIZE_TEST", str(short), "INPUT.MAX_SIZE_TEST", str(long))
    if tenth < _SMALL:
        reason = f"a tenth of the objects have less than {tenth_in_file:.0f} pixels, {tenth:.0f} at the default input "
        reason += f"of {SHORT_SIDE}; so they have {tenth * short / SHORT_SIDE:.0f}"
    else:
        reason = f"nine tenths of the objects have more than {tenth:.0f} pixels at the default input of {SHORT_SIDE}; "
        reason += "a smaller one is faster and shows them as well"
    advice = [Suggestion(train + test, reason)]
    if tenth * short / SHORT_SIDE < _SMALL:
        advice.append(
            Suggestion((), "the images are too large for their objects to be seen whole: cut them into tiles")
        )
    return short, advice


def _anchor_sizes(at_input: np.ndarray) -> list[Suggestion]:
    """Anchors from the twentieth smallest objects on; an anchor √2 times an object still overlaps it by half."""
    small, large = np.quantile(at_input, (0.05, 0.99))
    base = next((size for size in (32, 16, 8, 4) if size <= small * math.sqrt(2)), 4)
    if base == ANCHORS[0] and large <= ANCHORS[-1] * math.sqrt(2):
        return []
    top = max(base * 16, 2 ** math.ceil(math.log2(max(large / math.sqrt(2), 1))))
    sizes = [[round(base * (top / base) ** (level / 4))] for level in range(5)]
    if sizes == [[size] for size in ANCHORS]:
        return []
    reason = f"objects have {small:.0f} (5 %) to {large:.0f} (99 %) pixels at the input; the defaults are made for "
    reason += f"{ANCHORS[0]} to {ANCHORS[-1]}. One size a level, for models with FPN"
    return [Suggestion(("MODEL.ANCHOR_GENERATOR.SIZES", str(sizes).replace(" ", "")), reason)]


def _anchor_ratios(ratios: np.ndarray) -> list[Suggestion]:
    flat, tall = np.quantile(ratios, (0.05, 0.95))
    wanted = list(RATIOS)
    if flat < RATIOS[0] / math.sqrt(2):
        wanted.insert(0, 0.25)
    if tall > RATIOS[-1] * math.sqrt(2):
        wanted.append(4.0)
    if len(wanted) == len(RATIOS):
        return []
    reason = (
        f"heights are {flat:.2f} (5 %) to {tall:.2f} (95 %) times the widths; the defaults are made for 0.35 to 2.8"
    )
    return [Suggestion(("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", str([wanted]).replace(" ", "")), reason)]


def _detections(found: Statistics) -> list[Suggestion]:
    most = int(found.per_image.max(initial=0))
    if most <= DETECTIONS:
        return []
    limit = math.ceil(most * 1.2 / 50) * 50
    overrides = ["TEST.DETECTIONS_PER_IMAGE", str(limit)]
    if limit > 500:
        overrides += ["MODEL.RPN.PRE_NMS_TOPK_TEST", str(4 * limit), "MODEL.RPN.POST_NMS_TOPK_TEST", str(2 * limit)]
    reason = f"an image has up to {most} objects; with {DETECTIONS} detections the rest cannot be found. COCO's AP "
    reason += f"counts {DETECTIONS} an image as well: evaluate with max_dets_per_image (MAX_DETS) {limit}"
    return [Suggestion(tuple(overrides), reason)]


def _balance(found: Statistics) -> list[Suggestion]:
    counts = {name: count for name, count in found.classes.items() if count}
    if len(counts) < 2 or max(counts.values()) < _IMBALANCE * min(counts.values()):
        return []
    rare, common = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    share = found.images_of_class[rare] / found.images
    if share > _RARE:
        return []  # to repeat its images would repeat the other classes as well
    threshold = 9 * share  # the sampler repeats an image √(threshold / share) times: three
    reason = f"{counts[common]} objects of {common!r}, {counts[rare]} of {rare!r}, which {share:.1%} of the images "
    reason += "show; images of rare classes come up to three times as often"
    sampler = ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD")
    return [Suggestion((*sampler, f"{threshold:.3f}"), reason)]
