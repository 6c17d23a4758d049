"""The process of one peer: reads requests as lines of JSON on stdin, answers with lines of JSON on stdout."""

import json
import os
import sys
import time

# kind of work → class of ours, and of pycocotools
DATA = {
    "registration": ("Registration", "PycocotoolsRegistration"),
    "check": ("Check", ""),
    "workers": ("Workers", ""),
}


def _versions(peer: str) -> dict[str, str]:
    from importlib.metadata import version

    packages = ["torch", "torchvision", "numpy", "pycocotools"]
    if peer == "builtin":
        packages += ["rcnnkit", "faster-coco-eval"]
    versions = {name: version(name) for name in packages}
    if peer == "detectron2":
        import detectron2

        versions["detectron2"] = detectron2.__version__
    return versions


def _build(peer: str, work: str, options: dict):
    """The object whose run() is timed; peers import their libraries here, not before."""
    if work in ("inference", "training"):
        if peer == "torchvision":
            from bench.work_torchvision import Inference, Training
        else:
            from bench.work_detectron2 import Inference, Training
        return (Inference if work == "inference" else Training)(**options)
    if work == "mapper":
        from bench.work_mapper import Mapper

        return Mapper(**options)
    if work in DATA:
        from bench import work_data

        own, pycocotools = DATA[work]
        return getattr(work_data, pycocotools if peer == "pycocotools" else own)(**options)
    from bench.work_evaluation import Evaluator, Pycocotools

    return (Pycocotools if peer == "pycocotools" else Evaluator)(**options)


def _prepare(peer: str, threads: int) -> dict:
    import torch

    torch.set_num_threads(threads)
    if peer in ("builtin", "detectron2"):
        from rcnnkit.engine_choice import engine_line

        print(engine_line(), file=sys.stderr)
    return {"versions": _versions(peer), "threads": torch.get_num_threads()}


def serve(peer: str, threads: int) -> None:
    """Answer requests until stdin ends. What libraries print goes to stderr, so that stdout holds answers alone."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(reply: dict) -> None:
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    answer(_prepare(peer, threads))
    work = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "build":
            work = None  # the model before must be gone before the next takes its memory
            work = _build(peer, request["work"], request["options"])
            answer(work.warm_up())
        else:
            start = time.perf_counter()
            work.run()
            answer({"seconds": time.perf_counter() - start})


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
