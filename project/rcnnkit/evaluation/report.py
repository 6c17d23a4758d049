"""The page of a run: numbers, curves and annotated pictures in one `index.html` with relative links only."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from rcnnkit.evaluation.tables import Rows

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667; --line: #d9dce3; --paper: #fff; --card: #f5f6f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaf0; --soft: #9aa3b5; --line: #39404e; --paper: #14171e; --card: #1d222c; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 1180px; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; }
.lead { color: var(--soft); margin: .2rem 0 1.6rem; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; }
.numbers div { background: var(--card); border-radius: 10px; padding: .8rem 1rem; }
.numbers b { display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums; }
.numbers span { color: var(--soft); font-size: .85rem; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: start; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 500; }
img { max-width: 100%; height: auto; border-radius: 8px; background: #fff; display: block; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(520px, 100%), 1fr)); gap: 1.2rem; }
figure { margin: 0; background: var(--card); border-radius: 10px; padding: .6rem; }
figcaption { color: var(--soft); font-size: .85rem; padding: .4rem .2rem 0; }
code { font-size: .88em; background: var(--card); padding: .1rem .35rem; border-radius: 4px; overflow-wrap: anywhere; }
a { color: inherit; }
"""


@dataclass(frozen=True)
class Report:
    """What the page shows. Paths of pictures and files are relative to the page.

    Attributes:
        title: heading.
        lead: a sentence under it.
        numbers: (value, what it is), shown large.
        tables: (header, rows).
        curves: picture of the curves; None where there are none.
        pictures: (path, caption).
        legend: a sentence that explains the pictures.
        files: (path, what it is).
    """

    title: str
    lead: str
    numbers: Sequence[tuple[str, str]] = ()
    tables: Sequence[tuple[list[str], Rows]] = ()
    curves: str | None = None
    pictures: Sequence[tuple[str, str]] = ()
    legend: str = ""
    files: Sequence[tuple[str, str]] = field(default_factory=tuple)


def page(report: Report) -> str:
    """The report as a whole HTML document; every text is escaped."""
    text = html.escape
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(report.title)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{text(report.title)}</h1><p class="lead">{text(report.lead)}</p>',
    ]
    if report.numbers:
        cells = "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for value, name in report.numbers)
        parts.append(f'<div class="numbers">{cells}</div>')
    if report.tables:
        tables = "".join(f'<div class="scroll">{_table(header, rows)}</div>' for header, rows in report.tables)
        parts.append(f'<h2>Average precision, percent</h2><div class="tables">{tables}</div>')
    if report.curves:
        parts.append(f'<h2>Training</h2><img src="{text(report.curves)}" alt="losses and validation AP by iteration">')
    if report.pictures:
        figures = "".join(
            f'<figure><a href="{text(path)}"><img src="{text(path)}" alt="{text(caption)}" loading="lazy"></a>'
            f"<figcaption>{text(caption)}</figcaption></figure>"
            for path, caption in report.pictures
        )
        parts.append(f'<h2>Pictures</h2><p class="lead">{text(report.legend)}</p><div class="gallery">{figures}</div>')
    if report.files:
        items = "".join(
            f'<li><a href="{text(path)}"><code>{text(path)}</code></a> {text(name)}</li>' for path, name in report.files
        )
        parts.append(f"<h2>Files</h2><ul>{items}</ul>")
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _table(header: list[str], rows: Rows) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
