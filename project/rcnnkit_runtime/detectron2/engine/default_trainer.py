"""The trainer that does everything from a config; projects subclass it and replace its builders."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from fvcore.nn.precise_bn import get_bn_modules

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import hooks
from detectron2.engine.default_setup import default_writers
from detectron2.engine.parallel import create_ddp_model
from detectron2.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, verify_results
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from detectron2.utils.logger import setup_logger


class _AfterBackward(HookBase):
    """Tells the outer trainer's hooks that the inner trainer, which alone knows, has its gradients."""

    def __init__(self, outer: TrainerBase) -> None:
        self._outer = weakref.proxy(outer)

    def after_backward(self) -> None:
        self._outer.after_backward()


class DefaultTrainer(TrainerBase):
    """Model, optimizer, loaders, schedule, checkpoints, evaluation and writers as the config says.

    Attributes:
        scheduler, checkpointer, cfg: as built.
        _trainer: the `SimpleTrainer` or `AMPTrainer` that runs the steps.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):  # no setup_logger yet
            setup_logger()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())

        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        model = create_ddp_model(model, broadcast_buffers=False)
        self._trainer = _step_trainer(cfg, model, data_loader, optimizer)
        self._trainer.register_hooks([_AfterBackward(self)])
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # the proxy: trainer and checkpointer would otherwise keep one another alive
        self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """With `resume` and a last checkpoint in OUTPUT_DIR: loads all of it and continues at the next iteration.
        Otherwise: loads the model from MODEL.WEIGHTS and begins at 0."""
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        # other machines may not see the main process's folder
        if resume and comm.all_gather(self.checkpointer.has_checkpoint())[0]:
            # the checkpoint holds the iteration that was just done
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[HookBase | None]:
        """Timing, schedule, precise BN, checkpoints, evaluation, writers, in this order."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # precise BN's own loader is seldom used

        built: list[HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model):
            loader = self.build_train_loader(cfg)
            built.append(hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, self.model, loader, cfg.TEST.PRECISE_BN.NUM_ITER))
        # before the evaluation: if that fails, the weights are there
        if comm.is_main_process():
            built.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))

        def test_and_save_results() -> Any:
            self._last_eval_results = self.test(self.cfg, self.model)
            return self._last_eval_results

        built.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, test_and_save_results))
        # last: it writes what the hooks before it recorded
        if comm.is_main_process():
            built.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return built

    def build_writers(self) -> list[EventWriter]:
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> Any:  # type: ignore[override]
        """Trains from `start_iter` to `max_iter`.

        Returns:
            The last evaluation's results where TEST.EXPECTED_RESULTS are given (and verified), otherwise None.
        """
        super().train(self.start_iter, self.max_iter)
        if len(self.cfg.TEST.EXPECTED_RESULTS) and comm.is_main_process():
            assert hasattr(self, "_last_eval_results"), "No evaluation results obtained during training!"
            verify_results(self.cfg, self._last_eval_results)
            return self._last_eval_results
        return None

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def after_train(self) -> None:
        # metrics that the step trainer still writes in its thread come before the writers' last turn
        executor = getattr(self._trainer, "concurrent_executor", None)
        if executor is not None:
            executor.shutdown(wait=True)
        super().after_train()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @property
    def model(self) -> Any:
        return self._trainer.model

    @model.setter
    def model(self, value: Any) -> None:
        self._trainer.model = value

    @property
    def data_loader(self) -> Any:
        return self._trainer.data_loader

    @data_loader.setter
    def data_loader(self, value: Any) -> None:
        self._trainer.data_loader = value

    @property
    def optimizer(self) -> Any:
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        self._trainer.optimizer = value

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        model = build_model(cfg)
        logging.getLogger("detectron2.engine.defaults").info(f"Model:\n{model}")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> Any:
        raise NotImplementedError(
            "DefaultTrainer has no evaluator of its own: define `build_evaluator` in a subclass, as train_net.py does, "
            "or call the functions of detectron2.evaluation yourself."
        )

    @classmethod
    def test(cls, cfg: CfgNode, model: torch.nn.Module, evaluators: Any = None) -> Any:
        """Evaluates a model on each data set of DATASETS.TEST.

        Args:
            cfg: names the data sets.
            model: is set to evaluation mode meanwhile.
            evaluators: one per data set; `build_evaluator`'s by default.

        Returns:
            The results of the data set, or with several {data set: results}.
        """
        logger = logging.getLogger("detectron2.engine.defaults")
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None:
            assert len(cfg.DATASETS.TEST) == len(evaluators), f"{len(cfg.DATASETS.TEST)} != {len(evaluators)}"

        results: OrderedDict[str, Any] = OrderedDict()
        for index, dataset_name in enumerate(cfg.DATASETS.TEST):
            data_loader: Any = cls.build_test_loader(cfg, dataset_name)
            if evaluators is not None:
                evaluator = evaluators[index]
            else:
                try:
                    evaluator = cls.build_evaluator(cfg, dataset_name)
                except NotImplementedError:
                    logger.warning(
                        "No evaluator found. Use `DefaultTrainer.test(evaluators=)`, "
                        "or implement its `build_evaluator` method."
                    )
                    results[dataset_name] = {}
                    continue
            result = inference_on_dataset(model, data_loader, evaluator)
            results[dataset_name] = result
            if comm.is_main_process():
                assert isinstance(result, dict), f"Evaluator must return a dict on the main process. Got {result}"
                logger.info(f"Evaluation results for {dataset_name} in csv format:")
                print_csv_format(result)
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Scales batch, rate and schedule from SOLVER.REFERENCE_WORLD_SIZE to the number of processes (the linear rule
        of Goyal et al., arXiv 1706.02677), so that the images per process stay.

        Args:
            cfg: returned as it is where the reference is 0 or equal to `num_workers`.
            num_workers: processes in all.
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference == 0 or reference == num_workers:
            return cfg
        if cfg.SOLVER.IMS_PER_BATCH % reference != 0:
            raise AssertionError(
                f"Invalid REFERENCE_WORLD_SIZE in config! SOLVER.IMS_PER_BATCH={cfg.SOLVER.IMS_PER_BATCH} is not a "
                f"multiple of SOLVER.REFERENCE_WORLD_SIZE={reference}."
            )
        scaled = cfg.clone()
        frozen = scaled.is_frozen()
        scaled.defrost()
        scale = num_workers / reference
        solver = scaled.SOLVER
        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
        solver.BASE_LR = solver.BASE_LR * scale
        solver.MAX_ITER = round(solver.MAX_ITER / scale)
        solver.WARMUP_ITERS = round(solver.WARMUP_ITERS / scale)
        solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
        solver.CHECKPOINT_PERIOD = round(solver.CHECKPOINT_PERIOD / scale)
        scaled.TEST.EVAL_PERIOD = round(scaled.TEST.EVAL_PERIOD / scale)
        solver.REFERENCE_WORLD_SIZE = num_workers
        logging.getLogger("detectron2.engine.defaults").info(
            f"Auto-scaling the config to batch_size={solver.IMS_PER_BATCH}, learning_rate={solver.BASE_LR}, "
            f"max_iter={solver.MAX_ITER}, warmup={solver.WARMUP_ITERS}."
        )
        if frozen:
            scaled.freeze()
        return scaled


def _step_trainer(
    cfg: CfgNode, model: torch.nn.Module, data_loader: Iterable[Any], optimizer: torch.optim.Optimizer
) -> SimpleTrainer:
    if not cfg.SOLVER.AMP.ENABLED:
        return SimpleTrainer(model, data_loader, optimizer)
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    # CPUs compute fast in bfloat16, which needs no loss scaling; GPUs as Detectron2 does
    return AMPTrainer(model, data_loader, optimizer, precision=torch.bfloat16 if on_cpu else torch.float16)
