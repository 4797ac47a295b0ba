"""Sphinx configuration: ``sphinx-build -W docs docs/_build/html``."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from inventories import mapping
from sphinx_gallery.sorting import ExplicitOrder

from skgen import __version__

# Plots are drawn without a screen.
os.environ.setdefault("MPLBACKEND", "Agg")

project = "skgen"
author = "the skgen developers"
copyright = "2026, the skgen developers"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas without a server of somebody else's
    "sphinx_gallery.gen_gallery",
]

root_doc = "index"
templates_path = ["_templates"]
exclude_patterns = ["_build", "examples/*", "examples/*/*"]
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
default_role = "py:obj"

# Every name must resolve, including names of scikit-learn and SciPy.
intersphinx_mapping = mapping(Path(__file__).parent / "_build" / "inventories")
intersphinx_timeout = 5
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(\w+)"),  # parameters in single backquotes
]

# Pages of real tables need them; without, the rest of the gallery is built.
with_data = bool(os.environ.get("SKGEN_DATA"))

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"__init__\.py"
    if with_data
    else r"plot_(fremont_bridge|earthquakes)\.py",
    "subsection_order": ExplicitOrder(
        [
            f"examples/{section}"
            for section in ("density", "autoencoders", "parts", "composition")
        ]
        + ["*"]
    ),
    "abort_on_example_error": True,
    "doc_module": ("skgen",),
    "reference_url": {"skgen": None},
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1_000_000,
}

html_theme = "pydata_sphinx_theme"
html_title = "skgen"
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {
    page: []
    for page in (
        "add_covariance",
        "add_model",
        "benchmarks",
        "changelog",
        "development",
        "development_log",
        "index",
    )
}
