"""What the objects suggest for a config: worked out by hand, and each override is one that a config takes."""

import numpy as np
import pytest

from detectron2.config import get_cfg
from detectron2.structures import BoxMode
from rcnnkit.data.checks.classes import near_duplicates
from rcnnkit.data.checks.statistics import quantiles, statistics_of
from rcnnkit.data.checks.suggestions import suggestions
from rcnnkit.data.labelled import LabelledData


def data_of(*images: list[tuple], classes=("bolt", "nut"), size=(800, 800)) -> LabelledData:
    """One list for each image, of (class index, x, y, width, height); at 800 x 800 the input has the file's size."""
    records = []
    for number, objects in enumerate(images):
        annotations = [
            {"category_id": index, "bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
            for index, *box in objects
        ]
        names = {"file_name": f"/{number}.jpg", "image_id": number, "width": size[0], "height": size[1]}
        records.append({**names, "annotations": annotations})
    return LabelledData("coco", list(classes), records, [])


def overrides(data: LabelledData) -> dict[str, str]:
    found = [part for suggestion in suggestions(statistics_of([data])) for part in suggestion.overrides]
    get_cfg().merge_from_list(found)
    return dict(zip(found[::2], found[1::2], strict=True))


def boxes(count: int, width: float, height: float, index: int = 0) -> list[tuple]:
    return [(index, 10 + 2 * i, 10 + 3 * i, width, height) for i in range(count)]


def test_counts():
    found = statistics_of([data_of(boxes(3, 64, 64), [], boxes(1, 16, 64, 1))])
    assert (found.images, found.empty_images, found.objects) == (3, 1, 4)
    assert found.classes == {"bolt": 3, "nut": 1}
    assert found.images_of_class == {"bolt": 1, "nut": 1}
    assert found.per_image.tolist() == [3, 0, 1]
    assert found.sizes.tolist() == [64, 64, 64, 32]
    assert found.ratios.tolist() == [1, 1, 1, 4]
    assert found.as_json()["object_size"]["max"] == 64


def test_crowds_and_impossible_boxes_have_no_size():
    data = data_of([(0, 10, 10, 0, 5), (0, 10, 10, 20, 20), (0, 10, 10, 2000, 20)])
    data.records[0]["annotations"].append({**data.records[0]["annotations"][1], "iscrowd": 1})
    found = statistics_of([data])
    assert (found.objects, found.crowds, found.sizes.tolist()) == (4, 1, [20])


def test_nothing_where_the_defaults_fit():
    assert overrides(data_of(boxes(5, 64, 64), boxes(5, 100, 120))) == {}


def test_nothing_without_objects():
    assert overrides(data_of([], [])) == {}
    assert overrides(data_of()) == {}
    assert quantiles(np.zeros(0)) == {}


def test_small_objects_want_a_larger_input_and_smaller_anchors():
    # 12 pixels at 800 are 16 at 1067, rounded up to 1088; there they have 16.3, and anchors start with 16.
    found = overrides(data_of(boxes(20, 12, 12)))
    assert found["INPUT.MIN_SIZE_TRAIN"] == "(1088,)"
    assert found["INPUT.MIN_SIZE_TEST"] == "1088"
    assert found["MODEL.ANCHOR_GENERATOR.SIZES"] == "[[16],[32],[64],[128],[256]]"


def test_objects_too_small_for_any_input_want_tiles():
    found = suggestions(statistics_of([data_of(boxes(20, 4, 4))]))
    assert any("tiles" in suggestion.reason for suggestion in found)
    assert found[0].overrides[4:6] == ("INPUT.MIN_SIZE_TEST", "1600")


def test_large_objects_want_a_smaller_input():
    # 240 pixels at 800 are 96 at 320.
    assert overrides(data_of(boxes(5, 240, 240)))["INPUT.MIN_SIZE_TEST"] == "320"


def test_long_objects_want_other_ratios():
    assert overrides(data_of(boxes(5, 200, 40)))["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"] == "[[0.25,0.5,1.0,2.0]]"
    assert overrides(data_of(boxes(5, 40, 200)))["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"] == "[[0.5,1.0,2.0,4.0]]"


def test_many_objects_want_more_detections():
    crowded = data_of(boxes(150, 64, 64))
    assert overrides(crowded) == {"TEST.DETECTIONS_PER_IMAGE": "200"}  # 1.2 x 150 = 180, in steps of 50
    many = overrides(data_of(boxes(190, 64, 64) * 3))  # 684 → 700
    assert many["TEST.DETECTIONS_PER_IMAGE"] == "700"
    assert many["MODEL.RPN.POST_NMS_TOPK_TEST"] == "1400"


def test_rare_classes_want_their_images_repeated():
    images = [boxes(2, 64, 64) for _ in range(49)]
    found = overrides(data_of(*images, boxes(1, 64, 64, 1)))
    assert found["DATALOADER.SAMPLER_TRAIN"] == "RepeatFactorTrainingSampler"
    assert found["DATALOADER.REPEAT_THRESHOLD"] == "0.180"  # 9 x 1 of 50: √9 = 3 times
    assert overrides(data_of(*(boxes(20, 64, 64) + boxes(1, 64, 64, 1) for _ in range(4)))) == {}


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["bolt", "Bolt"], True),
        (["bolt", "bolts"], True),
        (["traffic light", "traffic_light"], True),
        (["traffic light", "trafic light"], True),
        (["class 1", "class 2"], False),
        (["cat", "car"], False),
        (["mouse", "house"], False),
        (["left ear", "right ear"], False),
    ],
)
def test_names_that_are_nearly_the_same(names, alike):
    assert near_duplicates(names) == ([tuple(names)] if alike else [])
