"""Detectron2's DefaultTrainer with rcnnkit's optimizers, evaluators, progress and checks."""

import errno
import logging
import os
from pathlib import Path
from typing import Any

from torch import nn

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, hooks
from detectron2.evaluation import LVISEvaluator, PascalVOCDetectionEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm
from rcnnkit.data.evaluation_file import (
    evaluation_file,
    needs_evaluation_file,
    set_evaluation_file,
    write_evaluation_file,
)
from rcnnkit.data.loading import build_test_loader, build_train_loader, training_class_counts
from rcnnkit.engine.checkpointing import StoredNames
from rcnnkit.engine.fine_tuning import NAMES_KEY, build_fine_tuning_checkpointer, names_of_data
from rcnnkit.engine.hooks import ProgressBar, diverged, stop_on_bad_loss
from rcnnkit.engine.optimizer import build_optimizer
from rcnnkit.errors import UserError
from rcnnkit.evaluation.boundary import BoundaryCOCOEvaluator
from rcnnkit.evaluation.mask_scores import MaskScoreCOCOEvaluator
from rcnnkit.modeling.box_heads import use_class_loss
from rcnnkit.modeling.partial_labels import learn_from_labels_only

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
logger = logging.getLogger(__name__)


def _is_no_user_error(record: logging.LogRecord) -> bool:
    """Keep the training loop from logging a traceback for what is reported as one line anyway."""
    return not (record.exc_info and isinstance(record.exc_info[1], UserError))


logging.getLogger("detectron2.engine.train_loop").addFilter(_is_no_user_error)


class Trainer(DefaultTrainer):
    """Trains from a config. A loss that is not finite stops it before the weights change.

    Checkpoints have the names of the classes and keypoints: see `checkpointing.StoredNames`.
    """

    def __init__(self, cfg):
        super().__init__(cfg)
        names = names_of_data(cfg.DATASETS.TRAIN[0])
        if not cfg.MODEL.KEYPOINT_ON:
            names.pop("keypoints", None)
        if names:
            self.checkpointer.add_checkpointable(NAMES_KEY, StoredNames(names))

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint of OUTPUT_DIR if asked and there is one, else begin with MODEL.WEIGHTS.

        The main process decides which; rows of classes in MODEL.WEIGHTS are taken by the classes' names.
        """
        if comm.all_gather(resume and self.checkpointer.has_checkpoint())[0]:
            super().resume_or_load(resume)
            if self.start_iter >= self.max_iter:
                text = "the last checkpoint is of iteration %d, SOLVER.MAX_ITER is %d: nothing is left to train"
                logger.warning(text, self.start_iter, self.max_iter)
        else:
            loader = build_fine_tuning_checkpointer(self.cfg, self.checkpointer.model)
            loader.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])

    @classmethod
    def build_model(cls, cfg):
        model = super().build_model(cfg)
        stop_on_bad_loss(model)
        balanced = cfg.MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE == "class_balanced"
        return learn_from_labels_only(use_class_loss(model, cfg, training_class_counts(cfg) if balanced else []))

    @classmethod
    def build_train_loader(cls, cfg):
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, folder="inference"):
        """The metrics that the data set is evaluated by: COCO's unless its metadata say LVIS or Pascal VOC.

        All tasks that the model predicts are evaluated; files go to `OUTPUT_DIR/<folder>` (Pascal VOC writes none).
        Where the data set is not evaluated as its own COCO file says, one is written there. All processes call this.
        """
        folder = os.path.join(cfg.OUTPUT_DIR, folder)
        kind = MetadataCatalog.get(dataset_name).get("evaluator_type") or "coco"
        if kind == "coco":
            prepare_evaluation_file(dataset_name, folder)
            evaluator = BoundaryCOCOEvaluator if cfg.RCNNKIT.BOUNDARY_AP else MaskScoreCOCOEvaluator
            return evaluator(dataset_name, output_dir=folder, kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS)
        if kind == "lvis":
            return LVISEvaluator(dataset_name, output_dir=folder)
        if kind == "pascal_voc":
            return PascalVOCDetectionEvaluator(dataset_name)
        known = "coco, lvis and pascal_voc"
        raise UserError(f"{dataset_name}: evaluator_type {kind!r} in its metadata has no evaluator here; {known} have")

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Metrics of predictions that are averaged over the sizes and flips of TEST.AUG; files go to `inference_TTA`.

        Returns:
            as of `test`, each name with `_TTA` behind it: "bbox_TTA", or with several data sets these.
        """
        evaluators = [cls.build_evaluator(cfg, name, "inference_TTA") for name in cfg.DATASETS.TEST]
        results = cls.test(cfg, GeneralizedRCNNWithTTA(cfg, model), evaluators)
        return {f"{name}_TTA": metrics for name, metrics in results.items()}

    def train(self) -> Any:  # type: ignore[override]
        """Train to SOLVER.MAX_ITER; the results of the last evaluation.

        Raises:
            UserError: there is no room for a checkpoint or another file of the run.
        """
        try:
            return super().train()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            place = error.filename or self.cfg.OUTPUT_DIR
            raise UserError(
                f"{place}: cannot be written ({error.strerror}); make room and go on with --resume"
            ) from error

    def run_step(self):
        """One step; predictions that are not finite are told with the images, like losses that are not."""
        try:
            super().run_step()
        except FloatingPointError as error:
            raise diverged(self.model, self.iter, error) from error

    def build_hooks(self):
        """Detectron2's with a progress bar, and after the last step the evaluation of TEST.AUG if it is enabled."""
        built = [ProgressBar(self.cfg.SOLVER.MAX_ITER), *super().build_hooks()]
        if self.cfg.TEST.AUG.ENABLED:
            augmented = hooks.EvalHook(0, lambda: self.test_with_TTA(self.cfg, self.model))
            # not at the end: there the main process writes what the hooks before recorded
            evaluation = max(number for number, hook in enumerate(built) if isinstance(hook, hooks.EvalHook))
            built.insert(evaluation + 1, augmented)
        return built


def prepare_evaluation_file(dataset_name: str, folder: str) -> None:
    """Write, in the main process, the COCO file of a data set that has none that says the same; name it in all."""
    if not needs_evaluation_file(dataset_name):
        return
    path = evaluation_file(dataset_name, Path(folder))
    if comm.is_main_process():
        write_evaluation_file(dataset_name, path)
    comm.synchronize()
    set_evaluation_file(dataset_name, path)
