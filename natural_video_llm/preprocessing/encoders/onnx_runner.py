"""Nets run by ONNX Runtime in PyTorch's place: exported once, kept in the model cache."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from natural_video_llm.assets import cache_dir, in_cache, text_sha256
from natural_video_llm.device import pick_device
from natural_video_llm.errors import UserError, first_line
from natural_video_llm.preprocessing.claim import claim
from natural_video_llm.preprocessing.encoders.runner import Runner, checked_finite
from natural_video_llm.preprocessing.options import Execution

_DTYPES = {"float32": torch.float32, "float16": torch.float16}
# How far results may be from PyTorch's in float32, relative to the largest number of a latent.
_TOLERANCE = {("cpu", "float32"): 1e-3, ("cuda", "float32"): 1e-2, ("cpu", "float16"): 3e-2, ("cuda", "float16"): 3e-2}
_EXPORTERS = ("torch", "transformers", "onnx", "onnxscript")
_INPUT, _OUTPUT = "frames", "latents"
_MODEL_FILE = "model.onnx"
_LOOK_AGAIN_S = 0.2


def make_onnx_runner(module: nn.Module, execution: Execution, key: str) -> Runner:
    """What `runner.make_runner` gives, run by ONNX Runtime on as many threads as PyTorch would use.

    The first batch decides the shape [*, …] of a sample. With it the net is exported, unless the cache holds it, and
    one sample is compared with PyTorch.

    Raises:
        UserError: ONNX Runtime is not installed, or computes neither on the device nor in the precision; with the
            first batch: the net cannot be exported, or its export gives other numbers.
    """
    if execution.dtype not in _DTYPES:
        raise UserError(
            f"ONNX Runtime computes in {' or '.join(_DTYPES)}, not in {execution.dtype!r}; "
            "choose one of them with --dtype, or leave --onnx out"
        )
    _import_onnx()
    return _OnnxRunner(module, execution, _device(execution), key)


class _OnnxRunner:
    def __init__(self, module: nn.Module, execution: Execution, device: torch.device, key: str):
        self._module: nn.Module | None = module.eval().to("cpu", torch.float32)
        self._execution, self._device, self._key = execution, device, key
        self._session: Any = None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        if self._session is None:
            self._begin(batch[:1])
        dtype = np.float32 if self._execution.dtype == "float32" else np.float16
        found: np.ndarray = self._session.run([_OUTPUT], {_INPUT: np.ascontiguousarray(batch, dtype)})[0]
        return checked_finite(found.astype(np.float32), self._execution.dtype)

    def _begin(self, sample: np.ndarray) -> None:
        module = self._module
        assert module is not None
        name = _name_of(module)
        with torch.inference_mode():
            expected = module(torch.from_numpy(np.ascontiguousarray(sample, np.float32))).numpy()
        folder = _exported(module, name, self._execution.dtype, sample.shape[1:], self._key)
        try:
            self._session = _open_session(folder, self._device, required=self._execution.device is not None)
            found = self(sample)
        except UserError:
            raise
        except Exception as error:  # ONNX Runtime's errors have no class of their own in common
            self._session = None
            raise UserError(
                f"{name}: ONNX Runtime cannot run {folder} ({first_line(error)}); delete it and try again, or leave "
                "--onnx out"
            ) from error
        off = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
        if not off <= _TOLERANCE[self._device.type, self._execution.dtype]:
            self._session = None
            raise UserError(f"{name}: ONNX Runtime's latents are off by {off:.2g} from PyTorch's; leave --onnx out")
        self._module = None  # its weights need not lie in memory twice


def _import_onnx() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  the exporter needs it
    except ImportError as error:
        raise UserError(
            f"--onnx needs ONNX Runtime ({error}): pip install 'natural-video-llm[onnx]', or leave --onnx out"
        ) from error
    return onnxruntime


def _device(execution: Execution) -> torch.device:
    """Where ONNX Runtime is to compute: a GPU where it can and the machine has one, or where it is asked for."""
    on_gpu = "CUDAExecutionProvider" in _import_onnx().get_available_providers()
    if execution.device is None:
        return pick_device() if on_gpu else torch.device("cpu")
    try:
        device = torch.device(execution.device)
    except RuntimeError as error:
        raise UserError(f"unknown device {execution.device!r}: choose cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--onnx runs on cpu or cuda, not on {execution.device}; leave --onnx or --device out")
    if device.type == "cuda" and not on_gpu:
        raise _no_gpu(device)
    return device


def _no_gpu(device: torch.device) -> UserError:
    return UserError(
        f"ONNX Runtime cannot compute on {device} here: it takes an NVIDIA GPU with CUDA and cuDNN, and the package "
        "onnxruntime-gpu in onnxruntime's place; or leave --device or --onnx out"
    )


def _exported(module: nn.Module, name: str, dtype: str, shape: tuple[int, ...], key: str) -> Path:
    """The cache's folder with the exported net, made by one process while others wait for it."""
    versions = [f"{package} {metadata.version(package)}" for package in _EXPORTERS]
    entry = f"onnx-{text_sha256(' '.join([key, dtype, str(shape), *versions]))[:24]}"
    target = cache_dir() / entry
    while not target.exists():
        with claim(target) as is_ours:
            if is_ours:
                return in_cache(entry, lambda out: _export(module, name, _DTYPES[dtype], shape, out))
        time.sleep(_LOOK_AGAIN_S)
    return target


def _export(module: nn.Module, name: str, dtype: torch.dtype, shape: tuple[int, ...], folder: Path) -> None:
    folder.mkdir()
    module = module.to(dtype)
    example = torch.zeros(2, *shape, dtype=dtype)  # of two: a batch of one would be taken for the only one there is
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (example,),
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(folder / _MODEL_FILE, external_data=True)  # one file holds 2 GB at most
    except OSError:  # the cache's own affair
        raise
    except Exception as error:  # what an exporter meets in a net of somebody else's is beyond listing
        raise UserError(f"{name} cannot be exported to ONNX ({first_line(error)}); leave --onnx out") from error


def _open_session(folder: Path, device: torch.device, required: bool) -> Any:
    """A session on the device; on the CPU where the GPU fails and is not `required`."""
    onnxruntime = _import_onnx()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait by spinning would take the cores from what runs beside: other workers, the language model.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[tuple[str, dict[str, str]]] = [("CPUExecutionProvider", {})]
    if device.type == "cuda":
        onnxruntime.preload_dlls()  # CUDA and cuDNN as PyTorch brings them
        at = {"device_id": str(device.index or 0)}
        cached = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
        wanted = [("TensorrtExecutionProvider", at | cached), ("CUDAExecutionProvider", at | {"use_tf32": "0"})]
        available = onnxruntime.get_available_providers()
        providers = [provider for provider in wanted if provider[0] in available] + providers
    session = onnxruntime.InferenceSession(folder / _MODEL_FILE, options, providers=providers)
    if required and device.type == "cuda" and session.get_providers() == ["CPUExecutionProvider"]:
        raise _no_gpu(device)
    return session


def _name_of(module: nn.Module) -> str:
    """The net's class and where its weights came from, as far as it says so."""
    for part in module.modules():
        if origin := getattr(getattr(part, "config", None), "_name_or_path", ""):
            return f"{type(part).__name__} of {origin}"
    return type(module).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """No word from the exporter, which tells people of what is its own concern."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
