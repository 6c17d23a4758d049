"""Retries after running out of GPU memory."""

import pytest
import torch

from detectron2.utils.memory import _to_cpu, retry_if_cuda_oom


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_tries_up_to_three_times(failures):
    calls = []

    @retry_if_cuda_oom
    def add(x, *, y):
        """Adds."""
        calls.append(1)
        if len(calls) <= failures:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return x + y

    assert add(torch.ones(2), y=torch.ones(2)).tolist() == [2, 2]
    assert len(calls) == failures + 1
    assert add.__doc__ == "Adds."


def test_gives_up_after_three():
    calls = []

    def never():
        calls.append(1)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. ")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        retry_if_cuda_oom(never)()
    assert len(calls) == 3


def test_other_errors_pass_at_once():
    calls = []

    def broken():
        calls.append(1)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        retry_if_cuda_oom(broken)()
    assert len(calls) == 1


def test_arguments_move_to_the_cpu():
    class OnGpu:
        device = torch.device("cuda")

        def to(self, device):
            return f"moved to {device}"

    assert _to_cpu(OnGpu()) == "moved to cpu"
    assert _to_cpu(3) == 3
