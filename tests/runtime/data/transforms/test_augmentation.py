import numpy as np
import pytest

import detectron2.data.transforms as T

IMAGE = np.zeros((60, 80, 3), np.uint8)


def seeded(aug, seed=0, image=IMAGE, **rest):
    np.random.seed(seed)  # noqa: NPY002 — the generator that augmentations draw from
    given = T.AugInput(image.copy(), **rest)
    return aug(given), given


def described(transform, *names):
    return tuple(int(getattr(transform, name)) for name in names)


def test_a_list_passes_each_result_on():
    transforms, given = seeded(T.AugmentationList([T.Resize((30, 40)), T.RandomCrop("absolute", (10, 10))]))
    assert given.image.shape == (10, 10, 3)
    assert isinstance(transforms, T.TransformList)
    assert len(transforms) == 2


def test_boxes_and_labels_follow():
    given = T.AugInput(IMAGE, boxes=np.array([[0.0, 0, 8, 6]]), sem_seg=np.zeros((60, 80), np.uint8))
    T.RandomFlip(prob=1.0)(given)
    np.testing.assert_array_equal(given.boxes, [[72, 0, 80, 6]])
    given.apply_augmentations([T.Resize((30, 40))])
    np.testing.assert_array_equal(given.boxes, [[36, 0, 40, 3]])
    assert given.sem_seg.shape == (30, 40)


def test_arguments_are_found_by_name():
    class NeedsDepth(T.Augmentation):
        def get_transform(self, image, depth):
            return T.NoOpTransform()

    given = T.AugInput(IMAGE)
    with pytest.raises(AttributeError, match=r"NeedsDepth\.get_transform needs input attribute 'depth'"):
        NeedsDepth()(given)
    given.depth = 1
    assert isinstance(NeedsDepth()(given), T.NoOpTransform)


def test_apply_augmentations_to_an_array():
    image, transforms = T.apply_transform_gens([T.Resize(20)], IMAGE)
    assert image.shape == (20, 20, 3)
    assert len(transforms) == 1


@pytest.mark.parametrize("image", [[[1]], np.zeros((2, 2), np.int64), np.zeros((1, 2, 2, 3), np.uint8)])
def test_input_is_an_image(image):
    with pytest.raises(AssertionError):
        T.AugInput(image)


def test_repr_shows_what_differs_from_the_defaults():
    assert repr(T.RandomFlip()) == "RandomFlip()"
    assert repr(T.RandomFlip(prob=0.7)) == "RandomFlip(prob=0.7)"
    assert repr(T.ResizeShortestEdge(30)) == "ResizeShortestEdge(short_edge_length=(30, 30))"
