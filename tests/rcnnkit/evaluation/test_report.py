"""Metrics files, tables and the page."""

import json
from html.parser import HTMLParser

import cv2
import numpy as np

from rcnnkit.evaluation.curves import draw_curves, read_metrics, series
from rcnnkit.evaluation.report import Report, page
from rcnnkit.evaluation.tables import as_text, class_rows, summary_rows

RESULTS = {
    "bbox": {"AP": 71.26, "AP50": 90.0, "AP75": 80.0, "APs": 60.0, "APm": 75.0, "APl": float("nan"), "AP-disc": 88.84},
    "segm": {"AP": 68.0, "AP-disc": 90.0},
}


def test_metrics_of_a_killed_and_resumed_run(tmp_path):
    path = tmp_path / "metrics.json"
    lines = [
        {"iteration": 19, "total_loss": 2.0},
        {"iteration": 39, "total_loss": 1.5},
        {"iteration": 39, "total_loss": 1.25},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"iteration": 59, "total_lo')
    records = read_metrics(path)
    assert series(records, "total_loss") == ([20, 40], [2.0, 1.25])
    assert series(records, "bbox/AP") == ([], [])
    assert read_metrics(tmp_path / "none.json") == []


def test_numbers_that_are_not_finite_are_left_out(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 0, "bbox/AP": NaN}\n{"iteration": 9, "bbox/AP": 12.5}\n')
    assert series(read_metrics(path), "bbox/AP") == ([10], [12.5])


def test_curves_are_a_picture():
    records = [{"iteration": i, "total_loss": 2.0 / (i + 1), "lr": 0.1, "bbox/AP": 5.0 * i} for i in range(4)]
    for given in (records, records[:1], [{"iteration": 0}]):
        assert cv2.imdecode(np.frombuffer(draw_curves(given), np.uint8), cv2.IMREAD_COLOR).shape[1] > 1000


def test_tables():
    header, rows = summary_rows(RESULTS)
    assert header == ["", "AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert rows[0] == ["boxes", "71.3", "90.0", "80.0", "60.0", "75.0", "–"]
    assert rows[1] == ["masks", "68.0", "–", "–", "–", "–", "–"]
    header, rows = class_rows(RESULTS, ["disc", "star"])
    assert header == ["class", "AP, boxes", "AP, masks"] and rows == [["disc", "88.8", "90.0"], ["star", "–", "–"]]
    assert as_text(header, rows).splitlines()[2].split() == ["disc", "88.8", "90.0"]


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.open = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_escaped_and_has_relative_links_only():
    report = Report(
        title="a <b> & c",
        lead="lead",
        numbers=[("71.3", "AP, boxes")],
        tables=[summary_rows(RESULTS)],
        curves="curves.png",
        pictures=[("pictures/1.png", 'one "two"')],
        legend="legend",
        files=[("training/log.txt", "log")],
    )
    document = page(report)
    parser = _Links()
    parser.feed(document)
    assert not parser.open
    assert parser.links == ["curves.png", "pictures/1.png", "pictures/1.png", "training/log.txt"]
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in document and "http" not in document


def test_page_without_anything_but_a_title():
    parser = _Links()
    parser.feed(page(Report(title="t", lead="")))
    assert not parser.open and not parser.links
