"""Strips: values with their limits on a common axis, as inline figures of a page.

Shape and filling tell splits apart, so that they do in grey too.
"""

from html import escape

import numpy as np

MARGIN, LINE = 17, 11
INK, PALE, GRID = "#16324f", "#6b6b6b", "#d4d4d4"


def strip(marks, keys, domain=(0, 1), title="", width=220):
    """Draw one line for each split: a mark, and the interval across it.

    Parameters
    ----------
    marks : list of (value, low, high)
        ``nan`` draws nothing.
    keys : list of str
        Names of the splits.
    domain : tuple of float
    title : str
        Read out by a screen reader.
    width : int
        In pixels.

    Returns
    -------
    svg : str
    """
    height = LINE * len(marks) + 8
    parts = [_grid(domain, width, height)]
    said = []
    for i, (key, (value, low, high)) in enumerate(zip(keys, marks, strict=True)):
        if np.isnan(value):
            continue
        y = 4 + LINE * (i + 0.5)
        left, x, right = (_place(v, domain, width) for v in (low, value, high))
        color = PALE if key == "train" else INK
        parts.append(
            f'<path d="M{left:.1f} {y:.1f}H{right:.1f}M{left:.1f} {y - 3:.1f}v6'
            f'M{right:.1f} {y - 3:.1f}v6" stroke="{color}" stroke-width="1.5" '
            'fill="none"/>' + _mark(i, key, x, y)
        )
        said.append(f"{key} {value:.3f}, {low:.3f} to {high:.3f}")
    label = escape(f"{title}: {'; '.join(said) or 'not estimable'}", quote=True)
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def axis(domain=(0, 1), width=220):
    """Draw the numbers of the axis."""
    parts = []
    for tick in _ticks(domain):
        sign = "+" if domain[0] < 0 and tick > 0 else ""
        text = f"{sign}{tick:g}".replace("-", "\u2212")
        parts.append(
            f'<text x="{_place(tick, domain, width):.1f}" y="11" text-anchor="middle">'
            f"{text}</text>"
        )
    return (
        f'<svg width="{width}" height="14" viewBox="0 0 {width} 14" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def legend(keys):
    """Draw the mark of each split beside its name."""
    parts, x = [], 8
    for i, key in enumerate(keys):
        parts.append(_mark(i, key, x, 9))
        parts.append(f'<text x="{x + 9}" y="13">{escape(key)}</text>')
        x += 28 + 7 * len(key)
    return (
        f'<svg width="{x}" height="18" viewBox="0 0 {x} 18" role="img" '
        f'aria-label="{escape("marks: " + ", ".join(keys), quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def _place(value, domain, width):
    low, high = domain
    share = (min(max(value, low), high) - low) / (high - low)
    return MARGIN + share * (width - 2 * MARGIN)


def _ticks(domain):
    # Signed numbers are longer: more than three of them would run together.
    n_ticks = 3 if domain[0] < 0 else 5
    return np.round(np.linspace(*domain, n_ticks), 3).tolist()


def _grid(domain, width, height):
    lines = "".join(
        f"M{_place(t, domain, width):.1f} 0v{height}" for t in _ticks(domain)
    )
    found = f'<path d="{lines}" stroke="{GRID}" stroke-width="1"/>'
    if domain[0] < 0 < domain[1]:
        found += (
            f'<path d="M{_place(0, domain, width):.1f} 0v{height}" stroke="#555" '
            'stroke-width="1.3"/>'
        )
    return found


def _mark(i, key, x, y):
    if key == "train":
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" fill="#fff" stroke="{PALE}" '
            'stroke-width="1.6"/>'
        )
    if key == "test":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{INK}"/>'
    shapes = (
        "m0-4.4 4.4 4.4-4.4 4.4-4.4-4.4z",
        "m-3.5-3.5h7v7h-7z",
        "m0-4.2 4.2 7.6h-8.4z",
        "m0 4.2 4.2-7.6h-8.4z",
    )
    shape = shapes[(i - 2) % len(shapes)]
    return f'<path d="M{x:.1f} {y:.1f}{shape}" fill="{INK}"/>'
