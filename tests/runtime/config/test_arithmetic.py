"""Arithmetic in the place of `eval`: the numbers Python gives, and nothing that runs."""

import pytest

from detectron2.config import get_cfg
from detectron2.config.arithmetic import evaluate_arithmetic

OCTAVES = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"


def config_with(tmp_path, yaml_text: str):
    path = tmp_path / "sizes.yaml"
    path.write_text(f"MODEL:\n  ANCHOR_GENERATOR:\n    SIZES: {yaml_text}\n")
    cfg = get_cfg()
    cfg.merge_from_file(str(path), allow_unsafe=True)
    return cfg


def test_anchor_sizes_as_retinanet_configs_write_them(tmp_path):
    cfg = config_with(tmp_path, f'!!python/object/apply:eval ["{OCTAVES}"]')
    wanted = [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in (32, 64, 128, 256, 512)]
    assert wanted == cfg.MODEL.ANCHOR_GENERATOR.SIZES


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-3 + 2 * (4 - 1) / 2", 0.0),
        ("2 ** 10", 1024),  # int stays int
        ("[(1, +2), []]", [[1, 2], []]),
        ("[[x + y for y in [10, 20]] for x in [1, 2]]", [[11, 21], [12, 22]]),
    ],
)
def test_values(text, value):
    found = evaluate_arithmetic(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "open({canary!r}, 'w')",
        "__import__('os').mkdir({canary!r})",
        "[x for x in [__import__('os').mkdir({canary!r})]]",
        "(lambda: __import__('os').mkdir({canary!r}))()",
        "[c for c in ().__class__.__base__.__subclasses__()]",
        "[y := __import__('os').mkdir({canary!r})]",
        "f\"{{__import__('os').mkdir({canary!r})}}\"",
    ],
)
def test_nothing_runs(tmp_path, text):
    canary = tmp_path / "ran"
    text = text.format(canary=str(canary))
    with pytest.raises(ValueError, match="cannot evaluate"):
        evaluate_arithmetic(text)
    with pytest.raises(ValueError, match=r"sizes\.yaml.*cannot evaluate"):
        config_with(tmp_path, "!!python/object/apply:eval ['" + text.replace("'", "''") + "']")
    assert not canary.exists()


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9", "2 ** 65", "10 ** 60", "1e400", "1 / 0", "(-8) ** 0.5", "[1] * 3", "[1] + [2]", "'a'", "True",
        "x", "[x for x in 3]", "[x for x in [1] if x]", "[x for x in [1] for y in [2]]", "[x for x, y in [[1, 2]]]",
        "1; 2", "", "(" * 300, "-" * 1000 + "1", "1 +" * 400, "1 % 2", "2 << 9",
        "[[[[[0 for a in L] for b in L] for c in L] for d in L] for e in L]".replace("L", str([0] * 20)),
    ],
)  # fmt: skip
def test_refused(text):
    with pytest.raises(ValueError, match="cannot evaluate"):
        evaluate_arithmetic(text)


@pytest.mark.parametrize("arguments", ["1 + 1", "['1', '2']", "[[1]]", "{a: 1}"])
def test_eval_takes_one_text(tmp_path, arguments):
    with pytest.raises(ValueError, match=r"sizes\.yaml.*one text"):
        config_with(tmp_path, f"!!python/object/apply:eval {arguments}")
