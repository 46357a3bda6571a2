"""Imports point one way (docs/architecture.md), and nothing needs TensorFlow or PyTorch."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "hfsgm_jax"
# Part -> the parts it may import; every part may import itself.
ALLOWED = {
    "config_problems": set(),
    "config": {"config_problems"},
    "distributions": set(),
    "trace": {"distributions"},
    "nn": {"distributions", "trace"},
    "models": {"config", "distributions", "trace", "nn"},
    "objectives": {"config_problems", "distributions", "trace"},
    "sampling": {"distributions", "trace"},
    "tightening": {"trace"},
    "data": set(),
    "images": {"data"},
    "processes": {"config"},
    "memory": set(),
    "mesh": {"config", "memory"},
    "classification": {"distributions", "trace", "objectives"},
    "evaluation": {
        "config",
        "distributions",
        "trace",
        "objectives",
        "sampling",
        "classification",
        "data",
        "mesh",
        "processes",
    },
    "training": {
        "tightening",
        "config",
        "distributions",
        "trace",
        "nn",
        "models",
        "objectives",
        "sampling",
        "data",
        "mesh",
        "processes",
        "evaluation",
    },
    "weights": set(),
    "run_folder": {"config", "models", "mesh", "training", "weights"},
}
PROGRAMS = {"__init__", "api"}  # what a user imports: they see all, and no other part sees them
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
