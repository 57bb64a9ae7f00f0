"""The report as a page, and as a section of a model card."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from fairskorch.audit import _page, fairness_report


def make(seed, n=500):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    groups = pd.DataFrame(
        {
            "sex": np.where(rng.random(n) < 0.4, "f", "m"),
            "age": np.where(rng.random(n) < 0.4, "old", "young"),
        }
    )
    score = X[:, 0] + (groups["sex"] == "m") + rng.normal(size=n)
    return X, (score > 0.5).astype(int), groups


@pytest.fixture(scope="module")
def report():
    train, test, validation = (make(seed) for seed in range(3))
    return fairness_report(
        DecisionTreeClassifier(random_state=0).fit(*train[:2]),
        train=train,
        test=test,
        splits={"validation": validation},
        baseline=LogisticRegression().fit(*train[:2]),
        metrics=["accuracy", "equalized_odds_difference", "roc_auc"],
        random_state=0,
    )


class Tags(HTMLParser):
    """Collect tags, and check that they close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    return tags.seen


def test_the_page_needs_nothing_else(report, tmp_path):
    path = report.to_html(tmp_path / "report.html")
    assert path == tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    seen = parsed(text)
    assert "script" not in {tag for tag, _ in seen}
    assert not [a for _, a in seen if {"src", "href", "xlink:href"} & set(a)]
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert os.listdir(tmp_path) == ["report.html"]


def test_the_page_tells_what_the_report_tells(report, tmp_path):
    text = report.to_html(tmp_path / "a.html").read_text(encoding="utf-8")
    plain = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    assert "Measured: DecisionTreeClassifier(" in plain
    assert "). Baseline: LogisticRegression()." in plain
    for sentence in report.warnings:
        assert sentence.replace("'", "&#x27;") in plain
    value, low, high = report.table.loc[("accuracy", "all rows"), "test"]
    assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in plain
    labels = re.findall(r'aria-label="([^"]*)"', text)
    value, low, high = report.by_group.loc[("test", "f", "old"), "roc_auc"]
    assert any(
        s.startswith("roc_auc, f x old (")
        and f"test {value:.3f}, {low:.3f} to {high:.3f}" in s
        for s in labels
    )
    assert "Every group against the baseline" in plain


def test_the_page_is_written_whole_or_not_at_all(report, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    with pytest.raises(FileNotFoundError, match="must be in a folder that exists"):
        report.to_html(tmp_path / "no" / "report.html")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(_page.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.to_html(path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["report.html"]
    monkeypatch.undo()
    report.to_html(str(path))
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_labels_cannot_break_out(tmp_path):
    (X, y, _), test = make(0), make(1)
    bad = np.where(np.arange(500) % 2, '"><script>', "a|b")
    report = fairness_report(
        LogisticRegression().fit(X, y),
        train=(X, y, pd.Series(bad, name="<b>")),
        test=(*test[:2], bad),
    )
    for text in (report.to_html(tmp_path / "a.html").read_text(), report._repr_html_()):
        assert "<script" not in text
        parsed(text)
    assert "a\\|b" in report.to_card()


@pytest.mark.parametrize(
    "labels", [(False, "m"), (("f", 1), ("m", 2)), ("f\ng", "f\n| m")]
)
def test_labels_that_are_no_words(labels, tmp_path):
    (X, y, groups), test = make(0), make(1)
    given = np.empty(len(y), dtype=object)
    given[:] = [labels[int(sex == "m")] for sex in groups["sex"]]
    model = LogisticRegression().fit(X, y)
    other = LogisticRegression(C=1e-3).fit(X, y)
    report = fairness_report(
        model, train=(X, y, given), test=(*test[:2], given), baseline=other, n_boot=50
    )
    text = report.to_html(tmp_path / "a.html").read_text()
    parsed(text)
    limits = report.changes["accuracy"].iloc[0].tolist()
    assert "{:.3f}, {:.3f} to {:.3f}".format(*limits) in text
    tables = [line for line in report.to_card().splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_many_groups_are_shown_by_their_extremes(tmp_path):
    (X, y, _), test = make(0, 3000), make(1, 3000)
    groups = np.arange(3000) % 100
    model = LogisticRegression().fit(X, y)
    report = fairness_report(
        model,
        train=(X, y, groups),
        test=(*test[:2], groups),
        baseline=LogisticRegression(C=1e-4).fit(X, y),
        n_boot=50,
    )
    text = report.to_html(tmp_path / "a.html").read_text()
    assert "20 groups of lowest and highest accuracy" in text
    worst = report.by_group.loc["test"]["accuracy", "value"].idxmin()
    assert f"{worst} (30)" in text
    assert len(text) < 300_000
    assert "61 more" in report.to_card()


def test_what_is_not_estimable_is_said(tmp_path):
    train, (X, y, groups) = make(0), make(1)
    groups = groups["sex"].to_numpy().copy()
    y, groups[:4] = np.where(np.arange(500) < 4, 1, y), "x"
    report = fairness_report(
        LogisticRegression().fit(*train[:2]),
        train=(*train[:2], train[2]["sex"]),
        test=(X, y, groups),
        metrics=["equalized_odds_difference", "roc_auc_difference"],
        random_state=0,
    )
    text = report.to_html(tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.count("not estimable</td>") == 4
    assert "largest difference between groups in roc_auc" in text
    assert "no row of class 0 in group" in text
    assert report.to_card().count("not estimable") >= 6


def test_nothing_to_warn_of_is_said(tmp_path):
    train, test = make(0), make(1)
    report = fairness_report(
        LogisticRegression().fit(*train[:2]),
        train=(*train[:2], train[2]["sex"]),
        test=(*test[:2], test[2]["sex"]),
    )
    assert "Nothing was found that needs a warning" in report.to_html(
        tmp_path / "a.html"
    ).read_text(encoding="utf-8")


def test_the_card(report):
    text = report.to_card()
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    assert headings == [
        "Fairness: training against held-out rows",
        "What was measured",
        "On whom",
        "With which uncertainty",
        "What was found",
        "What was not measured",
    ]
    sizes = report._m.fits["test", "sex x age"][0].counts.statistic[..., 0].sum(-1)
    train = report.by_group.loc["train"]["count", "value"]["f", "old"]
    validation = report.by_group.loc["validation"]["count", "value"]["f", "old"]
    assert f"| f x old | {train} | {int(sizes[0])} | {validation} |" in text
    assert "Intervals are of new rows for this one fit, not of other fits." in text
    assert "Any attribute but sex, age." in text
    for sentence in report.warnings:
        assert f"- {sentence}" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_the_card_says_what_is_known(report):
    train, test = make(0), make(1)
    model = LogisticRegression().fit(*train[:2])
    rows = {
        "train": (*train[:2], train[2]["sex"]),
        "test": (*test[:2], test[2]["sex"]),
    }
    subjects = {"test": np.arange(500) // 2}
    text = fairness_report([model, model], **rows, subjects=subjects).to_card()
    assert "Measured: LogisticRegression (2 fits)." in text
    assert "Rows of one subject count as dependent on test." in text
    assert "Values are means of 2 fits" in text
    assert "How good the probabilities are" in text
    assert "Whether several rows are of one subject." not in text


MEASURE = """<script>
addEventListener("load", () => {
  const box = e => e.getBoundingClientRect();
  const all = s => [...document.querySelectorAll(s)];
  const marks = all("svg circle, svg path").map(box);
  document.title = JSON.stringify({
    drawn: marks.filter(b => b.width > 0 || b.height > 0).length,
    marks: marks.length,
    wide: document.documentElement.scrollWidth > innerWidth,
    cut: all(".scroll").some(e => e.scrollWidth > e.clientWidth),
    tables: all("table").filter(e => box(e).height > 20).length,
  });
});
</script></body>"""


@pytest.mark.browser
def test_the_page_in_a_browser(report, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "marker browser needs Chromium"
    path = report.to_html(tmp_path / "report.html")
    picture = tmp_path / "report.png"
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1160,1500"),
    ]
    done = subprocess.run(
        [*command, f"--screenshot={picture}", path.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
        text=True,
    )
    assert "Refused to" not in done.stderr
    with Image.open(picture) as image:
        assert image.size == (1160, 1500)
        grey = np.asarray(image.convert("L"))
    # Ink in every part of the page, on a white ground, dark enough in grey.
    assert np.median(grey) == 255
    for part in np.array_split(grey, 5):
        assert (part < 110).mean() > 0.002
    # The page itself lets no script run; a copy that does measures what is drawn.
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", MEASURE)
    measured = tmp_path / "measured.html"
    measured.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [*command, "--dump-dom", measured.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
        text=True,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)[1]
    found = json.loads(title)
    assert found["drawn"] == found["marks"] > 300
    assert not found["wide"]
    assert not found["cut"]
    assert found["tables"] > 8
