"""Does a Detectron2 plug-in work here? Builds its model, trains ten steps on made pictures, runs inference.

    PYTHONPATH=$(python -m rcnnkit_runtime path):/folder/of/plugin \
        python tools/plugin_trial.py PACKAGE CONFIG_FUNCTION CONFIG_FILE [KEY VALUE ...]

PACKAGE is imported for its registrations; CONFIG_FUNCTION, of that package, adds its keys to the config.
"""

import importlib
import sys

import numpy as np
import torch

STEPS = 10


def batch(num_classes: int, bitmask: bool) -> list[dict]:
    """Two pictures with a bright box each, and its class, box and mask."""
    from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

    random = np.random.default_rng(0)
    inputs = []
    for index in range(2):
        image = torch.from_numpy(random.integers(0, 80, (3, 128, 160), dtype=np.uint8))
        x0, y0, x1, y1 = 20 + 10 * index, 16, 100, 96
        image[:, y0:y1, x0:x1] += 150
        truth = Instances((128, 160))
        truth.gt_boxes = Boxes(torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32))
        truth.gt_classes = torch.tensor([index % num_classes])
        mask = torch.zeros(1, 128, 160, dtype=torch.bool)
        mask[:, y0:y1, x0:x1] = True
        polygon = np.array([x0, y0, x1, y0, x1, y1, x0, y1], dtype=np.float64)
        truth.gt_masks = BitMasks(mask) if bitmask else PolygonMasks([[polygon]])
        inputs.append({"image": image, "instances": truth, "height": 256, "width": 320})
    return inputs


def main(package: str, config_function: str, config_file: str, *overrides: str) -> None:
    """Print the losses of the first and the last step and the number of detections."""
    import detectron2
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from detectron2.solver import build_optimizer
    from detectron2.utils.events import EventStorage

    print(f"detectron2 of {detectron2.__file__}")
    torch.manual_seed(0)
    cfg = get_cfg()
    getattr(importlib.import_module(package), config_function)(cfg)
    cfg.merge_from_file(config_file)
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "SOLVER.BASE_LR", "0.002", *overrides])
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    inputs = batch(cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.INPUT.MASK_FORMAT == "bitmask")
    with EventStorage(0):
        for step in range(STEPS):
            losses = model(inputs)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            if step in (0, STEPS - 1):
                print(f"step {step}:", ", ".join(f"{name} {value.item():.4f}" for name, value in losses.items()))
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters()), "training diverged"
    with torch.no_grad():
        for output in model.eval()(inputs):
            found = output["instances"]
            print(f"inference: {len(found)} detections, fields {', '.join(found.get_fields())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
