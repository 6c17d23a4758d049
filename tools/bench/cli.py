"""Arguments, the order of measurements, files."""

import argparse
import importlib.util
import json
import os
import platform
import tempfile
from pathlib import Path

from bench import report, sizes
from bench.peers import Peer, interleave
from bench.work_data import make_data_set, make_pictures
from bench.work_evaluation import make_files
from bench.work_mapper import find_source

REPOSITORY = Path(__file__).resolve().parents[2]
METRIC_TOLERANCE = 1e-9


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("bench"), help="folder of bench.json, bench.md and logs")
    parser.add_argument("--docs", type=Path, help="also write the table as a page of the documentation")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: shows that it runs")
    parser.add_argument("--rounds", type=int, help="rounds per measurement (at least 5 for a number to quote)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of every peer")
    parser.add_argument("--only", nargs="+", choices=list(report.ROWS), help="measure these alone; checks are left out")
    return parser.parse_args(arguments)


def stock_is_here() -> bool:
    """Stock Detectron2 under RCNNKIT_STOCK, or installed."""
    return bool(os.environ.get("RCNNKIT_STOCK")) or importlib.util.find_spec("detectron2") is not None


def _command(names: list[str], threads: int, rounds: int) -> str:
    """What measures the same again, from the root of the checkout."""
    stock = "RCNNKIT_STOCK=<folder with detectron2> " if "detectron2" in names else ""
    return f"{stock}.venv/bin/python tools/bench.py --threads {threads} --rounds {rounds}"


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{cores} CPU cores ({platform.machine()}), no GPU used, Python {platform.python_version()}"


def _plan(chosen: dict, names: list[str], scratch: Path) -> dict[str, tuple[list[str], dict, int]]:
    """Per kind of work: its peers, its options, its rounds."""
    engines = [name for name in names if name in ("builtin", "detectron2")]
    return {
        "inference": ([n for n in names if n != "pycocotools"], chosen["model"], chosen["rounds"]),
        "training": ([n for n in names if n != "pycocotools"], chosen["model"], chosen["rounds"]),
        "mapper": (engines, chosen["mapper"], chosen["rounds"]),
        "evaluation": ([*engines, "pycocotools"], {"folder": str(scratch)}, chosen["evaluation"]["rounds"]),
        "registration": (["builtin", "pycocotools"], {"folder": str(scratch / "large")}, chosen["data"]["rounds"]),
        "check": (["builtin"], {"folder": str(scratch / "pictures")}, chosen["data"]["rounds"]),
        "workers": (
            ["builtin"],
            {"folder": str(scratch / "large"), "workers": 4, "samples": chosen["data"]["samples"]},
            1,
        ),
    }


def _facts(result: dict) -> dict:
    return {key: value for key, value in result.items() if key != "seconds"}


def measure(chosen: dict, threads: int, output: Path, only: list[str] | None = None) -> dict:
    """Run everything; returns what bench.json holds."""
    names = ["builtin", *(["detectron2"] if stock_is_here() else []), "torchvision", "pycocotools"]
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        real_data = Path(os.environ.get("RCNNKIT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
        source, annotations, images = find_source(real_data, scratch)
        plan = _plan(chosen, names, scratch)
        plan["mapper"][1].update(annotations=str(annotations), images=str(images))
        make_files(scratch, **{k: chosen["evaluation"][k] for k in ("images", "objects", "detections")})
        if only is None or set(only) & {"registration", "workers"}:
            make_data_set(scratch / "large", chosen["data"]["images"], chosen["data"]["objects"])
        if only is None or "check" in only:
            make_pictures(scratch / "pictures", chosen["data"]["pictures"])
        peers = {name: Peer(name, threads, output / f"{name}.log") for name in names}
        try:
            for work, (taking_part, options, rounds) in plan.items():
                if only is None or work in only:
                    print(f"measuring {work}: {', '.join(taking_part)}", flush=True)
                    measured[work] = interleave([peers[n] for n in taking_part], work, options, rounds)
        finally:
            for peer in peers.values():
                peer.close()
    versions: dict[str, str] = {}
    for peer in peers.values():
        versions.update(peer.about["versions"])
    result = {
        "command": _command(names, threads, chosen["rounds"]),
        "machine": _machine(),
        "threads": threads,
        "versions": versions,
        "sizes": chosen,
        "mapper_source": source,
        "rows": report.summarize(measured),
        "seconds": {work: {p: r["seconds"] for p, r in peers.items()} for work, peers in measured.items()},
        "facts": {work: {p: _facts(r) for p, r in peers.items()} for work, peers in measured.items()},
    }
    if only is None:
        result["largest_metric_difference"] = report.largest_difference(measured["evaluation"])
        result["wrong"] = report.check(measured, METRIC_TOLERANCE)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 when the peers did not do the same work or did not agree."""
    args = _arguments(arguments)
    chosen = json.loads(json.dumps(sizes.QUICK if args.quick else sizes.FULL))
    if args.rounds is not None:
        chosen["rounds"] = chosen["evaluation"]["rounds"] = chosen["data"]["rounds"] = args.rounds
    args.output.mkdir(parents=True, exist_ok=True)
    result = measure(chosen, args.threads, args.output, args.only)
    (args.output / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    print("\n" + report.table(result["rows"]))
    if args.only:
        return 0
    (args.output / "bench.md").write_text(report.table(result["rows"]) + "\n\n" + report.details(result) + "\n")
    print("\n" + report.details(result))
    if args.docs:
        args.docs.write_text(report.document(result))
    for sentence in result["wrong"]:
        print(f"not comparable: {sentence}")
    return 1 if result["wrong"] and not args.quick else 0
