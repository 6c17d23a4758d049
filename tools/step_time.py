"""Training time of configs beside each other: `python tools/step_time.py configs/quick/A.yaml configs/quick/B.yaml`.

All models are in one process and take turns, so that what else the machine does falls on all of them. Each turn is some
whole training steps, data included, or with --module that module alone, forward and backward and its inference, on
the boxes of some training steps. Ratios are to the first config: medians of the turns' ratios. CONFIG=WEIGHTS begins
with a trained model, which finds more objects to learn from than one of random weights.
"""

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import rcnnkit  # noqa: F401  (chooses the engine, so it comes before anything of detectron2)
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.structures import Instances
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.engine.checkpointing import check_weights
from rcnnkit.engine.setup import merge_config_file, merge_overrides
from rcnnkit.engine.trainer import Trainer
from rcnnkit.errors import UserError

WARM_UP = 3  # steps that are not counted
STEPS_SEEN = 8  # of which a module gets the boxes in each repetition


class Contestant:
    """A config's model with its data and optimizer, in training."""

    def __init__(self, config: str, overrides: list[str]):
        cfg = get_cfg()
        add_rcnnkit_config(cfg)
        config, _, weights = config.partition("=")
        merge_config_file(cfg, config)
        merge_overrides(cfg, [*overrides, *(("MODEL.WEIGHTS", weights) if weights else ())])
        seed_all_rng(0)
        self.name = Path(config).stem
        self.cfg: CfgNode = cfg
        self.model = Trainer.build_model(cfg).train()
        if weights:
            check_weights(cfg, weights, whole=True)
            DetectionCheckpointer(self.model).load(weights, checkpointables=[])
        self.optimizer = Trainer.build_optimizer(cfg, self.model)
        self.batches = iter(Trainer.build_train_loader(cfg))
        self.steps = 0
        with EventStorage(0):
            for _ in range(WARM_UP):
                self.step()

    def step(self) -> None:
        """One training step, on the batch that all have at this step."""
        seed_all_rng(self.steps)
        self.steps += 1
        batch = next(self.batches)
        self.optimizer.zero_grad()
        sum(self.model(batch).values()).backward()
        self.optimizer.step()

    def part(self, module: str, training: bool) -> Callable[[], None]:
        """Does what one module does in a step: on the boxes that it gets in training, with a backward pass or without.

        Raises:
            UserError: the model has no such module.
        """
        try:
            own = self.model.get_submodule(module)
        except AttributeError as error:
            raise UserError(f"--module {module}: {self.name} has none of this name") from error
        seen: list[tuple] = []
        hook = own.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
        with EventStorage(0):
            for _ in range(STEPS_SEEN):
                self.step()
        hook.remove()
        if any(len(arguments) != 2 for arguments in seen):
            raise UserError(f"--module {module}: give a head, which is called with features and instances")
        inputs = [(_leaf(features), instances) for features, instances in seen]
        if not training:
            inputs = [(features, [_as_detected(p) for p in instances]) for features, instances in inputs]

        def once() -> None:
            own.train(training)
            for features, instances in inputs:
                if training:
                    sum(own(features, instances).values()).backward()
                else:
                    with torch.no_grad():
                        own(features, [Instances(p.image_size, **p.get_fields()) for p in instances])

        with EventStorage(0):
            once()
        return once


def _leaf(features: torch.Tensor | dict[str, torch.Tensor]):
    if isinstance(features, dict):
        return {name: one.detach().requires_grad_() for name, one in features.items()}
    return features.detach().requires_grad_()


def _as_detected(proposals: Instances) -> Instances:
    return Instances(
        proposals.image_size,
        pred_boxes=proposals.proposal_boxes,
        pred_classes=proposals.gt_classes,
        scores=torch.ones(len(proposals)),
    )


def take_turns(works: list[Callable[[], None]], rounds: int, repeats: int) -> list[list[float]]:
    """Seconds of one repetition of each work, by work and round."""
    seconds: list[list[float]] = [[] for _ in works]
    with EventStorage(0):
        for _ in range(rounds):
            for own, work in zip(seconds, works, strict=True):
                _wait()
                began = time.perf_counter()
                for _ in range(repeats):
                    work()
                _wait()
                own.append((time.perf_counter() - began) / repeats)
    return seconds


def _wait() -> None:
    """For what a GPU has not done yet."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def report(title: str, names: list[str], seconds: list[list[float]]) -> str:
    """A table: median seconds, median ratio to the first, and its least and largest."""
    lines = [f"{title}", "", "| config | s | ratio (least to largest) |", "|---|---|---|"]
    for name, own in zip(names, seconds, strict=True):
        ratios = [a / b for a, b in zip(own, seconds[0], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| `{name}` | {statistics.median(own):.4f} | {spread} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; bad input is one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="step_time.py", description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+", metavar="CONFIG[=WEIGHTS]")
    parser.add_argument("--module", default="", help="time this module alone, such as roi_heads.mask_head")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each, 5 or more (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=10, help="steps in a turn (default: %(default)s)")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="config overrides")
    parsed = parser.parse_args(arguments)
    logging.disable(logging.INFO)
    try:
        if parsed.rounds < 5 or parsed.repeats < 1:
            raise UserError("give at least 5 --rounds, of which medians are taken, and at least 1 of --repeats")
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, Python {sys.version.split()[0]}\n")
        contestants = [Contestant(config, parsed.opts) for config in parsed.configs]
        names = [one.name for one in contestants]
        kinds = {"a training step": [one.step for one in contestants]}
        if parsed.module:
            kinds = {
                f"{parsed.module}, {kind}": [one.part(parsed.module, training) for one in contestants]
                for kind, training in (("forward and backward", True), ("inference", False))
            }
        for title, works in kinds.items():
            print(report(title, names, take_turns(works, parsed.rounds, parsed.repeats)), end="\n\n", flush=True)
    except UserError as error:
        print(f"step_time.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
