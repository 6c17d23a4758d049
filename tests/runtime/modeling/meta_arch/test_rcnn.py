import pytest
import torch

from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage


def make_cfg(meta_arch="GeneralizedRCNN"):
    """R18-FPN with narrow heads."""
    cfg = get_cfg()
    model = cfg.MODEL
    cfg.MODEL.DEVICE = "cpu"
    model.META_ARCHITECTURE = meta_arch
    model.MASK_ON = True
    model.BACKBONE.NAME = "build_resnet_fpn_backbone"
    model.RESNETS.DEPTH = 18
    model.RESNETS.RES2_OUT_CHANNELS = 64
    model.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    model.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model.FPN.OUT_CHANNELS = 8
    model.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    model.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    model.RPN.POST_NMS_TOPK_TEST = 20
    model.RPN.POST_NMS_TOPK_TRAIN = 20
    model.ROI_HEADS.NAME = "StandardROIHeads"
    model.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    model.ROI_HEADS.NUM_CLASSES = 3
    model.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    model.ROI_BOX_HEAD.NUM_FC = 1
    model.ROI_BOX_HEAD.FC_DIM = 16
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    model.ROI_MASK_HEAD.NUM_CONV = 1
    model.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    return cfg


def make_model(meta_arch="GeneralizedRCNN", **init):
    torch.manual_seed(0)
    cfg = make_cfg(meta_arch)
    return build_model(cfg) if not init else META_ARCH_REGISTRY.get(meta_arch)(cfg, **init)


def make_inputs(num_boxes=1):
    torch.manual_seed(1)
    boxes = torch.tensor([[10.0, 10.0, 40.0, 40.0]])[:num_boxes]
    masks = torch.zeros(num_boxes, 64, 64, dtype=torch.bool)
    masks[:, 10:40, 10:40] = True
    instances = Instances(
        (64, 64),
        gt_boxes=Boxes(boxes),
        gt_classes=torch.zeros(num_boxes, dtype=torch.int64),
        gt_masks=BitMasks(masks),
    )
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    return [
        {"image": image, "instances": instances, "height": 128, "width": 96},
        {"image": image[:, :48], "instances": Instances((48, 64), **instances[:0].get_fields())},
    ]


@pytest.mark.parametrize("num_boxes", [0, 1])
def test_training_gives_every_loss(num_boxes):
    model = make_model()
    with EventStorage():
        losses = model(make_inputs(num_boxes))
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    missing = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not missing


def test_inference_in_output_resolution():
    model = make_model().eval()
    with torch.no_grad():
        first, second = model(make_inputs())
    assert first["instances"].image_size == (128, 96)
    assert second["instances"].image_size == (48, 64)
    assert first["instances"].pred_masks.shape == (len(first["instances"]), 128, 96)
    assert 0 < len(first["instances"]) <= 5


def test_given_boxes_go_to_the_mask_head_only():
    model = make_model().eval()
    given = [
        Instances(size, pred_boxes=Boxes(torch.tensor([[4.0, 4.0, 30.0, 30.0]])), pred_classes=torch.tensor([1]))
        for size in [(64, 64), (48, 64)]
    ]
    with torch.no_grad():
        results = model.inference(make_inputs(), given, do_postprocess=False)
    assert results[0].image_size == (64, 64)
    assert results[0].pred_masks.shape == (1, 1, 28, 28)
    assert results[0].pred_boxes.tensor.tolist() == [[4, 4, 30, 30]]


def test_images_are_normalised_and_padded():
    model = make_model()
    inputs = make_inputs()
    images = model.preprocess_image(inputs)
    assert images.tensor.shape == (2, 3, 64, 64)
    assert images.image_sizes == [(64, 64), (48, 64)]
    expected = inputs[0]["image"].float() - torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)
    torch.testing.assert_close(images.tensor[0], expected)
    assert images.tensor[1, :, 48:].abs().sum() == 0


def test_pixel_statistics_stay_out_of_the_state_dict():
    model = make_model()
    assert not [key for key in model.state_dict() if "pixel" in key]
    assert model.device.type == "cpu"


def test_pixel_statistics_must_agree():
    with pytest.raises(AssertionError, match="PIXEL_STD"):
        make_model(pixel_std=[1.0])


def test_model_without_proposal_generator_takes_those_of_the_input():
    model = make_model(proposal_generator=None).eval()
    inputs = make_inputs()
    with pytest.raises(AssertionError, match="PROPOSAL_FILES"):
        model(inputs)
    for x in inputs:
        x["proposals"] = Instances(
            tuple(x["image"].shape[-2:]),
            proposal_boxes=Boxes(torch.tensor([[5.0, 5.0, 30.0, 30.0]])),
            objectness_logits=torch.zeros(1),
        )
    with torch.no_grad():
        assert len(model(inputs)) == 2
    with EventStorage():
        losses = model.train()(inputs)
    assert "loss_rpn_cls" not in losses


def test_inference_refuses_a_model_in_training():
    with pytest.raises(AssertionError, match="eval"):
        make_model().inference(make_inputs())


def test_training_picture():
    model = make_model(vis_period=1, input_format="BGR")
    with EventStorage() as storage:
        model(make_inputs())
        names = [name for name, _, _ in storage._vis_data]
        assert "Left: GT bounding boxes;  Right: Predicted proposals" in names
        assert storage._vis_data[0][1].shape == (3, 64, 128)


def test_visualization_needs_the_channel_order():
    with pytest.raises(AssertionError, match="input_format"):
        make_model(vis_period=1, input_format=None)


def test_proposal_network():
    model = make_model("ProposalNetwork")
    with EventStorage():
        assert set(model(make_inputs())) == {"loss_rpn_cls", "loss_rpn_loc"}
    with torch.no_grad():
        first, _ = model.eval()(make_inputs())
    assert first["proposals"].image_size == (128, 96)
    assert len(first["proposals"]) > 0


def test_unknown_architecture_lists_the_nearest():
    cfg = make_cfg("GeneralisedRCNN")
    with pytest.raises(KeyError, match="GeneralizedRCNN"):
        build_model(cfg)
