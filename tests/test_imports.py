"""Imports run one way, as the design has it."""

import ast
from pathlib import Path

import pytest

PACKAGE = "natural_video_llm"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE

# What the modules of a folder may import of the house, beside their own folder.
ALLOWED = {
    "sessions": {"disk", "errors", "run_folder"},
    "models": set(),
    "capture": {
        *("sessions", "preprocessing.encoders"),
        *("assets", "console", "disk", "errors", "stop_signals", "workers"),
    },
    "preprocessing": {
        *("sessions", "assets", "console", "device", "errors", "ray_cluster", "stop_signals", "tokenization"),
        "workers",
    },
    "training": {
        *("sessions", "models", "preprocessing.encoders"),
        *("assets", "checkpoint", "console", "device", "disk", "errors", "run_folder", "tokenization"),
    },
    "evaluation": {
        *("sessions", "models", "training", "preprocessing.encoders"),
        *("assets", "checkpoint", "console", "device", "disk", "errors", "run_folder", "tokenization"),
    },
    "inference": {
        *("sessions", "models", "preprocessing.encoders", "preprocessing.options"),
        *("assets", "checkpoint", "console", "device", "disk", "errors", "ray_cluster", "run_folder"),
        *("stop_signals", "tokenization"),
    },
    "disk": {"errors"},
    "errors": set(),
    "run_folder": set(),
    "console": set(),
    "device": set(),
    "tokenization": set(),
    "stop_signals": set(),
    "ray_cluster": {"errors"},
    "workers": set(),
    "assets": {"errors"},
    "doctor": {"assets", "capture", "device", "errors", "preprocessing.encoders", "preprocessing.options"},
    "export": {"checkpoint", "errors", "models", "run_folder", "training"},
    "checkpoint": {"assets", "device", "errors", "models", "tokenization"},
}


def imports_of(file: Path) -> set[str]:
    """Dotted names of the house's modules that `file` imports anywhere, without the package's own name."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            # `from package import module` names a module as well
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix(f"{PACKAGE}.") for name in names if name.split(".")[0] == PACKAGE}


def modules() -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_follow_the_arrows(module: Path) -> None:
    part = module.with_suffix("").parts[0]
    if part.startswith("cli") or part in ("__init__", "__main__"):
        return
    allowed = ALLOWED[part] | {part}
    against = [
        name
        for name in sorted(imports_of(ROOT / module))
        if not any(name == one or name.startswith(f"{one}.") for one in allowed)
    ]
    assert not against, f"{module} must not import {', '.join(against)}"


def test_every_folder_of_the_package_has_its_arrows() -> None:
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    assert folders == set(ALLOWED) & folders
    assert {
        "sessions",
        "models",
        "capture",
        "preprocessing",
        "training",
        "evaluation",
        "inference",
    } <= folders


def test_the_check_sees_imports_inside_functions(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        f"import os\ndef f():\n    from {PACKAGE} import assets\n    import {PACKAGE}.models.loss as x\n",
        encoding="utf-8",
    )
    assert imports_of(tmp_path / "a.py") == {"assets", "models.loss"}
