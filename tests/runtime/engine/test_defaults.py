import logging
import os

import numpy as np
import pytest
import torch

from detectron2.config import get_cfg
from detectron2.engine import default_argument_parser, default_setup, default_writers, hooks
from detectron2.engine.defaults import DefaultTrainer, _try_get_key, create_ddp_model
from detectron2.evaluation import DatasetEvaluator
from tests.runtime.engine.tiny_training import TinyModel, TinyTrainer, tiny_cfg


@pytest.fixture(autouse=True)
def _loggers_as_before():
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore")]
    before = [(logger, list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_arguments_and_their_defaults():
    args = vars(default_argument_parser().parse_args([]))
    assert args.pop("dist_url").startswith("tcp://127.0.0.1:")
    assert args == {
        "config_file": "",
        "resume": False,
        "eval_only": False,
        "num_gpus": 1,
        "num_machines": 1,
        "machine_rank": 0,
        "opts": [],
    }


def test_options_after_the_flags():
    args = default_argument_parser("an epilogue").parse_args(
        ["--config-file", "c.yaml", "--resume", "--num-gpus", "2", "SOLVER.BASE_LR", "0.1"]
    )
    assert (args.config_file, args.resume, args.num_gpus, args.opts) == ("c.yaml", True, 2, ["SOLVER.BASE_LR", "0.1"])
    assert "an epilogue" in default_argument_parser("an epilogue").format_help()


def test_setup_writes_log_and_a_config_that_loads(tmp_path):
    config_file = tmp_path / "given.yaml"
    config_file.write_text("SEED: 3\nVERSION: 2\n")
    cfg = get_cfg()
    cfg.merge_from_file(str(config_file))
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    args = default_argument_parser().parse_args(["--config-file", str(config_file)])
    default_setup(cfg, args)
    assert torch.initial_seed() == 3
    first = np.random.rand()  # noqa: NPY002
    default_setup(cfg, args)
    assert np.random.rand() == first  # noqa: NPY002

    again = get_cfg()
    again.merge_from_file(str(tmp_path / "out" / "config.yaml"))
    assert again.dump() == cfg.dump()
    for handler in logging.getLogger("detectron2").handlers:
        handler.flush()
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "Command line arguments" in log
    assert "Full config saved to" in log


def test_keys_of_either_kind_of_config():
    assert _try_get_key({"train": {"seed": 4}}, "SEED", "train.seed", default=1) == 4
    assert _try_get_key({"train": 2}, "SEED", "train.seed", default=1) == 1


def test_writers_make_their_folder(tmp_path):
    names = [type(writer).__name__ for writer in default_writers(str(tmp_path / "new"), 10)]
    assert names == ["CommonMetricPrinter", "JSONWriter", "TensorboardXWriter"]
    assert (tmp_path / "new").is_dir()


def test_one_process_needs_no_wrapper():
    model = TinyModel()
    assert create_ddp_model(model) is model


def test_a_training_leaves_its_files(tmp_path):
    trainer = TinyTrainer(tiny_cfg(tmp_path))
    trainer.resume_or_load(resume=False)
    assert trainer.train() is None
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"metrics.json", "last_checkpoint", "model_0000004.pth", "model_0000009.pth", "model_final.pth"}
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert (list(state), state["iteration"]) == (["model", "trainer", "iteration"], 9)
    assert list(state["trainer"]) == ["iteration", "hooks", "_trainer"]
    assert state["trainer"]["hooks"] == {"LRScheduler": {"base_lrs": [0.1], "last_epoch": 10}}
    assert list(state["trainer"]["_trainer"]) == ["iteration", "optimizer"]


def test_hooks_in_order(tmp_path):
    kinds = [type(hook) for hook in TinyTrainer(tiny_cfg(tmp_path))._hooks]
    assert kinds == [
        hooks.IterationTimer,
        hooks.LRScheduler,
        hooks.PeriodicCheckpointer,
        hooks.EvalHook,
        hooks.PeriodicWriter,
    ]


def test_after_backward_reaches_the_hooks(tmp_path):
    seen = []

    class SeesGradients(hooks.HookBase):
        def after_backward(self):
            seen.append(self.trainer.model.layer.weight.grad is not None)

    trainer = TinyTrainer(tiny_cfg(tmp_path, max_iter=2))
    trainer.register_hooks([SeesGradients()])
    trainer.train()
    assert seen == [True, True]


def test_resume_continues_at_the_next_iteration(tmp_path, monkeypatch):
    whole = TinyTrainer(tiny_cfg(tmp_path / "whole"))
    whole.train()

    class Killed(TinyTrainer):
        def run_step(self):
            if self.iter == 7:
                raise KeyboardInterrupt
            super().run_step()

    cfg = tiny_cfg(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        Killed(cfg).train()
    monkeypatch.setattr(TinyTrainer, "start", 5)  # the loader's place is not part of a checkpoint
    resumed = TinyTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 5
    resumed.train()
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert resumed.scheduler.last_epoch == 10


def test_resume_without_a_checkpoint_begins_at_zero(tmp_path):
    trainer = TinyTrainer(tiny_cfg(tmp_path))
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 0


def test_amp_from_config_on_a_cpu(tmp_path):
    cfg = tiny_cfg(tmp_path, max_iter=3)
    cfg.SOLVER.AMP.ENABLED = True
    trainer = TinyTrainer(cfg)
    assert trainer._trainer.precision == torch.bfloat16
    trainer.train()


def test_expected_results_are_verified_and_returned(tmp_path):
    cfg = tiny_cfg(tmp_path, max_iter=2)
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 1.5, 0.1]]
    assert TinyTrainer(cfg).train() == {"bbox": {"AP": 1.5}}


class _Evaluator(DatasetEvaluator):
    def reset(self):
        self.seen = 0

    def process(self, inputs, outputs):
        self.seen += len(inputs)

    def evaluate(self):
        return {"bbox": {"AP": float(self.seen)}}


class _EvaluatedTrainer(DefaultTrainer):
    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return [[{"image": torch.zeros(3)}], [{"image": torch.zeros(3)}]]


def test_evaluation_of_one_or_several_data_sets():
    cfg = get_cfg()
    model = torch.nn.Identity()
    cfg.DATASETS.TEST = ("a",)
    assert _EvaluatedTrainer.test(cfg, model, _Evaluator()) == {"bbox": {"AP": 2.0}}
    cfg.DATASETS.TEST = ("a", "b")
    results = _EvaluatedTrainer.test(cfg, model, [_Evaluator(), _Evaluator()])
    assert results == {"a": {"bbox": {"AP": 2.0}}, "b": {"bbox": {"AP": 2.0}}}
    with pytest.raises(AssertionError, match="2 != 1"):
        _EvaluatedTrainer.test(cfg, model, [_Evaluator()])


def test_evaluation_without_an_evaluator(caplog):
    cfg = get_cfg()
    cfg.DATASETS.TEST = ("a",)
    assert _EvaluatedTrainer.test(cfg, torch.nn.Identity()) == {}
    assert "No evaluator found" in caplog.text


@pytest.mark.parametrize(
    ("workers", "reference", "expected"),
    [
        (4, 2, (32, 0.002, 150, (50, 100), 6, 2500, 16, 4)),
        (3, 2, (24, 0.0015, 201, (67, 134), 7, 3333, 22, 3)),
        (1, 8, (2, 0.000125, 2408, (800, 1608), 88, 40000, 264, 1)),
    ],
)
def test_scaling_to_the_number_of_workers(workers, reference, expected):
    cfg = get_cfg()
    cfg.SOLVER.REFERENCE_WORLD_SIZE = reference
    cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = (100, 201), 301, 11
    cfg.TEST.EVAL_PERIOD = 33
    cfg.freeze()
    scaled = DefaultTrainer.auto_scale_workers(cfg, workers)
    solver = scaled.SOLVER
    assert scaled.is_frozen()
    assert cfg.SOLVER.IMS_PER_BATCH == 16
    assert expected == (
        solver.IMS_PER_BATCH,
        solver.BASE_LR,
        solver.MAX_ITER,
        solver.STEPS,
        solver.WARMUP_ITERS,
        solver.CHECKPOINT_PERIOD,
        scaled.TEST.EVAL_PERIOD,
        solver.REFERENCE_WORLD_SIZE,
    )


def test_scaling_that_is_not_asked_for_or_not_possible():
    cfg = get_cfg()
    assert DefaultTrainer.auto_scale_workers(cfg, 4) is cfg
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 7
    with pytest.raises(AssertionError, match="REFERENCE_WORLD_SIZE=7"):
        DefaultTrainer.auto_scale_workers(cfg, 1)


def test_output_dir_that_cannot_be_written(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(OSError):
        default_writers(os.path.join(blocker, "out"))
