import copy

import pytest
import torch

from detectron2.structures import Boxes, ImageList, Instances


def make() -> Instances:
    return Instances((10, 20), gt_boxes=Boxes(torch.zeros(3, 4)), scores=torch.tensor([1, 2, 3]), names=["a", "b", "c"])


@pytest.mark.parametrize(
    ("item", "scores", "names"),
    [
        (0, [1], ["a"]),
        (-1, [3], ["c"]),
        (slice(1, None), [2, 3], ["b", "c"]),
        (torch.tensor([True, False, True]), [1, 3], ["a", "c"]),
        (torch.tensor([2, 0]), [3, 1], ["c", "a"]),
    ],
)
def test_indexing(item: object, scores: list, names: list) -> None:
    selected = make()[item]
    assert selected.scores.tolist() == scores
    assert selected.names == names
    assert len(selected) == len(selected.gt_boxes) == len(scores)


def test_errors() -> None:
    instances = make()
    with pytest.raises(IndexError):
        instances[3]
    with pytest.raises(AttributeError, match="Cannot find field 'masks'"):
        _ = instances.masks
    with pytest.raises(AssertionError, match="length 2 to a Instances of length 3"):
        instances.labels = torch.zeros(2)
    with pytest.raises(NotImplementedError):
        len(Instances((1, 1)))
    with pytest.raises(AssertionError, match="different image sizes"):
        Instances.cat([Instances((1, 2)), Instances((3, 4))])


def test_cat_and_copy() -> None:
    joined = Instances.cat([make(), make()])
    assert joined.scores.tolist() == [1, 2, 3, 1, 2, 3]
    assert joined.names == ["a", "b", "c"] * 2
    assert len(joined.gt_boxes) == 6
    assert copy.deepcopy(joined).to("cpu").image_size == (10, 20)


def test_fields() -> None:
    instances = make()
    instances.remove("names")
    assert not instances.has("names")
    assert list(instances.get_fields()) == ["gt_boxes", "scores"]
    assert "num_instances=3, image_height=10, image_width=20" in str(instances)


def test_image_list_pads_right_and_bottom() -> None:
    images = [torch.ones(1, 3, 4), torch.ones(1, 5, 2)]
    batch = ImageList.from_tensors(images, size_divisibility=4, pad_value=7.0)
    assert batch.tensor.shape == (2, 1, 8, 4)
    assert batch.image_sizes == [(3, 4), (5, 2)]
    # 12 pixels of 1, the other 20 of 7.
    assert batch.tensor[0].sum().item() == 12 + 20 * 7
    assert torch.equal(batch[1], images[1])


def test_image_list_constraints() -> None:
    constraints = {"size_divisibility": 4, "square_size": 7}
    assert ImageList.from_tensors([torch.ones(1, 3, 4)], 2, padding_constraints=constraints).tensor.shape[-2:] == (8, 8)
    with pytest.raises(ValueError, match="square_size 3"):
        ImageList.from_tensors([torch.ones(1, 3, 4)], padding_constraints={"square_size": 3})
