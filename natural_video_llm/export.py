"""A run → a plain Hugging Face model with what LoRA has learned merged in, and the adapter beside it.

OUT/
├── config.json, model.safetensors, tokenizer …   the base LLM, LoRA merged in
├── README.md                                     the model card
└── adapter/                                      config.json, adapter.safetensors: what `load_run` takes
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from natural_video_llm.checkpoint import base_dtype_of, load_run, weights_sha256
from natural_video_llm.errors import UserError
from natural_video_llm.models.fusion_transformer import WEIGHTS_FILE
from natural_video_llm.run_folder import EVAL_FILE, RUN_FILE
from natural_video_llm.training.model_card import CARD_FILE, render_card

ADAPTER_FOLDER = "adapter"


def export(run: Path, out: Path) -> None:
    """Write the run's model to `out`, made beside it and renamed, so that it is never half there.

    The merged weights are rounded to the precision that the base LLM was kept in.

    Raises:
        UserError: `run` holds no trained model, or `out` is there already or cannot be written.
    """
    if out.exists():
        raise UserError(f"{out} exists already; choose another folder")
    if not (run / WEIGHTS_FILE).is_file() and (run / "fold_0").is_dir():
        raise UserError(f"{run} holds several models; export one of them, such as {run / 'fold_0'}")
    model, tokenizer = load_run(run, torch.float32)
    try:
        record = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{run / RUN_FILE} cannot be read ({error}); train the run again") from error
    card = render_card(model.config, record, _evidence_of(run), merged=True)
    model.merge_lora()
    model.llm.to(base_dtype_of(run))  # type: ignore[arg-type] # typed for quantised weights only
    work = out.parent / f".{out.name}-half"
    try:
        shutil.rmtree(work, ignore_errors=True)
        model.llm.save_pretrained(work)
        tokenizer.save_pretrained(work)
        model.config = replace(model.config, base_llm="..", base_llm_sha256=weights_sha256(str(work)))
        model.save_pretrained(work / ADAPTER_FOLDER)
        (work / CARD_FILE).write_text(card, encoding="utf-8")
        work.rename(out)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{out} cannot be written ({reason}); free disk space or choose another folder") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _evidence_of(run: Path) -> dict[str, Any] | None:
    """What the last evaluation found; None where there was none since the run was trained."""
    for folder in (run, run.parent) if run.name.startswith("fold_") else (run,):
        found = folder / EVAL_FILE
        if found.is_file() and found.stat().st_mtime >= (run / WEIGHTS_FILE).stat().st_mtime:
            return json.loads(found.read_text(encoding="utf-8"))
    return None
