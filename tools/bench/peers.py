"""Peers as living processes: two engines answer to the same name and cannot share one."""

import json
import os
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
TITLES = {
    "builtin": "built-in engine",
    "detectron2": "stock Detectron2",
    "torchvision": "torchvision",
    "pycocotools": "pycocotools",
}


class Peer:
    """A worker process that is asked one thing at a time; it sleeps between questions."""

    def __init__(self, name: str, threads: int, log: Path) -> None:
        self.name = name
        self.log = log
        paths = [str(TOOLS), os.environ.get("PYTHONPATH", "")]
        if name == "detectron2":
            paths.insert(1, os.environ.get("RCNNKIT_STOCK", ""))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "RCNNKIT_ENGINE": "detectron2" if name == "detectron2" else "builtin",
            "OMP_NUM_THREADS": str(threads),
        }
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "bench.worker", name, str(threads)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.about = self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{TITLES[self.name]} stopped with status {self.process.returncode}:\n{tail}")
        return json.loads(line)

    def _ask(self, **request: object) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def build(self, work: str, options: dict) -> dict:
        """Prepare `work` and run it once, untimed; returns what that run tells about itself."""
        return self._ask(do="build", work=work, options=options)

    def run(self) -> float:
        """Seconds of one run of what was built last."""
        return self._ask(do="run")["seconds"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def interleave(peers: list[Peer], work: str, options: dict, rounds: int) -> dict[str, dict]:
    """Build everywhere, then A B C A B C …; per peer the seconds of each round and the facts of the warm-up run."""
    facts = {peer.name: peer.build(work, options) for peer in peers}
    seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            seconds[peer.name].append(peer.run())
    return {peer.name: {"seconds": seconds[peer.name], **facts[peer.name]} for peer in peers}
