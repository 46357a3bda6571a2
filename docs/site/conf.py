"""The documentation as a site (`make docs`): README and docs/*.md as they are, and the reference from docstrings."""

import re
import shutil
from pathlib import Path

import hfsgm_jax

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODULES = "models distributions trace objectives sampling classification images".split()

project, release = "hfsgm_jax", hfsgm_jax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme, html_title = "furo", "hfsgm_jax"
myst_heading_anchors = 2
autodoc_member_order, autodoc_typehints, add_module_names = "bysource", "none", False
napoleon_use_ivar = False
suppress_warnings = ["myst.xref_missing", "docutils"]  # docstrings are read as Markdown in editors, too


def _reference() -> str:
    elsewhere = lambda name: getattr(hfsgm_jax, name).__module__.split(".")[1] in MODULES  # below, with their module
    names = sorted((name for name in hfsgm_jax.__all__ if not elsewhere(name)), key=str.lower)
    kinds = {name: "class" if isinstance(getattr(hfsgm_jax, name), type) else "function" for name in names}
    parts = [f".. auto{kinds[name]}:: hfsgm_jax.{name}" + "\n   :members:" * (kinds[name] == "class") for name in names]
    module = "{name}\n{line}\n\n.. automodule:: hfsgm_jax.{name}\n   :members:\n   :no-index:"
    parts += [module.format(name=name, line="-" * len(name)) for name in MODULES]
    return "Python interface\n================\n\n" + "\n\n".join(parts) + "\n"


def _copy() -> None:
    """The pages beside this file, where Sphinx looks for them; git ignores them."""
    for picture in (path for path in (ROOT / "docs").iterdir() if path.suffix in (".png", ".gif")):
        shutil.copy(picture, HERE)
    for page in (ROOT / "docs").glob("*.md"):
        (HERE / page.name).write_text(page.read_text().replace("](../", "](../../"))
    readme = re.sub(r"\]\((?!docs/|http|#)", "](../../", (ROOT / "README.md").read_text()).replace("](docs/", "](")
    pages = "guide api keys configs results figures parity architecture scaling accelerators benchmarks".split()
    (HERE / "index.md").write_text(readme + "\n```{toctree}\n:hidden:\n" + "\n".join(pages) + "\n```\n")
    (HERE / "api.rst").write_text(_reference())


_copy()
