"""Puts a run's adapter into the package as its starter adapter, in half the bytes.

python scripts/pack_starter.py demo/run
"""

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from natural_video_llm.assets import starter_folder
from natural_video_llm.models.fusion_transformer import CONFIG_FILE, WEIGHTS_FILE


def main() -> None:
    """Writes config, adapter, evidence and model card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    run, out = parser.parse_args().run, starter_folder()
    out.mkdir(exist_ok=True)
    halves = {name: tensor.half() for name, tensor in load_file(run / WEIGHTS_FILE).items()}
    spoilt = [name for name, tensor in halves.items() if not tensor.isfinite().all()]
    if spoilt:
        raise SystemExit(f"{run}: {spoilt[0]} does not fit into 16 bits")
    save_file(halves, out / WEIGHTS_FILE, metadata={"format": "pt"})
    for name in (CONFIG_FILE, "README.md"):
        shutil.copy(run / name, out / name)
    evidence = json.loads((run / "eval.json").read_text(encoding="utf-8"))
    del evidence["timeline"]  # conversations word by word, for the report
    (out / "eval.json").write_text(json.dumps(evidence, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
