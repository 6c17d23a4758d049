"""Train configs with several seeds each and compare them: `python tools/ablate.py tools/ablations/masks.yaml`.

    <output>/<row>/seed<N>/     a run of train_net.py; log.txt, metrics.json and so on
    <output>/<row>/seed<N>.json its numbers
    <output>/<plan>.md          the tables: mean ± standard deviation over the seeds
    <output>/<plan>.png         every run as a dot

What is there is reused: a finished run is not repeated, an interrupted one goes on from its last checkpoint. Runs whose
config has changed since are refused.
"""

import argparse
import io
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
import yaml

import rcnnkit  # noqa: F401  (chooses the engine, so it comes before anything of detectron2)
from detectron2.config import CfgNode, get_cfg
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.engine.setup import merge_config_file, merge_overrides
from rcnnkit.errors import UserError, nearest
from rcnnkit.evaluation.curves import read_metrics, series
from rcnnkit.files import write_bytes

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """A config with overrides; rows of one name in several tables are the same runs."""

    name: str
    config: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows that are compared with the first of them, by metrics named as in metrics.json."""

    title: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]


def read_plan(path: Path) -> list[Table]:
    """The tables of a plan.

    Raises:
        UserError: the file is missing or not a plan, or one name stands for two different rows.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        common = tuple(map(str, content.get("overrides", ())))
        tables = [
            Table(
                table["title"],
                tuple(table["metrics"]),
                tuple(
                    Row(row["name"], row["config"], (*common, *map(str, row.get("overrides", ()))))
                    for row in table["rows"]
                ),
            )
            for table in content["tables"]
        ]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is no plan ({type(error).__name__}: {error}); see tools/ablations") from error
    known: dict[str, Row] = {}
    for row in (row for table in tables for row in table.rows):
        if known.setdefault(row.name, row) != row:
            raise UserError(f"{path}: two different rows are called {row.name!r}; rename one")
    return tables


def settings_of(row: Row) -> dict[str, str]:
    """What the row's config sets to other values than the defaults, by key.

    Keys that are added to the project later, with a default that changes nothing, are not among them.
    """
    cfg, defaults = get_cfg(), get_cfg()
    for one in (cfg, defaults):
        add_rcnnkit_config(one)
    merge_config_file(cfg, row.config)
    merge_overrides(cfg, list(row.overrides))
    own, usual = dict(_leaves(cfg)), dict(_leaves(defaults))
    return {key: repr(value) for key, value in own.items() if key not in usual or usual[key] != value}


def _leaves(cfg: CfgNode, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def check_same(file: Path, stored: dict, described: dict) -> None:
    """Refuse numbers of another config.

    Raises:
        UserError: names what differs.
    """
    differing = [key for key in ("config", "overrides") if stored[key] != described[key]]
    before, now = stored["settings"], described["settings"]
    differing += [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if differing:
        key = differing[0]
        values = [str(one[key] if key in one else one["settings"].get(key)) for one in (stored, described)]
        raise UserError(f"{file}: {key} was {values[0]} and is {values[1]}; delete {file.parent} to run it again")


def run(row: Row, seed: int, output: Path) -> dict:
    """The numbers of one run, which is made or completed unless they are there."""
    folder, file = output / row.name / f"seed{seed}", output / row.name / f"seed{seed}.json"
    described = {"config": row.config, "overrides": list(row.overrides), "settings": settings_of(row)}
    if file.is_file():
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            check_same(file, stored["of"], described)
            numbers = stored["numbers"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: is no result of this program; delete {folder} and it to run again") from error
        if numbers:
            return numbers
    write_bytes(
        file, json.dumps({"of": described, "numbers": {}}, indent=1).encode()
    )  # an interrupted one is known too
    folder.mkdir(parents=True, exist_ok=True)
    # fmt: off
    command = [
        sys.executable, str(REPOSITORY / "train_net.py"), "--config-file", row.config, "--resume",
        *row.overrides, "SEED", str(seed), "OUTPUT_DIR", str(folder),
    ]
    # fmt: on
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"{folder}: the run ended with status {done.returncode}: {last}")
    numbers = numbers_of(folder)
    write_bytes(file, json.dumps({"of": described, "numbers": numbers}, indent=1).encode())
    return numbers


def numbers_of(folder: Path) -> dict:
    """What a finished run measured: metrics in percent, `seconds` per step (median), `values` of its state dict."""
    records = read_metrics(folder / "metrics.json")
    last = {key: value for record in records for key, value in record.items() if "/AP" in key}
    _, seconds = series(records, "time")
    weights = torch.load(folder / "model_final.pth", map_location="cpu", weights_only=True, mmap=True)["model"]
    values = sum(value.numel() for value in weights.values())
    return {**last, "seconds": statistics.median(seconds) if seconds else math.nan, "values": values}


def check_metrics(row: Row, tables: list[Table], numbers: dict) -> None:
    """Refuse a metric of a plan that a run of the row did not give.

    Raises:
        UserError: names the row, the metric and the nearest ones.
    """
    for table in tables:
        for metric in table.metrics if row in table.rows else ():
            if metric not in numbers:
                known = [key for key in numbers if "/" in key]
                raise UserError(
                    f"{row.name}: its runs give no {metric!r}; nearest: {', '.join(nearest(metric, known))}"
                )


def as_markdown(table: Table, numbers: dict[tuple[str, int], dict], seeds: list[int]) -> str:
    """A table of means and standard deviations (of the sample), with the mean difference to the first row."""
    header = ["", *(f"{metric} | Δ" for metric in table.metrics), "s per step", "M values"]
    lines = [f"## {table.title}", "", f"| {' | '.join(header)} |", "|---" * (len(table.metrics) * 2 + 3) + "|"]
    for row in table.rows:
        cells = [f"`{row.name}`"]
        for metric in table.metrics:
            own = [numbers[row.name, seed][metric] for seed in seeds]
            first = [numbers[table.rows[0].name, seed][metric] for seed in seeds]
            difference = np.mean(own) - np.mean(first)
            cells += [spread(own), "" if row is table.rows[0] else f"{difference:+.2f}"]
        cells.append(spread([numbers[row.name, seed]["seconds"] for seed in seeds], 3))
        cells.append(f"{numbers[row.name, seeds[0]]['values'] / 1e6:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int = 2) -> str:
    """Mean ± standard deviation; of one value the value. NaN, which was not measured, stays."""
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def draw(tables: list[Table], numbers: dict[tuple[str, int], dict], seeds: list[int]) -> bytes:
    """A PNG: a panel for each table and metric, a line for each row, a dot for each seed, a bar at the mean."""
    columns = max(len(table.metrics) for table in tables)
    figure, axes = plt.subplots(
        len(tables), columns, figsize=(4.2 * columns, 2.2 * len(tables)), squeeze=False, constrained_layout=True
    )
    for table, panels in zip(tables, axes, strict=True):
        for panel in panels[len(table.metrics) :]:
            panel.set_visible(False)
        for metric, panel in zip(table.metrics, panels, strict=False):
            for place, row in enumerate(table.rows):
                own = [numbers[row.name, seed][metric] for seed in seeds]
                panel.plot(own, [place] * len(own), "o", color="#0072b2", alpha=0.6)
                panel.plot([np.mean(own)], [place], "|", color="#d55e00", markersize=18, markeredgewidth=2)
            panel.set(yticks=range(len(table.rows)), yticklabels=[row.name for row in table.rows], title=metric)
            panel.invert_yaxis()
            panel.margins(y=0.3)
            panel.grid(axis="x", alpha=0.25)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    plt.close(figure)
    return content.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing and write tables and plot; bad input is one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="ablate.py", description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path, help="YAML file: see tools/ablations/masks.yaml")
    parser.add_argument("--output", type=Path, default=Path("output/ablations"), help="folder (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(default: 1 2 3)")
    parsed = parser.parse_args(arguments)
    try:
        tables = read_plan(parsed.plan)
        rows = {row.name: row for table in tables for row in table.rows}
        numbers = {}
        # seed by seed, so that an interruption leaves whole comparisons
        runs = [(row, seed) for seed in parsed.seeds for row in rows.values()]
        for count, (row, seed) in enumerate(runs, start=1):
            print(f"[{count}/{len(runs)}] {parsed.output / row.name / f'seed{seed}' / 'log.txt'}", flush=True)
            numbers[row.name, seed] = run(row, seed, parsed.output)
            check_metrics(row, tables, numbers[row.name, seed])
        text = "\n".join(as_markdown(table, numbers, parsed.seeds) for table in tables)
        write_bytes(parsed.output / f"{parsed.plan.stem}.png", draw(tables, numbers, parsed.seeds))
        write_bytes(parsed.output / f"{parsed.plan.stem}.md", text.encode())
    except (UserError, OSError) as error:
        print(f"ablate.py: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
