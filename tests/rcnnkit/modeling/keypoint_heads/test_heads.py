"""The keypoint heads as Detectron2 builds and calls them: losses, predictions, partial labels, evaluation, cost."""

import copy
import math

import pytest
import torch

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.keypoint_head import build_keypoint_head
from detectron2.structures import Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.data.shapes import register_shapes
from rcnnkit.modeling.keypoint_heads import SubpixelKeypointHead
from rcnnkit.modeling.keypoint_heads.coordinate_head import AxisClassifiers
from rcnnkit.modeling.partial_labels import learn_from_labels_only
from tests.rcnnkit import runs

HEADS = ("SubpixelKeypointHead", "CoordinateKeypointHead")
STOCK = "KRCNNConvDeconvUpsampleHead"
CONFIGS = ("keypoint_rcnn_R_18_FPN_shapes_simcc", "keypoint_rcnn_R_18_FPN_shapes_subpixel")


def config(name: str, *overrides):
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.merge_from_list(["MODEL.ROI_KEYPOINT_HEAD.NAME", name, *overrides])
    return cfg


def small(name: str, *overrides) -> torch.nn.Module:
    own = "MODEL.ROI_KEYPOINT_HEAD."
    size = [own + "CONV_DIMS", [8, 8], own + "COORDINATE.NUM_CONV", 2, own + "COORDINATE.CONV_DIM", 8]
    cfg = config(name, own + "NUM_KEYPOINTS", 3, *size, *overrides)
    return build_keypoint_head(cfg, ShapeSpec(channels=4, height=14, width=14))


def sampled(*visibilities: int) -> Instances:
    """One box for each visibility, which its three points have."""
    instances = Instances((40, 40))
    instances.proposal_boxes = Boxes(torch.tensor([[2.0, 4.0, 30.0, 32.0]] * len(visibilities)).reshape(-1, 4))
    instances.gt_classes = torch.arange(len(visibilities)) % 2
    points = torch.tensor([[5.0, 7.0, 0.0], [16.0, 30.0, 0.0], [29.0, 12.0, 0.0]]).repeat(len(visibilities), 1, 1)
    points[..., 2] = torch.tensor(visibilities, dtype=torch.float32)[:, None]
    instances.gt_keypoints = Keypoints(points)
    return instances


def detected(classes: list[int]) -> Instances:
    instances = Instances((40, 40))
    instances.pred_boxes = Boxes(torch.tensor([[2.0, 4.0, 30.0, 32.0]] * len(classes)).reshape(-1, 4))
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    instances.scores = torch.ones(len(classes))
    return instances


def losses(head, features, instances) -> dict[str, torch.Tensor]:
    with EventStorage():
        return head(features, instances)


@pytest.mark.parametrize("name", HEADS)
def test_it_learns_the_points_that_it_is_shown(name):
    head = small(name)
    features, instances = torch.randn(2, 4, 14, 14), [sampled(2), sampled(2)]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        total = sum(losses(head, features, instances).values())
        total.backward()
        optimizer.step()
    head.eval()
    found = head(features, [detected([0]), detected([1])])
    expected = torch.tensor([[5.0, 7.0], [16.0, 30.0], [29.0, 12.0]])
    for instances in found:
        assert (instances.pred_keypoints[0, :, :2] - expected).abs().max() < 0.3  # pixels; a cell of the features has 2
        assert instances.pred_keypoints[0, :, 2].min() > 0.8


@pytest.mark.parametrize("name", HEADS)
def test_objects_without_labelled_keypoints_add_nothing(name):
    head = small(name)
    features = torch.randn(3, 4, 14, 14)
    expected = losses(head, features[:2], [sampled(2, 1)])
    found = losses(learn_from_labels_only(head_in_a_model(head)).roi_heads.keypoint_head, features, [partly_labelled()])
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert torch.equal(value, expected[key]) and value > 0


def partly_labelled() -> Instances:
    instances = sampled(2, 1, 2)
    instances.gt_has_keypoints = torch.tensor([True, True, False])
    return instances


def head_in_a_model(head) -> torch.nn.Module:
    model = torch.nn.Module()
    model.roi_heads = torch.nn.Module()
    model.roi_heads.keypoint_head = head
    return model


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("boxes", [0, 2])
def test_a_batch_without_any_label_gives_losses_of_0_with_a_gradient_for_every_weight(name, boxes):
    head = small(name)
    found = losses(head, torch.randn(boxes, 4, 14, 14), [sampled(*[0] * boxes)])
    sum(found.values()).backward()
    assert all(value.item() == 0 for value in found.values())
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_a_constant_normalizer_is_per_image_as_detectron2s(name):
    features, instances = torch.randn(2, 4, 14, 14), [sampled(2), sampled(2)]
    key = "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS"
    by_visible, by_number = small(name), small(name, key, False)
    by_number.load_state_dict(by_visible.state_dict())
    mean = losses(by_visible, features, instances)["loss_keypoint"]
    constant = losses(by_number, features, instances)["loss_keypoint"]
    # 3 keypoints × 512 boxes × a quarter foreground × 2 images, instead of 6 labelled points
    assert constant.item() == pytest.approx(mean.item() * 6 / (3 * 512 * 0.25 * 2), rel=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_point_that_the_class_does_not_have_is_neither_learnt_nor_found(name):
    own = ["MODEL.ROI_KEYPOINT_HEAD.CLASS_KEYPOINTS", [[0, 1], [2]]]
    head = small(name, *own)
    features = torch.randn(2, 4, 14, 14)
    outlier = sampled(2, 2)
    before = losses(head, features, [sampled(2, 2)])
    outlier.gt_keypoints.tensor[0, 2, :2] = torch.tensor([3.0, 31.0])  # class 0 does not have the third point
    assert losses(head, features, [outlier]) == before
    outlier.gt_keypoints.tensor[0, 1, :2] = torch.tensor([3.0, 31.0])
    assert losses(head, features, [outlier])["loss_keypoint"] != before["loss_keypoint"]
    head.eval()
    scores = head(features, [detected([0, 1])])[0].pred_keypoints[..., 2]
    assert (scores > 0).tolist() == [[True, True, False], [False, False, True]]


@pytest.mark.parametrize("name", HEADS)
def test_predictions_keep_detectron2s_contract(name):
    head = small(name).eval()
    found = head(torch.randn(3, 4, 14, 14), [detected([0, 1, 1]), detected([])])
    assert [tuple(i.pred_keypoints.shape) for i in found] == [(3, 3, 3), (0, 3, 3)]
    assert not found[0].pred_keypoints.requires_grad
    keypoints, boxes = found[0].pred_keypoints, found[0].pred_boxes.tensor
    assert ((keypoints[..., :2] >= boxes[:, None, :2]) & (keypoints[..., :2] <= boxes[:, None, 2:])).all()
    assert ((keypoints[..., 2] >= 0) & (keypoints[..., 2] <= 1)).all()
    heatmaps = [i.pred_keypoint_heatmaps.shape for i in found if i.has("pred_keypoint_heatmaps")]
    assert heatmaps == ([(3, 3, 28, 28), (0, 3, 28, 28)] if name == "SubpixelKeypointHead" else [])
    twice = detector_postprocess(copy.deepcopy(found[0]), 80, 80)
    assert torch.allclose(twice.pred_keypoints[..., :2], keypoints[..., :2] * 2)
    nothing = head(torch.randn(0, 4, 14, 14), [detected([])])
    assert nothing[0].pred_keypoints.shape == (0, 3, 3)


@pytest.mark.parametrize("name", HEADS)
def test_in_mixed_precision_losses_and_predictions_are_float32(name):
    head = small(name)
    features, instances = torch.randn(2, 4, 14, 14), [sampled(2, 1)]
    exact = losses(head, features, instances)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = losses(head, features, instances)
        found = head.eval()(features, [detected([0, 1])])[0].pred_keypoints
    for key, value in mixed.items():
        assert value.dtype == torch.float32 and value.item() == pytest.approx(exact[key].item(), rel=0.02)
    assert found.dtype == torch.float32


def test_visibility_is_learnt_apart_from_the_place():
    head = small("SubpixelKeypointHead")
    features = torch.randn(2, 4, 14, 14)
    features[1] += 1
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        found = losses(head, features, [sampled(2, 1)])
        (found["loss_keypoint"] + 10 * found["loss_keypoint_visibility"]).backward()
        optimizer.step()
    seen, hidden = head.eval()(features, [detected([0, 0])])[0].pred_keypoints
    assert seen[:, 2].min() > 0.7 and hidden[:, 2].max() < 0.2
    assert (seen[:, :2] - hidden[:, :2]).abs().max() < 1  # a hidden point is placed all the same


@pytest.mark.parametrize("name", HEADS)
def test_every_loss_is_weighed_by_the_config(name):
    features, instances = torch.randn(2, 4, 14, 14), [sampled(2, 1)]
    plain, weighed = small(name), small(name, "MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT", 3.0)
    weighed.load_state_dict(plain.state_dict())
    expected = {key: 3 * value.item() for key, value in losses(plain, features, instances).items()}
    found = {key: value.item() for key, value in losses(weighed, features, instances).items()}
    assert found == pytest.approx(expected, rel=1e-6) and min(found.values()) > 0


@pytest.mark.parametrize(("own", "of_both"), [(0.1, 1.0), (0.5, 1.0), (0.5, 3.0)])
def test_the_visibility_has_a_weight_of_its_own(own, of_both):
    section = "MODEL.ROI_KEYPOINT_HEAD."
    weights = (section + "SUBPIXEL.VISIBILITY_LOSS_WEIGHT", own, section + "LOSS_WEIGHT", of_both)
    head, plain = small("SubpixelKeypointHead", *weights), small("SubpixelKeypointHead")
    plain.load_state_dict(head.state_dict())
    for one in (head, plain):  # a chance of 1/2, which costs ln 2 whether the points are seen or not
        torch.nn.init.zeros_(one.visibility_weight)
    features, instances = torch.randn(2, 4, 14, 14), [sampled(2, 1)]
    found = losses(head, features, instances)
    assert found["loss_keypoint_visibility"].item() == pytest.approx(own * of_both * math.log(2))
    at_place = losses(plain, features, instances)["loss_keypoint"].item()
    assert found["loss_keypoint"].item() == pytest.approx(of_both * at_place)


def test_the_visibility_by_hand():
    # Two channels on 2 × 2 cells without convolutions. The heatmap is ln 3 times the first one, each cell four times:
    # e⁰, e⁰, e⁰ and e^(2 ln 3) = 9 are shares of 1/12, 1/12, 1/12 and 3/4.
    head = SubpixelKeypointHead(ShapeSpec(channels=2, height=2, width=2), num_keypoints=1, conv_dims=[])
    with torch.no_grad():
        head.heatmaps.weight.zero_()
        head.heatmaps.weight[0, 0, 1:3, 1:3] = math.log(3)
        head.visibility_weight.copy_(torch.tensor([[2.0, 3.0, 10.0, 20.0]]))
        head.visibility_bias.fill_(0.25)
    heatmaps, visibility = head.layers(torch.tensor([[[[0.0, 0.0], [0.0, 2.0]], [[4.0, 0.0], [0.0, 4.0]]]]))
    assert heatmaps[0, 0, 2:, 2:].flatten().tolist() == pytest.approx([2 * math.log(3)] * 4)
    # At the point the channels have 2 × 3/4 = 3/2 and 4 × (1/12 + 3/4) = 10/3, over all cells means of 1/2 and 2:
    # 2 × 3/2 + 3 × 10/3 + 10 × 1/2 + 20 × 2 + 1/4
    assert visibility.item() == pytest.approx(3 + 10 + 5 + 40 + 0.25)


def test_the_visibility_does_not_move_the_heatmap():
    head = small("SubpixelKeypointHead")
    losses(head, torch.randn(2, 4, 14, 14), [sampled(2, 1)])["loss_keypoint_visibility"].backward()
    assert head.heatmaps.weight.grad is None and head.visibility_weight.grad.any()


def test_bins_gather_their_columns_and_rows():
    # One channel, one keypoint, one bin per cell, a 2 × 2 map; only the centre of each kernel counts: the cell's
    # evidence is the feature, that of its column twice, that of its row −1 times the feature.
    classifiers = AxisClassifiers(channels=1, num_keypoints=1, bins_per_cell=1)
    with torch.no_grad():
        classifiers.evidence.weight.zero_()
        classifiers.evidence.weight[:, 0, 1, 1] = torch.tensor([1.0, 2.0, -1.0])
    x_logits, y_logits = classifiers(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]))
    # x: the cells of a column times 3: log(e⁰ + e⁶) = 6.002476, log(e³ + e⁹) = 9.002476; y: times 0: log 2
    assert x_logits.flatten().tolist() == pytest.approx([6.002476, 9.002476], abs=1e-5)
    assert y_logits.flatten().tolist() == pytest.approx([math.log(2)] * 2, abs=1e-6)


def test_the_bins_of_a_cell_lie_beside_each_other():
    classifiers = AxisClassifiers(channels=1, num_keypoints=1, bins_per_cell=2)
    with torch.no_grad():
        classifiers.evidence.weight.zero_()
        classifiers.evidence.bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]))
    x_logits, y_logits = classifiers(torch.zeros(1, 1, 3, 3))
    assert (x_logits - math.log(3)).flatten().tolist() == pytest.approx([1.0, 2.0] * 3)
    assert (y_logits - math.log(3)).flatten().tolist() == pytest.approx([3.0, 4.0] * 3)


def test_the_coordinate_head_has_a_quarter_of_the_weights():
    def count(name: str) -> int:
        head = build_keypoint_head(config(name), ShapeSpec(channels=256, height=14, width=14))
        return sum(parameter.numel() for parameter in head.parameters())

    assert count("CoordinateKeypointHead") <= count(STOCK) / 4


def test_features_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match=r"are 7 × 14 .* both sides known and equal"):
        build_keypoint_head(config("CoordinateKeypointHead"), ShapeSpec(channels=4, height=7, width=14))


@pytest.fixture(scope="module")
def few_shapes(tmp_path_factory):
    from rcnnkit.data import shapes

    names = "shapes_for_heads"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", {"train": 64, "val": 4})
        register_shapes(tmp_path_factory.mktemp("data") / "shapes", names=names)
        yield names
    runs.forget_data(f"{names}_train", f"{names}_val")


@pytest.mark.parametrize("name", HEADS)
def test_the_coco_evaluator_evaluates_it(name, few_shapes, tmp_path):
    records = DatasetCatalog.get(f"{few_shapes}_val")
    head = small(name, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 4).eval()
    evaluator = COCOEvaluator(
        f"{few_shapes}_val", ("bbox", "keypoints"), False, str(tmp_path), kpt_oks_sigmas=[0.05] * 4
    )
    evaluator.reset()
    for record in records:
        instances = Instances((record["height"], record["width"]))
        boxes = torch.tensor([a["bbox"] for a in record["annotations"]]).reshape(-1, 4)
        instances.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
        instances.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]], dtype=torch.int64)
        instances.scores = torch.ones(len(boxes))
        found = head(torch.randn(len(boxes), 4, 14, 14), [instances])[0]
        evaluator.process([record], [{"instances": found}])
    results = evaluator.evaluate()
    assert results["bbox"]["AP"] > 99 and 0 <= results["keypoints"]["AP"] <= 100
    assert MetadataCatalog.get(f"{few_shapes}_val").keypoint_names


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_ten_steps_on_shapes(name, few_shapes, tmp_path, repository, capfd):
    status = runs.run_here(
        [
            *("--config-file", str(repository / "configs" / "quick" / f"{name}.yaml")),
            *("DATASETS.TRAIN", f"('{few_shapes}_train',)", "DATASETS.TEST", f"('{few_shapes}_val',)"),
            *("MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE", "1", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
            *("SOLVER.MAX_ITER", "10", "SOLVER.WARMUP_ITERS", "2", "OUTPUT_DIR", str(tmp_path)),
        ]
    )
    assert status == 0, capfd.readouterr().err[-2000:]
    steps = runs.metrics(tmp_path)
    assert steps[-1]["iteration"] == 9 and all(0 < step["loss_keypoint"] < 10 for step in steps)
    assert not runs.missing_files(tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("model", [("GeneralizedRCNN", "StandardROIHeads"), ("MultiTaskRCNN", "TaskROIHeads")])
def test_a_model_of_the_quick_config_learns_a_batch_without_keypoints(model, name, repository):
    cfg = config(HEADS[0])
    cfg.merge_from_file(str(repository / "configs" / "quick" / f"{name}.yaml"))
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME = model
    model = build_model(cfg).train()
    instances = Instances((64, 64))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
    instances.gt_classes = torch.tensor([1])
    instances.gt_keypoints = Keypoints(torch.zeros(1, 4, 3))
    instances.gt_has_keypoints = torch.tensor([False])
    with EventStorage():
        found = model([{"image": torch.zeros(3, 64, 64), "instances": instances, "height": 64, "width": 64}] * 2)
    assert found["loss_keypoint"].item() == 0 and found["loss_keypoint"].requires_grad
    sum(found.values()).backward()
    assert all(p.grad is not None for p in model.roi_heads.keypoint_head.parameters())
