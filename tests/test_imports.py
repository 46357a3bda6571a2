"""Imports point one way (docs/architecture.md), and nothing needs TensorFlow or PyTorch."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "hfsgm_jax"
# Part -> the parts it may import; every part may import itself.
ALLOWED = {
    "errors": set(),
    "shipped": set(),
    "warp": set(),
    "keys": {"errors"},
    "distributions": set(),
    "trace": {"distributions"},
    "nn": {"distributions", "trace", "warp"},
    "models": {"errors", "keys", "distributions", "trace", "nn"},
    "tightening": {"trace"},
    "objectives": {"distributions", "trace", "tightening"},
    "sampling": {"distributions", "errors", "trace"},
    "classification": {"distributions", "errors", "trace", "objectives"},
    "data": {"errors", "trace", "warp"},
    "images": {"errors", "data"},
    "processes": {"errors"},
    "config": {"errors", "keys", "distributions", "models", "objectives", "processes", "data"},
    "devices": {"errors"},
    "rows": {"devices", "sampling"},
    "run_folder": {"errors", "trace", "config", "models", "devices", "processes", "shipped"},
}
_CORE = {"errors", "distributions", "trace", "objectives", "sampling", "classification", "data"}
ALLOWED["evaluation"] = _CORE | {"config", "models", "devices", "processes", "rows", "run_folder"}
ALLOWED["training"] = _CORE | {"config", "models", "devices", "processes", "rows", "run_folder", "evaluation"}
PROGRAMS = {"__init__", "api", "demo", "programs"}  # what a user imports: they see all, and no other part sees them
REFUSED = {"tensorflow", "torch", "tensorflow_probability", "distrax", "clu", "configs", "scripts"}


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    names = imported(path)
    assert not {name.split(".")[0] for name in names} & REFUSED
    own = part(path)
    if own in PROGRAMS:
        return
    assert own in ALLOWED, f"{own} is new: say in ALLOWED what it may import"
    assert "hfsgm_jax" not in names
    others = {name.split(".")[1] for name in names if name.startswith("hfsgm_jax.")} - {own}
    assert others <= ALLOWED[own], f"{own} must not import {sorted(others - ALLOWED[own])}"


def test_the_allowed_imports_have_no_cycle():
    order = list(ALLOWED)
    assert all(order.index(other) < order.index(name) for name, others in ALLOWED.items() for other in others)
