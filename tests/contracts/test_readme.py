"""What the documentation names exists: links, make targets, configs, flags, config keys, sizes of models."""

import re
from pathlib import Path

import pytest

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.engine.setup import argument_parser, flat_keys

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "datasets" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOREIGN_FLAGS = {"--nproc-per-node"}  # torchrun's
TABLE_ROW = re.compile(r"^\| `(configs/[^`]+)` \| ([\d.]+) \|$", re.MULTILINE)


def missing_links(page: Path, text: str) -> list[str]:
    """Targets of relative links that are not there."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [target.split("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
    return [target for target in local if not (page.parent / target).exists()]


def unknown_targets(text: str) -> list[str]:
    """Targets after `make`, in code, that the Makefile does not have."""
    rules = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    return [name for name in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE) if name not in rules]


def missing_configs(text: str) -> list[str]:
    return [name for name in re.findall(r"(?<![\w/])configs/[\w./-]+?\.yaml", text) if not (ROOT / name).is_file()]


def unknown_flags(text: str) -> list[str]:
    """Flags on a line that runs train_net.py, and flags that stand alone in backticks."""
    known = set(argument_parser()._option_string_actions) | FOREIGN_FLAGS
    lines = [line.split("train_net.py", 1)[1] for line in text.splitlines() if "train_net.py -" in line]
    used = [flag for line in lines for flag in re.findall(r"(?<!\S)`?(--[a-z-]+)", line)]
    return [flag for flag in used if flag not in known]


def unknown_keys(text: str) -> list[str]:
    """Names such as `SOLVER.BASE_LR` at the beginning of inline code, or in it after a blank, that no config has."""
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    known = set(flat_keys(cfg)) | set(sections(cfg))
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    # An error line quotes what a user mistyped; those are in fenced blocks, which inline code is not.
    used = [key for code in inline for key in re.findall(r"(?<!\S)([A-Z][A-Z0-9]+(?:\.[A-Z][A-Z0-9_]+)+)", code)]
    return [key for key in used if key not in known]


def sections(cfg: CfgNode, prefix: str = "") -> list[str]:
    names = []
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            names += [prefix + key, *sections(value, f"{prefix}{key}.")]
    return names


def values_in_state_dict(config: str) -> float:
    """Millions of values in the state dict of a config's model."""
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.merge_from_file(str(ROOT / config))
    cfg.MODEL.DEVICE = "meta"
    return sum(value.numel() for value in build_model(cfg).state_dict().values()) / 1e6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
class TestPage:
    def test_links_lead_somewhere(self, page):
        assert missing_links(page, page.read_text()) == []

    def test_make_targets_exist(self, page):
        assert unknown_targets(page.read_text()) == []

    def test_configs_exist(self, page):
        assert missing_configs(page.read_text()) == []

    def test_flags_exist(self, page):
        assert unknown_flags(page.read_text()) == []

    def test_config_keys_exist(self, page):
        assert unknown_keys(page.read_text()) == []


def test_wrong_names_are_found():
    assert missing_links(ROOT / "README.md", "[a](docs/gone.md) [b](LICENSE) [c](https://example.org/x)") == [
        "docs/gone.md"
    ]
    assert unknown_targets("`make test` and\nmake tset") == ["tset"]
    assert missing_configs("`configs/Base-RCNN-FPN.yaml` configs/quick/gone.yaml") == ["configs/quick/gone.yaml"]
    assert unknown_flags("python train_net.py --resume --evaluate-only A 1") == ["--evaluate-only"]
    assert unknown_keys("`SOLVER.BASE_LR 0.1`, `SOLVER.BASELR`, `MODEL.RPN`") == ["SOLVER.BASELR"]


def test_pages_name_what_is_checked():
    text = "\n".join(page.read_text() for page in PAGES)
    assert len(re.findall(r"train_net\.py -", text)) > 5 and len(TABLE_ROW.findall(text)) > 15


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        ("configs/COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", 41.8),
        ("configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", 44.4),
    ],
)
def test_sizes_of_the_table(config, millions):
    assert dict(TABLE_ROW.findall((ROOT / "README.md").read_text()))[config] == str(millions)
    assert round(values_in_state_dict(config), 1) == millions


@pytest.mark.slow
def test_every_size_of_the_table():
    for config, millions in TABLE_ROW.findall((ROOT / "README.md").read_text()):
        assert f"{values_in_state_dict(config):.1f}" == millions, config
