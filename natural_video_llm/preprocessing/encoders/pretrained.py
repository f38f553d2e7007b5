"""Vision models in the Hugging Face form: a folder or a Hub id → the model, its picture rules and its digest."""

import os
import pickle
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
    logging,
)
from transformers.utils.hub import get_checkpoint_shard_files

from natural_video_llm.assets import file_sha256, text_sha256
from natural_video_llm.errors import UserError, first_line
from natural_video_llm.preprocessing.encoders.spec import EncoderSpec

_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError, pickle.UnpicklingError)
_PROCESSOR_FILES = ("preprocessor_config.json", "video_preprocessor_config.json")
_CLIP_SETTINGS = ("num_frames", "frames_per_clip", "tubelet_size")


@dataclass(frozen=True)
class VisionModel:
    """A vision model as it was saved.

    Args:
        model: the tower that sees, in float32, on the CPU, ready to run.
        processor: the settings of its own image or video processor.
        sha256: of its weight files.
        trained_pooler: the weights hold all of the model. A checkpoint made for classification has no pooler, and
            transformers fills its place with random numbers.
    """

    model: PreTrainedModel
    processor: dict[str, Any]
    sha256: str
    trained_pooler: bool


def load_vision_model(spec: EncoderSpec, example: str, model_types: Collection[str] = ()) -> VisionModel:
    """The model that `spec.weights` names; of a two-tower model the tower that sees.

    Heads, such as a classifier, are left off. Code that comes with a model is never run.

    Args:
        spec: weights are a folder or a Hub id.
        example: a specification that works, told to a person whose own does not.
        model_types: those accepted, as `config.json` calls them; none for every model of single pictures.

    Raises:
        UserError: no weights are named, there is no such model, parts of it are missing, or it is of another kind.
    """
    if not spec.weights:
        raise UserError(f"encoder {spec}: name a model by its folder or Hub id, e.g. {example}")
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(spec.weights, trust_remote_code=False)
            config = getattr(config, "vision_config", config)
            _check_kind(spec, config, example, model_types)
            model, found = AutoModel.from_pretrained(
                spec.weights, config=config, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
            processor = _processor_settings(spec.weights)
            sha256 = _weights_sha256(spec.weights)
    except _UNREADABLE as error:
        offline = " (offline: HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise UserError(
            f"encoder {spec}: no usable vision model{offline}: {first_line(error)}; give a folder or a Hub id, "
            f"e.g. {example}"
        ) from error
    missing = {*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}
    lost = sorted(key for key in missing if "pooler." not in key)
    if lost:
        raise UserError(
            f"encoder {spec}: the weights lack {lost[0]} and {len(lost) - 1} more of a {config.model_type} model; "
            "save or fetch it again"
        )
    return VisionModel(model.eval(), processor, sha256, not missing)


def _check_kind(spec: EncoderSpec, config: PreTrainedConfig, example: str, model_types: Collection[str]) -> None:
    if model_types:
        fits = config.model_type in model_types
    else:
        made = MODEL_MAPPING.get(type(config), None)
        takes_pictures = getattr(made, "main_input_name", "") == "pixel_values"
        fits = takes_pictures and not any(hasattr(config, setting) for setting in _CLIP_SETTINGS)
    if not fits:
        needed = f"a model of type {' or '.join(sorted(model_types))}" if model_types else "a model of single pictures"
        raise UserError(
            f"encoder {spec}: this is a {config.model_type} model; {spec.kind} needs {needed}, e.g. {example}"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither progress bars nor tables of the weights that a head would have had: stdout and stderr are ours."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _processor_settings(weights: str) -> dict[str, Any]:
    # The settings alone: most processor classes cannot be imported without torchvision.
    for file in _PROCESSOR_FILES:
        try:
            return ImageProcessingMixin.get_image_processor_dict(weights, image_processor_filename=file)[0]
        except OSError:
            continue
    raise OSError(f"{weights} has no {' or '.join(_PROCESSOR_FILES)}")


def _weights_sha256(weights: str) -> str:
    """Of the files that `from_pretrained` reads, in its order of preference."""
    for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME):
        file = cached_file(weights, name, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            files = (
                [file] if name in (SAFE_WEIGHTS_NAME, WEIGHTS_NAME) else get_checkpoint_shard_files(weights, file)[0]
            )
            sums = [file_sha256(Path(part)) for part in files]
            return sums[0] if len(sums) == 1 else text_sha256("\n".join(sums))
    raise OSError(f"{weights} holds no weights that can be told apart")
