import logging
from collections import OrderedDict

import pytest

from detectron2.config import get_cfg
from detectron2.evaluation import print_csv_format, verify_results
from detectron2.evaluation.testing import flatten_results_dict

RESULTS = OrderedDict(bbox={"AP": 40.12562, "AP50": float("nan"), "AP-cat": 3.0}, speed=3.5)


@pytest.fixture
def lines(caplog):
    logger = logging.getLogger("detectron2.evaluation.testing")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    yield lambda: [record.getMessage() for record in caplog.records]
    logger.removeHandler(caplog.handler)


def test_csv_lines(lines):
    print_csv_format(RESULTS)
    shown = list(dict.fromkeys(lines()))
    assert shown == [
        "copypaste: Task: bbox",
        "copypaste: AP,AP50",
        "copypaste: 40.1256,nan",
        "copypaste: speed=3.5",
    ]


@pytest.mark.parametrize(
    ("rows", "holds"),
    [
        ([], True),
        ([["bbox", "AP", 40.0, 0.5]], True),
        ([["bbox", "AP", 39.0, 0.5]], False),
        ([["bbox", "AP50", 40.0, 100.0]], False),  # NaN is no result
        ([["bbox", "AP99", 40.0, 100.0]], False),
    ],
)
def test_verify_results(rows, holds):
    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = rows
    if holds:
        assert verify_results(cfg, RESULTS) is True
    else:
        with pytest.raises(SystemExit) as exit_info:
            verify_results(cfg, RESULTS)
        assert exit_info.value.code == 1


def test_flatten():
    assert flatten_results_dict({"a": {"b": 1.0, "c": {"d": 2.0}}, "e": 3.0}) == {"a/b": 1.0, "a/c/d": 2.0, "e": 3.0}
