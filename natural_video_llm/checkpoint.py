"""Base LLMs and trained runs by name: the one place that knows how a checkpoint folder becomes a model."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import cached_file
from transformers.utils.logging import disable_progress_bar

from natural_video_llm import assets
from natural_video_llm.device import pick_device, pick_dtype
from natural_video_llm.errors import UserError
from natural_video_llm.models.fusion_transformer import CONFIG_FILE, NaturalVideoLLM, read_config


@dataclass(frozen=True)
class BaseLLM:
    """A causal LM ready to be adapted.

    Args:
        name: as the user gave it.
        sha256: of its weight files as they were published, so that an adapter never meets other weights.
    """

    name: str
    sha256: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(assets.llm_folder(name))
    except (OSError, ValueError) as error:
        raise _no_such_llm(name, error) from error


def load_base_llm(name: str = assets.DEFAULT_LLM, dtype: torch.dtype | None = None) -> BaseLLM:
    """The LLM called `name` (the default's name, a folder, a Hub id) on this machine's best device, in the precision
    that suits it unless `dtype` says otherwise.

    Raises:
        UserError: there is no such model.
    """
    device = pick_device()
    folder = assets.llm_folder(name)
    disable_progress_bar()  # weights of this size load at once, and stdout and stderr are ours
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or pick_dtype(device))
        sha256 = assets.pinned_sha256(name) or weights_sha256(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise _no_such_llm(name, error) from error
    torch.nn.Module.to(model, device)  # the model's own `to` is typed for quantised weights only
    return BaseLLM(name, sha256, model.eval(), load_tokenizer(name))


def load_run(run: Path, dtype: torch.dtype | None = None) -> tuple[NaturalVideoLLM, PreTrainedTokenizerBase]:
    """The adapted model of a run folder, and its tokenizer; `dtype` as for `load_base_llm`.

    "starter" is the adapter that comes with the package, unless there is a folder of that name.

    Raises:
        UserError: `run` holds no adapter, or its base LLM is not to be had or has changed.
    """
    if run == Path(assets.STARTER) and not run.exists():
        run = assets.starter_folder()
    try:
        config = read_config(run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run}: no trained model here ({CONFIG_FILE}: {error}); make one: nvllm train") from error
    base = load_base_llm(base_beside(run, config.base_llm), dtype)
    if base.sha256 != config.base_llm_sha256:
        raise UserError(
            f"{run}: trained on {config.base_llm} with SHA-256 {config.base_llm_sha256}, but that model now has "
            f"{base.sha256}; fetch the same weights"
        )
    try:
        model = NaturalVideoLLM.from_pretrained(run, base.model)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{run}: the adapter cannot be read ({error}); train it again") from error
    return model.to(pick_device()).eval(), base.tokenizer


def base_dtype_of(run: Path) -> torch.dtype:
    """The precision that a run's base LLM is stored in."""
    name = base_beside(run, read_config(run).base_llm)
    return AutoConfig.from_pretrained(assets.llm_folder(name)).get_text_config().dtype or torch.float32


def base_beside(run: Path, base_llm: str) -> str:
    """An export names its base LLM by where it lies from the adapter, so that the two can be moved together."""
    return str((run / base_llm).resolve()) if base_llm in (".", "..") else base_llm


def weights_sha256(folder: str) -> str:
    """Of the weight files in `folder`, or of a Hub id in the cache."""
    config = cached_file(folder, "config.json")
    files = sorted(Path(str(config)).parent.glob("*.safetensors"))
    if not files:
        raise OSError("no safetensors weights in it")
    sums = [assets.file_sha256(file) for file in files]
    return sums[0] if len(sums) == 1 else assets.text_sha256("\n".join(sums))


def _no_such_llm(name: str, error: Exception) -> UserError:
    offline = " (offline: HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    reason = str(error).strip().splitlines()[0][:200]
    return UserError(f"no language model {name!r}{offline}: {reason}; give a folder, a Hub id or leave it out")


def autocast(device: torch.device, dtype: torch.dtype | None = None) -> torch.autocast:
    """Adapter in the LLM's own precision for training; weights stay float32."""
    dtype = dtype or pick_dtype(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
