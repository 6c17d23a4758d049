"""Counting boxes, masks and keypoints."""

from rcnnkit.data.label_counts import LabelCounts, count_classes, count_labels

POLYGON = [[0.0, 0.0, 4.0, 0.0, 4.0, 4.0]]


def test_counts():
    records = [
        {"annotations": []},
        {"annotations": [{"iscrowd": 1, "segmentation": {"counts": "", "size": [1, 1]}}, {"ignore": 1}]},
        {
            "annotations": [
                {"iscrowd": 0, "segmentation": POLYGON},
                {"segmentation": [[0.0, 0.0, 1.0, 1.0]]},
                {"segmentation": []},
                {"segmentation": {"counts": "", "size": [1, 1]}, "keypoints": [1.5, 1.5, 1]},
                {"keypoints": [0, 0, 0, 1.5, 1.5, 2]},
                {"keypoints": [0, 0, 0]},
            ]
        },
        {},
    ]
    counts = count_labels(records)
    assert counts == LabelCounts(
        images=4, empty_images=3, objects=6, masks=2, keypoints=2, box_only=3, crowd=1, ignored=1
    )
    assert counts.describe() == (
        "4 images (3 without objects), 6 objects (3 with a box only, 2 with a mask, 2 with keypoints), "
        "1 crowd regions, 1 marked to be ignored"
    )


def test_nothing():
    assert count_labels([]) == LabelCounts()


def test_objects_of_each_class():
    records = [
        {},
        {"annotations": [{"category_id": 2}, {"category_id": 0, "iscrowd": 0}, {"category_id": 2}]},
        {"annotations": [{"category_id": 1, "iscrowd": 1}, {"category_id": 0, "ignore": 1}, {"category_id": 0}]},
    ]
    assert count_classes(records, 4) == [2, 0, 2, 0]
    assert count_classes([], 2) == [0, 0]
