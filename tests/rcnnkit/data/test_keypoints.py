"""Flip pairs from names, OKS sigmas, and the union of several skeletons."""

import pytest

from rcnnkit.data.keypoints import DEFAULT_SIGMA, flip_map, keypoint_metadata, sigmas, unite_keypoints, unpaired
from rcnnkit.data.labelled import Skeleton
from rcnnkit.errors import UserError

COCO = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle"),
)


@pytest.mark.parametrize(
    "left, right",
    [
        ("left_eye", "right_eye"),
        ("leftEye", "rightEye"),
        ("LeftEye", "RightEye"),
        ("LEFT_EYE", "RIGHT_EYE"),
        ("left ear", "right ear"),
        ("leftear", "rightear"),
        ("earleft", "earright"),
        ("eye.left", "eye.right"),
        ("eye-Left", "eye-Right"),
        ("l_eye", "r_eye"),
        ("eye_l", "eye_r"),
        ("eye (L)", "eye (R)"),
        ("LEye", "REye"),
        ("eyeL", "eyeR"),
        ("lhip", "rhip"),
        ("LHIP", "RHIP"),
        ("L1", "R1"),
        ("L_F_elbow", "R_F_elbow"),
        ("front left wheel", "front right wheel"),
        ("frontLeftWheel2", "frontRightWheel2"),
        ("tl", "tr"),
        ("left", "right"),
        ("l", "r"),
        ("left_eye", "rightEye"),  # two hands, two spellings
    ],
)
def test_sides_are_found_in_every_spelling_and_order(left, right):
    assert flip_map(["nose", right, left, "tail"]) == ((left, right),)
    assert flip_map([left, "nose", right]) == ((left, right),)
    assert unpaired(["nose", left, right]) == []


def test_wheels_by_two_letters():
    assert flip_map(["rl", "rr", "fl", "fr"]) == (("rl", "rr"), ("fl", "fr"))
    assert flip_map(["ll", "lr", "ul", "ur"]) == (("ll", "lr"), ("ul", "ur"))


def test_names_without_sides_pair_with_nothing():
    names = ["nose", "lip", "rear", "collar", "tail", "root", "leg", "reel", "upright", "cleft"]
    assert flip_map(names) == ()
    assert unpaired(names) == []


def test_what_has_no_other_side_is_reported():
    assert unpaired(["left_eye", "right_eye", "left_ear", "r_paw", "nose", "righttoe"]) == [
        "left_ear",
        "r_paw",
        "righttoe",
    ]


def test_pairs_may_be_given_by_name_or_index():
    assert flip_map(["a", "b", "c", "left_x", "right_x"], [("a", "c")]) == (("a", "c"),)
    assert flip_map(["a", "b", "c"], [(2, 1)]) == (("c", "b"),)
    assert flip_map(["left_x", "right_x"], []) == ()


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([("a", "d")], "no keypoint 'd'"),
        ([(0, 3)], "no keypoint 3"),
        ([("a", "a")], "'a' is paired with itself"),
        ([("a", "b"), ("c", "a")], "'a' is paired with both 'b' and 'c'"),
    ],
)
def test_impossible_pairs_are_refused(pairs, message):
    with pytest.raises(UserError, match=message):
        flip_map(["a", "b", "c"], pairs)


def test_sigmas_are_coco_s_for_coco_s_names():
    # pycocotools.cocoeval.Params.kpt_oks_sigmas
    expected = [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]
    assert sigmas(COCO) == pytest.approx([sigma / 10 for sigma in expected])
    assert sigmas(["rightear", "LEye", "hip_l", "lhip"]) == [0.035, 0.025, 0.107, 0.107]


def test_sigmas_of_unknown_points_are_the_median_of_coco_s():
    assert sigmas(["snout", "tailbase", "left_paw"]) == [DEFAULT_SIGMA] * 3
    assert sorted(sigmas(COCO))[8] == DEFAULT_SIGMA
    assert sigmas([]) == []


def test_metadata_of_one_skeleton():
    metadata = keypoint_metadata({0: Skeleton(("left", "right", "top"), ((0, 2), (1, 2)))}, ["kite"])
    assert metadata["keypoint_names"] == ("left", "right", "top")
    assert metadata["keypoint_flip_map"] == (("left", "right"),)
    assert [rule[:2] for rule in metadata["keypoint_connection_rules"]] == [("left", "top"), ("right", "top")]
    assert all(0 <= part <= 255 for rule in metadata["keypoint_connection_rules"] for part in rule[2])
    assert metadata["keypoint_classes"] == {"kite": (0, 1, 2)}


def test_no_skeleton_no_metadata():
    assert keypoint_metadata({}, ["kite"]) == {}
    assert keypoint_metadata({0: Skeleton(())}, ["kite"]) == {}


def test_skeletons_are_united_by_name():
    cat = Skeleton(("nose", "left_ear", "right_ear"), ((0, 1), (0, 2)))
    fish = Skeleton(("tail", "nose", "a", "b"), ((1, 0), (2, 9)), flip_pairs=((2, 3),))
    classes = ["rock", "cat", "fish"]
    metadata = keypoint_metadata({2: fish, 1: cat}, classes)
    assert metadata["keypoint_names"] == ("nose", "left_ear", "right_ear", "tail", "a", "b")
    assert metadata["keypoint_flip_map"] == (("left_ear", "right_ear"), ("a", "b"))
    assert metadata["keypoint_classes"] == {"cat": (0, 1, 2), "fish": (3, 0, 4, 5)}
    assert [rule[:2] for rule in metadata["keypoint_connection_rules"]] == [
        ("nose", "left_ear"),
        ("nose", "right_ear"),
        ("nose", "tail"),
    ]

    record = {
        "annotations": [
            {"category_id": 1, "keypoints": [1.5, 2.5, 2, 3.5, 4.5, 1, 0, 0, 0]},
            {"category_id": 2, "keypoints": [1.5, 1.5, 2, 2.5, 2.5, 2, 3.5, 3.5, 1, 4.5, 4.5, 2]},
            {"category_id": 2, "keypoints": [1.5, 1.5, 2]},  # of a wrong length: the check tells it
            {"category_id": 0},
        ]
    }
    unite_keypoints([record], classes, metadata)
    nothing = [0, 0, 0]
    assert [a.get("keypoints") for a in record["annotations"]] == [
        [1.5, 2.5, 2, 3.5, 4.5, 1, 0, 0, 0, *nothing * 3],
        [2.5, 2.5, 2, *nothing * 2, 1.5, 1.5, 2, 3.5, 3.5, 1, 4.5, 4.5, 2],
        [1.5, 1.5, 2],
        None,
    ]


def test_one_skeleton_needs_no_union():
    metadata = keypoint_metadata({1: Skeleton(("a", "b"))}, ["rock", "cat"])
    points = [1.5, 2.5, 2, 0, 0, 0]
    record = {"annotations": [{"category_id": 1, "keypoints": points}]}
    unite_keypoints([record], ["rock", "cat"], metadata)
    assert record["annotations"][0]["keypoints"] is points


def test_classes_that_contradict_each_other_are_refused():
    first, second = Skeleton(("a", "b", "c"), (), ((0, 1),)), Skeleton(("a", "c"), (), ((0, 1),))
    with pytest.raises(UserError, match="'a' is paired with both 'b' and 'c'"):
        keypoint_metadata({0: first, 1: second}, ["x", "y"])
    with pytest.raises(UserError, match="class 'x': names the keypoint 'a' twice"):
        keypoint_metadata({0: Skeleton(("a", "a"))}, ["x"])
