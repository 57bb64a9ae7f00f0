"""A report as one page that needs nothing else."""

import contextlib
import os
import tempfile
from html import escape
from pathlib import Path

import numpy as np

from fairskorch.audit import _text
from fairskorch.audit._findings import shown
from fairskorch.audit._splits import DIFFERENCE, VERSUS
from fairskorch.audit._strips import axis, legend, strip
from fairskorch.audit._tables import ALL_ROWS

#: Groups that a figure shows.
SHOWN_GROUPS = 20

STYLE = """
.fairness-report { color: #1a1a1a; background: #fff; padding: .2em .5em;
  font: 15px/1.5 system-ui, sans-serif; }
.fairness-report table { border-collapse: collapse; width: 100%; margin: .4em 0 .8em; }
.fairness-report th, .fairness-report td { padding: .25em .9em .25em 0;
  text-align: left; border-bottom: 1px solid #ddd; vertical-align: middle;
  white-space: nowrap; }
.fairness-report thead th { border-bottom: 2px solid #555; font-weight: 600;
  vertical-align: bottom; }
.fairness-report tbody th { font-weight: 500; }
.fairness-report td { font-variant-numeric: tabular-nums; }
.fairness-report td small { display: block; font-size: .84em; color: #4a4a4a; }
.fairness-report td.clear { font-weight: 700; }
.fairness-report td.clear small { color: #1a1a1a; }
.fairness-report td.none { color: #595959; font-style: italic; }
.fairness-report .by { color: #595959; font-weight: 400; }
.fairness-report svg { display: block; }
.fairness-report svg text { font: 11px system-ui, sans-serif; fill: #404040; }
.fairness-report .scroll { overflow-x: auto; }
.fairness-report p.note { color: #454545; max-width: 75ch; margin: .4em 0; }
.fairness-report ul.findings { list-style: none; margin: .6em 0; padding: 0; }
.fairness-report ul.findings li { border-left: 4px solid #1a1a1a; background: #f2f2f2;
  padding: .45em .8em; margin: .4em 0; max-width: 95ch; }
.fairness-report .kind { font-weight: 600; display: block; }
.fairness-report li span { display: block; }
"""

PAGE_STYLE = """
body { margin: 0; background: #fff; }
main.fairness-report { max-width: 1120px; margin: 0 auto; padding: 1.6em 1.4em 3em; }
h1 { font-size: 1.5em; line-height: 1.25; margin: 0 0 .3em; }
h2 { font-size: 1.12em; margin: 2em 0 .3em; }
.panels { display: flex; flex-wrap: wrap; gap: .6em 1.8em; }
.panels figure { margin: 0; }
figcaption { font-weight: 600; margin: .5em 0 .1em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1.2em; }
dt { font-weight: 500; } dd { margin: 0; color: #333; }
@media (max-width: 700px) { dl { grid-template-columns: 1fr; } }
@media print { .fairness-report ul.findings li { border: 1px solid #888; } }
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<title>Fairness report</title>
<style>{style}</style>
</head>
<body><main class="fairness-report">
<h1>Fairness report: training against held-out rows</h1>
<p class="note">{who}</p>
<p class="note">{caption}</p>
{body}
</main></body>
</html>
"""


BOLD = '<p class="note">Bold: a difference whose interval leaves 0 out.</p>'


def fragment(report):
    """Return the table with its strips, the caption and the warnings, as HTML."""
    return (
        f'<div class="fairness-report"><style>{STYLE}</style>{_table(report)}'
        f'<p class="note">{escape(_text.caption(report))}</p>{BOLD}'
        f"{_findings(report)}</div>"
    )


def page(report):
    """Return the whole page."""
    parts = []
    if report.warnings:
        parts += [_heading("What a reader must know"), _findings(report)]
    else:
        parts.append('<p class="note">Nothing was found that needs a warning.</p>')
    parts += [_heading("Every metric on every split"), _table(report)]
    parts.append(BOLD)
    parts += [_heading("Every group"), _groups(report)]
    if report.changes is not None:
        parts += [_heading("Every group against the baseline, on test rows")]
        parts += [_changes(report)]
    parts += [_heading("What the metrics are"), _meanings(report)]
    parts += [_heading("How sure the numbers are"), _list(_text.uncertainty(report))]
    parts += [_heading("What was not measured"), _list(_text.not_measured(report))]
    return PAGE.format(
        style=STYLE + PAGE_STYLE,
        who=escape(_text.who(report)),
        caption=escape(_text.caption(report)),
        body="\n".join(parts),
    )


def write(report, path):
    """Write the page where nothing or a whole page is; see `FairnessReport.to_html`."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path of FairnessReport.to_html must be in a folder that exists; there is "
            f"no {str(path.parent)!r}."
        )
    text = page(report)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    return path


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _heading(text):
    return f"<h2>{escape(text)}</h2>"


def _list(sentences):
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="note">{items}</ul>'


def _findings(report):
    kinds = {}
    for found in report.warnings:
        kinds.setdefault(found.kind, []).append(f"<span>{escape(found)}</span>")
    items = "".join(
        f'<li><span class="kind">{escape(kind.capitalize())}</span>{"".join(said)}</li>'
        for kind, said in kinds.items()
    )
    return f'<ul class="findings">{items}</ul>' if items else ""


def _meanings(report):
    items = "".join(
        f"<dt>{escape(_words(name))}</dt><dd>{escape(_text.meaning(name))}</dd>"
        for name in report._m.metrics
    )
    return f"<dl>{items}</dl>"


def _words(name):
    return str(name).replace("_", " ").replace("roc auc", "ROC AUC")


def _label(label):
    """Write a metric, and the way of grouping below it."""
    if isinstance(label, tuple):
        name, by = label
        below = "" if by == ALL_ROWS else f'<br><span class="by">by {escape(by)}</span>'
        return f"{escape(_words(name))}{below}"
    return escape(_words(label))


def _table(report):
    table, keys = report.table, report._m.keys
    columns = table.columns.unique(0)
    head = "".join(f"<th>{escape(_title(c))}</th>" for c in columns)
    rows = []
    for place, label in enumerate(table.index):
        marks = [table[key].iloc[place].tolist() for key in keys]
        cells = "".join(_cell(table[c].iloc[place].tolist(), c) for c in columns)
        rows.append(
            f'<tr><th scope="row">{_label(label)}</th>'
            f"<td>{strip(marks, keys, title=str(label))}</td>{cells}</tr>"
        )
    return (
        f'<div class="scroll"><table><thead><tr><th>metric</th>'
        f"<th>{legend(keys)}{axis()}</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(numbers, column):
    """Write a value above its limits, bold where a difference is clear of 0."""
    value, low, high = numbers
    sign = "+" if column in (DIFFERENCE, VERSUS) else ""
    text = _text.number(value, low, high, sign)
    if np.isnan(value):
        return f'<td class="none">{text}</td>'
    first, rest = text.split(" ", 1)
    clear = ' class="clear"' if sign and (low > 0 or high < 0) else ""
    return f"<td{clear}>{first} <small>{rest}</small></td>"


def _title(column):
    if column == DIFFERENCE:
        return "test \u2212 train"
    if column == VERSUS:
        return "test \u2212 baseline"
    return column


def _groups(report):
    """Draw each rate of each group on each split."""
    table, keys = report.by_group, report._m.keys
    groups = list(dict.fromkeys(label[1:] for label in table.index))
    note = (
        f"Rows are groups, the number of their test rows in brackets; "
        f"{report.confidence_level:.0%} intervals."
    )
    if len(groups) > SHOWN_GROUPS:
        groups = _extremes(table, groups)
        note += f" Shown are the {len(groups)} groups of lowest and highest accuracy."
    figures = []
    for rate in table.columns.unique(0)[1:]:
        rows = []
        for group in groups:
            marks = [_marks(table, (key, *group), rate) for key in keys]
            count = _marks(table, ("test", *group), "count")[0]
            n_rows = 0 if np.isnan(count) else int(count)
            rows.append((f"{shown(group)} ({n_rows})", marks))
        figures.append(_figure(rate, rows, keys, (0, 1)))
    return (
        f'{legend(keys)}<p class="note">{escape(note)}</p>'
        f'<div class="panels">{"".join(figures)}</div>'
    )


def _changes(report):
    """Draw the changes of each rate of each group against the baseline."""
    table = report.changes
    rates = list(table.columns.unique(0)[1:])
    limits = table[rates].drop(columns="value", level=1).abs().to_numpy()
    reach = max(0.05, float(np.nanmax(limits, initial=0)))
    reach = min(1.0, np.ceil(reach * 20) / 20)
    labels, places = list(table.index), range(len(table))
    if len(labels) > SHOWN_GROUPS:
        order = table["accuracy", "value"].argsort().to_numpy()
        half = SHOWN_GROUPS // 2
        places = (*order[:half], *order[-half:])
    figures = []
    for rate in rates:
        # By place: a label may be a tuple or a bool, which select in another way.
        limits = table[rate].to_numpy().tolist()
        rows = [(shown(labels[i]), [limits[i]]) for i in places]
        figures.append(_figure(rate, rows, ["test"], (-reach, reach)))
    note = "This classifier minus the baseline; left of the line it is the smaller."
    return f'<p class="note">{note}</p><div class="panels">{"".join(figures)}</div>'


def _figure(rate, rows, keys, domain):
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        f"<td>{strip(marks, keys, domain, f'{rate}, {label}', 190)}</td></tr>"
        for label, marks in rows
    )
    return (
        f"<figure><figcaption>{escape(_words(rate))}</figcaption><table><tbody>{body}"
        f"<tr><th></th><td>{axis(domain, 190)}</td></tr></tbody></table></figure>"
    )


def _marks(table, label, column):
    if label not in table.index:
        return [np.nan] * 3
    return table.loc[label, column].tolist()


def _extremes(table, groups):
    """Return the groups whose accuracy on test rows is lowest and highest."""
    found = {g: _marks(table, ("test", *g), "accuracy")[0] for g in groups}
    known = sorted((g for g in groups if found[g] == found[g]), key=found.get)
    half = SHOWN_GROUPS // 2
    return known if len(known) <= SHOWN_GROUPS else known[:half] + known[-half:]
