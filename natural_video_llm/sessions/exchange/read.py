"""A parquet data set → session folders. One session's events and one segment's latents at a time are in memory."""

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from natural_video_llm.disk import write_error
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.candidates import FILE_NAME as CANDIDATES
from natural_video_llm.sessions.events import EVENT_ADAPTER, Event, SessionStart, Text
from natural_video_llm.sessions.exchange.latent_files import metadata_of, put_together
from natural_video_llm.sessions.exchange.layout import FORMAT, OWN_COLUMNS, SCHEMA_VERSION, STRUCTS
from natural_video_llm.sessions.folder import SessionWriter, check_session_id, encoder_folder
from natural_video_llm.sessions.importers.takes import Report


class Table:
    """The files of one table; knows which row groups may hold a session's rows."""

    def __init__(self, paths: list[Path]):
        self._groups: list[tuple[Path, int, str | None, str | None]] = []
        self.paths = paths
        for path in paths:
            metadata = _opened(path).metadata
            column = _opened(path).schema_arrow.get_field_index("session_id")
            if column < 0:
                raise UserError(f"{path}: no column session_id; this is no export of sessions")
            for group in range(metadata.num_row_groups):
                statistics = metadata.row_group(group).column(column).statistics
                known = statistics is not None and statistics.has_min_max
                self._groups.append((path, group, *((statistics.min, statistics.max) if known else (None, None))))

    def of_session(self, session_id: str) -> Iterator[tuple[Path, pa.Table]]:
        """The rows of one session, row group by row group."""
        for path, group, least, most in self._groups:
            if least is not None and most is not None and not least <= session_id <= most:
                continue
            try:
                rows = _opened(path).read_row_group(group)
            except (pa.ArrowException, OSError) as error:
                raise _damaged(path, error) from error
            rows = rows.filter(pc.equal(rows["session_id"], session_id))
            if rows.num_rows:
                yield path, rows


def read_dataset(folder: Path, out: Path, progress: Callable[[int, int], None], report: Report) -> None:
    """See `import_parquet`."""
    total = _check_info(folder / "meta" / "info.json")
    utterances = Table(_files(folder, "utterances"))
    latents = [Table([path]) for path in sorted((folder / "data").glob("latents-*.parquet"))]
    done = 0
    for path in _files(folder, "sessions"):
        for number, row in enumerate(_rows(path), start=1):
            where = f"{path}: row {number}"
            session_id = str(row.get("session_id"))
            check_session_id(session_id)
            if (out / session_id / "session.jsonl").exists():
                report.kept += 1
            else:
                events = _events(where, row, utterances)
                _write_session(folder, out / session_id, events, latents)
                report.add([event for event in events if isinstance(event, Text)])
            done += 1
            progress(done, total)
    candidates = folder / "meta" / CANDIDATES
    if candidates.is_file() and not (out / CANDIDATES).exists():
        shutil.copyfile(candidates, out / CANDIDATES)


def _check_info(path: Path) -> int:
    """The number of sessions in the data set."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        kind, version, total = info["format"], info["schema_version"], int(info["counts"]["sessions"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error!r}); give a folder made by nvllm sessions export") from error
    if kind != FORMAT or version > SCHEMA_VERSION:
        raise UserError(f"{path}: {kind} of version {version}, this program reads {FORMAT} up to {SCHEMA_VERSION}")
    return total


def _files(folder: Path, name: str) -> list[Path]:
    found = sorted((folder / "data").glob(f"{name}-*.parquet"))
    if not found:
        raise UserError(f"{folder}/data: no {name}-*.parquet; copy the data set again")
    return found


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: no readable parquet ({str(error).splitlines()[0]}); copy the data set again")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        for batch in _opened(path).iter_batches(batch_size=16):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _events(where: str, row: dict[str, Any], utterances: Table) -> list[Event]:
    """All events of a session in their old order."""
    by_index: dict[int, Event] = {}
    try:
        for entry in row["events"]:
            by_index[entry["index"]] = EVENT_ADAPTER.validate_json(entry["json"])
        for path, rows in utterances.of_session(row["session_id"]):
            where = str(path)
            for utterance in rows.to_pylist():
                by_index[utterance["index"]] = _text(utterance)
    except (ValidationError, LookupError, TypeError, ValueError) as error:
        what = error.errors()[0]["msg"].lower() if isinstance(error, ValidationError) else repr(error)
        raise UserError(
            f"{where}: session {row['session_id']} has a damaged event ({what}); export it again"
        ) from error
    events = [event for _, event in sorted(by_index.items())]
    if not events or not isinstance(events[0], SessionStart) or events[0].session_id != row["session_id"]:
        raise UserError(f"{where}: {row['session_id']} does not begin with its session_start; export it again")
    return events


def _text(row: dict[str, Any]) -> Text:
    fields = {name: value for name, value in row.items() if name not in OWN_COLUMNS and value is not None}
    for name, parts in STRUCTS.items():
        if name in fields:
            fields[name] = [tuple(entry[part] for part in parts) for entry in fields[name]]
    return Text.model_validate(fields | json.loads(row["other_fields"] or "{}"))


def _write_session(folder: Path, target: Path, events: list[Event], latents: list[Table]) -> None:
    """Write beside, then rename: a session is there whole or not at all."""
    beside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    start = events[0]
    assert isinstance(start, SessionStart)
    try:
        with SessionWriter(beside, start) as writer:
            for event in events[1:]:
                writer.append(event)
        for table in latents:
            _write_latents(beside, start.session_id, table)
        for video in sorted((folder / "videos" / start.session_id).glob("*.mp4")):
            shutil.copyfile(video, beside / "video" / video.name)
        beside.rename(target)
    except OSError as error:
        raise write_error(target, error) from error


def _write_latents(session: Path, session_id: str, table: Table) -> None:
    pieces = (
        ((piece["segment"][0].as_py(), piece["header"][0].as_py()), piece)
        for _, rows in table.of_session(session_id)
        for piece in _by_segment(rows)
    )
    for (segment, header), group in groupby(pieces, key=lambda piece: piece[0]):
        rows = pa.concat_tables([piece for _, piece in group])
        where = f"{table.paths[0]}: {session_id}, {segment}"
        try:
            content = put_together(header, _arrays(rows))
            folder = encoder_folder(metadata_of(header)["encoder"])
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"{where}: rows or header are damaged ({error!r}); export it again") from error
        target = session / "latents" / folder / f"{Path(segment).stem}.safetensors"
        if target.exists():
            raise UserError(f"{where}: its rows do not follow each other; export it again")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _by_segment(rows: pa.Table) -> Iterator[pa.Table]:
    """Runs of rows of one segment."""
    segments = rows["segment"].to_pylist()
    first = 0
    for row in range(1, len(segments) + 1):
        if row == len(segments) or segments[row] != segments[first]:
            yield rows.slice(first, row - first)
            first = row


def _arrays(rows: pa.Table) -> dict[str, np.ndarray]:
    return {
        "latents": rows["latent"].combine_chunks().flatten().to_numpy(zero_copy_only=False),
        "times": rows["time"].to_numpy(),
        "present": rows["present"].to_numpy(),
    }
