import json
import os
import sys
from pathlib import Path

import pytest
import torch

from detectron2.engine import SimpleTrainer, create_ddp_model, launch
from detectron2.utils import comm
from tests.runtime.engine.tiny_training import Batches, TinyModel, TinyTrainer, tiny_cfg


def _note_ranks(folder, name):
    ranks = [comm.get_rank(), comm.get_world_size(), comm.get_local_rank(), comm.get_local_size()]
    Path(folder, f"{name}-{ranks[0]}.json").write_text(json.dumps(ranks))


def _train(folder, spoilt=()):
    """Each process trains on its half of the batches; on `spoilt`, (rank, iteration), one of them meets NaN."""
    rank, size = comm.get_rank(), comm.get_world_size()
    half = 4 // size
    bad = tuple(iteration for bad_rank, iteration in spoilt if bad_rank == rank)
    loader = Batches(part=slice(rank * half, (rank + 1) * half), spoilt=bad)
    model = create_ddp_model(TinyModel(), broadcast_buffers=False)
    trainer = SimpleTrainer(model, loader, torch.optim.SGD(model.parameters(), lr=0.1))
    stopped = None
    try:
        trainer.train(0, 4)
    except FloatingPointError:
        stopped = trainer.iter
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist()
    losses = [value for value, _ in trainer.storage.history("total_loss").values()] if rank == 0 else []
    result = {"weights": weights, "losses": losses, "stopped": stopped}
    Path(folder, f"train-{rank}.json").write_text(json.dumps(result))


def _resume(folder):
    """Each process has a folder of its own, and the checkpoint lies in the main one's only."""
    rank = comm.get_rank()
    trainer = TinyTrainer(tiny_cfg(Path(folder, str(rank))))
    trainer.resume_or_load(resume=True)
    weights = trainer.checkpointer.model.layer.weight.flatten().tolist()
    Path(folder, f"resumed-{rank}.json").write_text(
        json.dumps([trainer.start_iter, trainer.scheduler.last_epoch, weights])
    )


@pytest.fixture(autouse=True)
def _children_find_the_tests_and_no_gpu(repository, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(repository), *sys.path]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _results(folder, size):
    return [json.loads(Path(folder, f"train-{rank}.json").read_text()) for rank in range(size)]


def test_one_process_runs_here(tmp_path):
    launch(_note_ranks, 1, args=(str(tmp_path), "one"))
    launch(_note_ranks, 0, args=(str(tmp_path), "none"))
    assert json.loads((tmp_path / "one-0.json").read_text()) == [0, 1, 0, 1]
    assert (tmp_path / "none-0.json").exists()


def test_addresses_that_do_not_work():
    with pytest.raises(AssertionError, match="multi-machine"):
        launch(_note_ranks, 1, num_machines=2, dist_url="auto")
    with pytest.raises(ValueError, match="dist_url"):
        launch(_note_ranks, 2)


def test_torchrun_of_one_process(tmp_path, monkeypatch):
    for name, value in {
        "RANK": 0,
        "WORLD_SIZE": 1,
        "LOCAL_RANK": 0,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    launch(_note_ranks, 8, args=(str(tmp_path), "run"))
    assert json.loads((tmp_path / "run-0.json").read_text()) == [0, 1, 0, 1]


@pytest.mark.slow
def test_two_processes_train_like_one_with_the_whole_batch(tmp_path):
    _train(str(tmp_path))
    (alone,) = _results(tmp_path, 1)
    launch(_train, 2, dist_url="auto", args=(str(tmp_path),))
    first, second = _results(tmp_path, 2)
    assert first["weights"] == second["weights"]
    assert first["weights"] == pytest.approx(alone["weights"], rel=1e-5)
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-5)


@pytest.mark.slow
def test_nan_in_one_process_stops_all_with_equal_weights(tmp_path):
    launch(_train, 2, dist_url="auto", args=(str(tmp_path), ((1, 2),)))
    first, second = _results(tmp_path, 2)
    assert (first["stopped"], second["stopped"]) == (2, 2)
    assert first["weights"] == second["weights"]
    assert all(weight == weight for weight in first["weights"])


@pytest.mark.slow
def test_resume_reaches_processes_that_do_not_see_the_checkpoint(tmp_path):
    trainer = TinyTrainer(tiny_cfg(tmp_path / "0", max_iter=6))
    trainer.train()
    launch(_resume, 2, dist_url="auto", args=(str(tmp_path),))
    expected = [6, 6, trainer.model.layer.weight.flatten().tolist()]
    assert [json.loads((tmp_path / f"resumed-{rank}.json").read_text()) for rank in (0, 1)] == [expected, expected]


@pytest.mark.slow
def test_torchrun_of_two_processes(tmp_path):
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "import sys, rcnnkit\n"
        "from detectron2.engine import launch\n"
        "from tests.runtime.engine import test_launch as t\n"
        "launch(t._note_ranks, 1, args=(sys.argv[1], 'run'))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, str(script), str(tmp_path)], check=True, timeout=120, capture_output=True)
    assert json.loads((tmp_path / "run-0.json").read_text()) == [0, 2, 0, 2]
    assert json.loads((tmp_path / "run-1.json").read_text()) == [1, 2, 1, 2]
