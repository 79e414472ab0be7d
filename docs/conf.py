"""The documentation site: ``sphinx-build -W -b html docs out/site``. It needs no network."""

import mfavbs

project = "mfavbs"
author = "the mfavbs authors"
copyright = author
release = version = mfavbs.__version__

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

default_role = "code"  # single backticks, as the docstrings have them
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
_METADATA = ("fit", "predict", "predict_proba", "transform")  # scikit-learn's routing of arguments
autodoc_default_options = {
    "members": True,
    "exclude-members": ", ".join(f"set_{name}_request" for name in _METADATA),
}
numpydoc_show_class_members = False
# A reference to one of our own names must lead somewhere; those of other packages stay plain text.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!mfavbs).*"),
    (
        "py:class",
        r"mfavbs\.(encoders\.towers|images\.(drawing|recipes)|model\.(neighbours|room))\..*",
    ),
    ("py:(class|func)", r"mfavbs\.model\.(checkpoint|pixel_training|training)\..*"),
]

html_theme = "furo"
html_title = f"mfavbs {release}"
html_show_sourcelink = False
html_copy_source = False
