"""Nothing that is read from a run's folder, or anywhere, can be executed: no pickle, no eval."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFUSED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "runpy", "yaml"}
REFUSED_CALLS = {"eval", "exec", "compile", "__import__"}


def refused(path):
    """Names in this file that could execute what it reads."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name.split(".")[0] in REFUSED_MODULES)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REFUSED_CALLS:
            yield node.func.id
        # Without it NumPy refuses pickles.
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield "allow_pickle"


def test_nothing_that_is_read_can_be_executed():
    files = [
        *(ROOT / "hfsgm_jax").rglob("*.py"),
        *(ROOT / "scripts").glob("*.py"),
        ROOT / "train.py",
        ROOT / "evaluate.py",
    ]
    found = {str(path.relative_to(ROOT)): list(refused(path)) for path in files}
    assert len(files) > 80 and not {name: what for name, what in found.items() if what}
