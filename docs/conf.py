"""How the documentation is built: ``make docs``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import generate

from volta3d import __version__

project = "volta3d"
author = "The volta3d developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "deflist"]  # no formulas: MathJax is fetched
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {
    "members": True,
    "undoc-members": False,
    # scikit-learn gives its estimators these, with references into its own manual
    "exclude-members": "set_score_request,set_fit_request,set_predict_request,"
    "set_transform_request",
}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
suppress_warnings = ["ref.python"]  # short names in annotations may stand for several things

html_theme = "furo"
html_title = f"volta3d {__version__}"
# nothing is fetched by a reader's browser, see tests/browser/test_docs_pages.py
html_static_path = ["_static"]
html_css_files = ["volta3d.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}


def _upright(*given: Any) -> None:
    """Docstrings write |A| and ``size``³, which reStructuredText would take for markup."""
    lines: list[str] = given[-1]  # after application, kind, name, object and options
    for number, line in enumerate(lines):
        bare = re.sub(r"(``[^`]*``)|\|", lambda m: m[1] or r"\|", line)
        lines[number] = re.sub(r"(``[^`]+``)(?=\w)", r"\1\\ ", bare)


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _upright, priority=900)


generate.write(Path(__file__).parent / "reference" / "generated")
