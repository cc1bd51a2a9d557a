"""The documentation site: `make docs` builds it into docs/_build/html, which opens without a network."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "extensions")]

from pictures import digest, sources

import gradflow

project = "gradflow"
author = "the gradflow authors"
release = version = gradflow.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",
    "generated",
]
autodoc_mock_imports = ["lightning", "skorch", "torch.utils.tensorboard"]
exclude_patterns = ["_build", "_generated", "extensions"]

nb_execution_mode = "cache"  # a notebook runs again when it or any code has changed
nb_execution_cache_path = str(Path(__file__).parent / "_build" / f"notebooks-{digest(sources())}")
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = "gradflow"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
default_role = "code"

OUTSIDE = r"(PIL|collections|pandas|torch|matplotlib|numpy|pathlib|os|xarray|xr|pyarrow|dataclasses)\..*"
INSIDE = r"gradflow\.(flow|recording|jacobian|cells|remedies|runlog|training|figures|analysis|adapters)\..*"
SMALL = r"row_gram|names_apart|load_names|beat_chance|keep_bias|lag_gradient"  # steps on the way, told of in passing
nitpick_ignore_regex = [("py:.*", pattern) for pattern in (OUTSIDE, INSIDE, SMALL)]
