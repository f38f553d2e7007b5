"""A recipe in TOML gives defaults; what it cannot mean is told with file and key."""

from pathlib import Path

import pytest
import tyro
from tyro.conf import OmitArgPrefixes

from natural_video_llm.errors import UserError
from natural_video_llm.training.config_file import with_config
from natural_video_llm.training.options import TrainOptions


def parsed(recipe: Path, text: str, *flags: str) -> TrainOptions:
    recipe.write_text(text)
    arguments = with_config(["data", "--out", "run", "--config", str(recipe), *flags])
    return tyro.cli(OmitArgPrefixes[TrainOptions], args=arguments)


def test_the_file_gives_defaults_and_flags_the_last_word(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    text = 'steps = 7\nlearning_rate = 1\ntwin = false\nencoder = "e"\nprecision = "bf16"\nseed = 5\n'
    got = parsed(recipe, text, "--seed", "9", "--batch-size=2")
    assert (got.steps, got.learning_rate, got.twin, got.encoder, got.precision) == (7, 1.0, False, "e", "bf16")
    assert (got.seed, got.batch_size, got.config) == (9, 2, recipe)
    assert parsed(recipe, text, "--twin").twin
    assert parsed(recipe, "", "--twin") == parsed(recipe, "# nothing\n")
    assert with_config(["data", "--out", "run"]) == ["data", "--out", "run"]
    recipe.write_text("steps = 7\n")
    assert with_config([f"--config={recipe}"])[:2] == ["--steps", "7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepps = 7", r"recipe\.toml: stepps is no option of nvllm train"),
        ('sessions = "data"', "sessions is no option"),
        ("steps = 1.5", r"recipe\.toml: steps = 1\.5 is not of its kind \(a whole number\)"),
        ("steps = true", r"steps = True is not of its kind"),
        ('twin = "no"', r"twin = 'no' is not of its kind \(true or false\)"),
        ('precision = "fp8"', r"precision = 'fp8' is not of its kind \(one of auto, bf16, fp16, fp32\)"),
        ("seed = [1]", "seed = "),
        ("steps = ", r"recipe\.toml cannot be read as TOML"),
    ],
)
def test_what_it_cannot_mean_is_told(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as raised:
        parsed(tmp_path / "recipe.toml", text)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as TOML"):
        with_config(["--config", str(tmp_path / "none.toml")])
