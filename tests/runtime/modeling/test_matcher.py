import pytest
import torch

from detectron2.modeling.matcher import Matcher

# Two objects, five predictions.
QUALITY = torch.tensor([[0.1, 0.5, 0.8, 0.2, 0.2], [0.1, 0.5, 0.6, 0.65, 0.2]])


def test_labels_by_bins():
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1])(QUALITY)
    assert matches.tolist() == [0, 0, 0, 1, 0]
    assert labels.tolist() == [0, -1, 1, -1, 0]
    assert matches.dtype == torch.int64
    assert labels.dtype == torch.int8


def test_low_quality_match_is_the_best_of_each_object():
    # Object 1 is best met by prediction 3 (0.65), which lies in the ignored bin.
    _, labels = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)(QUALITY)
    assert labels.tolist() == [0, -1, 1, 1, 0]


def test_low_quality_ties_all_count_and_keep_their_own_match():
    quality = torch.tensor([[0.9, 0.4, 0.4], [0.4, 0.4, 0.1]])
    matches, labels = Matcher([0.5], [0, 1], allow_low_quality_matches=True)(quality)
    assert labels.tolist() == [1, 1, 0]
    assert matches.tolist() == [0, 0, 0]


def test_an_object_that_nothing_overlaps_takes_every_tied_prediction():
    assert Matcher([0.5], [0, 1], allow_low_quality_matches=True)(torch.zeros(2, 3))[1].tolist() == [1, 1, 1]


def test_bins_are_closed_below():
    quality = torch.tensor([[0.3, 0.7, 0.29]])
    assert Matcher([0.3, 0.7], [0, -1, 1])(quality)[1].tolist() == [-1, 1, 0]
    assert Matcher([0.5, 0.5], [0, -1, 1])(torch.tensor([[0.5]]))[1].tolist() == [1]


def test_no_objects_and_no_predictions():
    matches, labels = Matcher([0.3, 0.7], [-1, 0, 1])(torch.zeros(0, 4))
    assert matches.tolist() == [0] * 4
    assert labels.tolist() == [-1] * 4
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1], True)(torch.zeros(2, 0))
    assert matches.numel() == labels.numel() == 0


@pytest.mark.parametrize(
    ("thresholds", "labels"),
    [([0.3, 0.7], [0, 1]), ([0.7, 0.3], [0, -1, 1]), ([0.3], [0, 2]), ([0.0], [0, 1]), ([], [0])],
)
def test_bad_arguments(thresholds, labels):
    with pytest.raises(AssertionError):
        Matcher(thresholds, labels)


def test_negative_quality_is_refused():
    with pytest.raises(AssertionError, match="non-negative"):
        Matcher([0.5], [0, 1])(torch.tensor([[-0.1]]))
