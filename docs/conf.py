"""Sphinx configuration; nothing is fetched while pages are built, or read."""

import os
from importlib.metadata import version as version_of

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

# Examples on two cores: threads of their own would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "fairskorch"
author = "The fairskorch developers"
copyright = author
release = version_of("fairskorch")
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_build",
    "user_guide/constrained_tables.rst",
    "user_guide/defaults_tables.rst",
    "user_guide/generalisation_tables.rst",
    "user_guide/last_layer_tables.rst",
    "user_guide/speed_tables.rst",
    "auto_examples/**.ipynb",
]
default_role = "py:obj"

# A full name of this package that leads nowhere is a mistake. Names of parameters have
# no page, and those of other packages are not fetched.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!fairskorch\b).*")]

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"demo\.py$",
    "download_all_examples": False,
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "min_reported_time": 0,
    "plot_gallery": True,
    "show_memory": False,
    "write_computation_times": False,
    "abort_on_example_error": True,
}

# MathML, which browsers draw by themselves, even without a network.
html_math_renderer = "mathml"

html_theme = "pydata_sphinx_theme"
html_title = f"fairskorch {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "navigation_with_keys": False,
}
# Pages without others below them have nothing to navigate.
ALONE = ("contributing", "install", "references", "whats_new")
html_sidebars = {name: [] for name in ALONE}


def write_math(translator, node):
    """Write a formula, or fail on what the converter does not know."""
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=block)
    before, after = ('<div class="formula">', "</div>") if block else ("", "")
    translator.body.append(f"{before}{formula}{after}")
    raise nodes.SkipNode


def setup(app):
    """Register the writer of formulas."""
    pair = (write_math, None)
    app.add_html_math_renderer("mathml", inline_renderers=pair, block_renderers=pair)
