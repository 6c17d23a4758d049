import cv2
import numpy as np
import pytest
import torch

from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks
from detectron2.utils.colormap import colormap, random_color, random_colors
from detectron2.utils.label_placement import place_label
from detectron2.utils.shape_drawing import _LUMINANCE_WEIGHTS, _legible
from detectron2.utils.visualizer import ColorMode, GenericMask, VisImage, Visualizer, _create_text_labels

GRAY = np.full((60, 80, 3), 100, dtype=np.uint8)
NAME = "visualizer_test"


@pytest.fixture
def metadata():
    entry = MetadataCatalog.get(NAME)
    entry.set(
        thing_classes=["cat", "dog"],
        thing_colors=[(255, 0, 0), (0, 0, 255)],
        keypoint_names=["nose", "left_shoulder", "right_shoulder"],
        keypoint_connection_rules=[("left_shoulder", "right_shoulder", (0, 255, 0))],
    )
    yield entry
    MetadataCatalog.remove(NAME)


def _changed(image):
    return (image != 100).any(axis=2)


def _instances(number=2):
    instances = Instances((60, 80))
    instances.pred_boxes = Boxes(torch.tensor([[10.0, 10.0, 30.0, 40.0], [45.0, 20.0, 70.0, 50.0]])[:number])
    instances.pred_classes = torch.tensor([0, 1])[:number]
    instances.scores = torch.tensor([0.956, 0.5])[:number]
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[0, 12:38, 12:28] = True
    masks[1, 22:48, 47:68] = True
    masks[1, 30:35, 55:60] = False  # a hole
    instances.pred_masks = masks[:number]
    instances.pred_keypoints = torch.tensor([[[15.0, 15, 0.9], [20, 20, 0.9], [25, 30, 0.01]]]).repeat(number, 1, 1)
    return instances


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        (([0, 1], [0.956, 0.1], ["a", "b"]), ["a 96%", "b 10%"]),
        (([0, 1], None, ["a", "b"], [0, 1]), ["a", "b|crowd"]),
        (([0, 1], None, None), ["0", "1"]),
        ((None, [0.5], None), ["50%"]),
        ((None, None, ["a"]), None),
    ],
)
def test_text_labels(arguments, labels):
    assert _create_text_labels(*arguments) == labels


def test_vis_image_keeps_pixels_and_size(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (37, 53, 3), dtype=np.uint8)
    assert np.array_equal(VisImage(image).get_image(), image)
    assert VisImage(image, scale=2.0).get_image().shape == (74, 106, 3)
    VisImage(image).save(str(tmp_path / "image.png"))
    assert np.array_equal(cv2.imread(str(tmp_path / "image.png"))[:, :, ::-1], image)


def test_box_is_drawn_where_it_is():
    changed = _changed(Visualizer(GRAY).draw_box((10, 20, 50, 45), edge_color="r").get_image())
    rows, columns = np.nonzero(changed)
    assert abs(rows.min() - 20) <= 2
    assert abs(rows.max() - 45) <= 2
    assert abs(columns.min() - 10) <= 2
    assert abs(columns.max() - 50) <= 2
    assert not changed[25:40, 15:45].any()


def test_polygon_and_mask_cover_their_pixels():
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[15:45, 20:60] = 1
    polygon = np.array([[20, 15], [60, 15], [60, 45], [20, 45]])
    for output in (Visualizer(GRAY).draw_binary_mask(mask, color="b"), Visualizer(GRAY).draw_polygon(polygon, "b")):
        changed = _changed(output.get_image())
        assert changed[17:43, 22:58].all()
        assert not changed[:12].any()
        assert not changed[:, 64:].any()
    mask[25:35, 30:50] = 0
    assert not _changed(Visualizer(GRAY).draw_binary_mask(mask, color="b").get_image())[26:34, 31:49].any()


def test_soft_mask_is_as_opaque_as_its_values():
    soft = np.zeros((60, 80), dtype=np.float32)
    soft[10:20, 10:20], soft[30:40, 10:20] = 1.0, 0.5
    image = Visualizer(GRAY).draw_soft_mask(soft, color=(1.0, 1.0, 1.0), alpha=1.0).get_image()
    assert image[15, 15].tolist() == [255, 255, 255]
    assert abs(int(image[35, 15, 0]) - 177) <= 2
    assert image[50, 50].tolist() == [100, 100, 100]


def test_small_parts_are_left_out():
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[5:7, 5:7] = 1
    assert not _changed(Visualizer(GRAY).draw_binary_mask(mask, color="r", area_threshold=10).get_image()).any()
    assert not _changed(Visualizer(GRAY).draw_binary_mask(mask * 0, color="r", text="x").get_image()).any()


@pytest.mark.parametrize("mode", list(ColorMode))
def test_predictions_in_each_mode(metadata, mode):
    image = GRAY.copy()
    image[..., 0] = 200
    output = Visualizer(image, metadata, instance_mode=mode).draw_instance_predictions(_instances())
    drawn = output.get_image()
    assert drawn.shape == image.shape
    corner = drawn[55, 5].astype(int)
    if mode == ColorMode.IMAGE_BW:
        assert np.ptp(corner) <= 1  # grey where there is no mask
    else:
        assert corner.tolist() == [200, 100, 100]
    if mode == ColorMode.SEGMENTATION:
        cat, dog = drawn[36, 20].astype(int), drawn[40, 50].astype(int)
        assert cat[0] > cat[2] + 60
        assert dog[2] > dog[0] + 60


def test_keypoints_below_the_threshold_are_not_drawn(metadata):
    visualizer = Visualizer(GRAY, metadata)
    keypoints = np.array([[20, 20, 2.0], [40, 30, 2.0], [60, 45, 0.0]])
    changed = _changed(visualizer.draw_and_connect_keypoints(keypoints).get_image())
    assert changed[20, 20]
    assert changed[30, 40]
    assert not changed[40:50, 55:65].any()
    assert not changed[25, 30]  # no rule joins the two
    keypoints[2, 2] = 1.0
    assert _changed(Visualizer(GRAY, metadata).draw_and_connect_keypoints(keypoints).get_image())[37:39, 50].any()


def test_nothing_to_draw_draws_nothing(metadata):
    for output in (
        Visualizer(GRAY, metadata).draw_instance_predictions(Instances((60, 80))),
        Visualizer(GRAY, metadata).draw_instance_predictions(_instances(0)),
        Visualizer(GRAY, metadata).draw_dataset_dict({}),
        Visualizer(GRAY, metadata).overlay_instances(boxes=np.zeros((0, 4)), labels=[]),
    ):
        assert np.array_equal(output.get_image(), GRAY)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"boxes.*1.*labels.*2"):
        Visualizer(GRAY).overlay_instances(boxes=[[1, 2, 3, 4]], labels=["a", "b"])


def test_out_of_scope_is_said():
    with pytest.raises(NotImplementedError, match="panoptic"):
        Visualizer(GRAY).draw_panoptic_seg(None, None)
    with pytest.raises(NotImplementedError, match="rotated"):
        Visualizer(GRAY).overlay_rotated_instances(boxes=[[1, 2, 3, 4, 5]])


def test_dataset_dict_with_each_kind_of_mask(metadata):
    box = {"bbox": [10, 10, 20, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    rle = {"size": [60, 80], "counts": [60 * 45, 60 * 10, 60 * 25]}
    annotations = [
        {**box, "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]], "keypoints": [15, 15, 2, 20, 20, 2, 25, 25, 0]},
        {**box, "bbox": [45, 0, 10, 60], "category_id": 1, "segmentation": rle, "iscrowd": 1},
        {**box, "bbox": [60, 40, 10, 10]},  # without mask and keypoints
    ]
    changed = _changed(Visualizer(GRAY, metadata).draw_dataset_dict({"annotations": annotations}).get_image())
    assert changed[20, 18]
    assert changed[30, 50]
    assert changed[49:51, 62:68].all()  # the lower edge of the box alone


def test_sem_seg():
    entry = MetadataCatalog.get("visualizer_test_stuff")
    entry.set(stuff_classes=["sky", "grass"], stuff_colors=[(0, 0, 255), (0, 255, 0)])
    sem_seg = torch.full((60, 80), 255)
    sem_seg[:, :40] = 1
    image = Visualizer(GRAY, entry).draw_sem_seg(sem_seg, draw_text=False).get_image()
    MetadataCatalog.remove("visualizer_test_stuff")
    assert image[30, 20, 1] > 200
    assert not _changed(image)[:, 45:].any()


def test_conversions():
    visualizer = Visualizer(GRAY)
    polygons = [[np.array([10.0, 10, 20, 10, 20, 20, 10, 20])]]
    bitmap = torch.zeros(1, 60, 80, dtype=torch.bool)
    bitmap[0, 10:20, 10:20] = True
    for masks in (PolygonMasks(polygons), BitMasks(bitmap), bitmap, bitmap.numpy(), polygons):
        (mask,) = visualizer._convert_masks(masks)
        assert mask.area() == 100
    assert visualizer._convert_boxes(Boxes(torch.ones(2, 4))).shape == (2, 4)
    assert visualizer._convert_keypoints(Keypoints(torch.ones(2, 3, 3))).shape == (2, 3, 3)


def test_generic_mask_by_hand():
    pixels = np.zeros((20, 30), dtype=np.uint8)
    pixels[3:9, 4:12] = 1
    mask = GenericMask(pixels, 20, 30)
    assert not mask.has_holes
    assert sorted(map(tuple, mask.polygons[0].reshape(-1, 2))) == [(4.5, 3.5), (4.5, 8.5), (11.5, 3.5), (11.5, 8.5)]
    assert mask.area() == 48
    assert mask.bbox().tolist() == [4, 3, 12, 9]
    pixels[5, 6:8] = 0
    assert GenericMask(pixels, 20, 30).has_holes
    rle = GenericMask({"size": [20, 30], "counts": [30, 5, 565]}, 20, 30)
    assert np.flatnonzero(rle.mask.T.reshape(-1)).tolist() == [30, 31, 32, 33, 34]
    assert GenericMask([], 20, 30).area() == 0
    assert GenericMask(np.zeros((20, 30)), 20, 30).polygons == []
    for wrong, message in ((np.zeros((3, 3)), r"\(3, 3\).*20, 30"), ("x", "cannot handle")):
        with pytest.raises(ValueError, match=message):
            GenericMask(wrong, 20, 30)


def test_colors_of_brightness():
    visualizer = Visualizer(GRAY)
    assert visualizer._change_color_brightness((0.2, 0.3, 0.4), -0.5) == pytest.approx((0.1, 0.15, 0.2))
    assert visualizer._change_color_brightness((0.2, 0.3, 0.4), 0.5) == pytest.approx((0.3, 0.45, 0.6))
    jittered = visualizer._jitter((0.5, 0.5, 1.0))
    assert all(0.0 <= channel <= 1.0 for channel in jittered)
    for color in np.eye(3):
        assert float(_legible(color) @ _LUMINANCE_WEIGHTS) >= 0.549


def test_colormap():
    colors = colormap(rgb=True)
    assert colors.dtype == np.float32
    assert colors.max() <= 255
    assert len(np.unique(colors.round(), axis=0)) == len(colors) >= 74
    assert np.array_equal(colormap()[:, ::-1], colors)
    assert colormap(rgb=True, maximum=1) * 255 == pytest.approx(colors)
    assert random_color(maximum=1).shape == (3,)
    assert len({tuple(color) for color in random_colors(10)}) == 10
    with pytest.raises(ValueError, match="1000"):
        random_colors(1000)


def test_labels_by_hand():
    size, image = (20, 5), (100, 100)
    assert place_label((10, 10, 60, 60), size, image, []) == (10, 10)  # a large object: inside
    assert place_label((10, 10, 20, 20), size, image, []) == (10, 5)  # a small one: above
    assert place_label((10, 1, 20, 11), size, image, []) == (10, 11)  # no room above: below
    assert place_label((95, 50, 99, 55), size, image, []) == (80, 45)  # kept in the image
    assert place_label((10, 10, 20, 20), size, image, [(10, 5, 30, 10)]) == (10, 20)  # above is taken


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("json_file", "folder"),
    [
        ("nuts/trainval.json", "nuts/images"),
        ("coco_mini/annotations/person_keypoints_val2017.json", "coco_mini/val2017"),
    ],
)
def test_real_records(real_data, json_file, folder):
    name = f"visualizer_real_{folder}"
    records = load_coco_json(str(real_data / json_file), str(real_data / folder), name)
    records = sorted((r for r in records if r["annotations"]), key=lambda record: -len(record["annotations"]))
    for record in records[:2]:
        image = cv2.imread(record["file_name"])[:, :, ::-1]
        drawn = Visualizer(image, MetadataCatalog.get(name)).draw_dataset_dict(record).get_image()
        assert drawn.shape == image.shape
        for annotation in record["annotations"]:
            x, y, w, h = (int(value) for value in annotation["bbox"])
            part = np.s_[y : y + h + 1, x : x + w + 1]
            assert (drawn[part] != image[part]).any()
    MetadataCatalog.remove(name)
