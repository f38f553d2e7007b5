"""Sessions → a parquet data set. One segment's latents at a time are in memory."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from natural_video_llm.disk import write_error
from natural_video_llm.errors import UserError
from natural_video_llm.sessions.candidates import FILE_NAME as CANDIDATES
from natural_video_llm.sessions.events import SCHEMA_VERSION as SESSION_SCHEMA_VERSION
from natural_video_llm.sessions.events import Event, SessionStart, Text
from natural_video_llm.sessions.exchange.latent_files import read_header
from natural_video_llm.sessions.exchange.layout import (
    COLUMNS,
    FORMAT,
    OWN_COLUMNS,
    SCHEMA_VERSION,
    SESSIONS,
    STRUCTS,
    UTTERANCES,
    latents_schema,
)
from natural_video_llm.sessions.exchange.pseudonyms import Names, Pseudonyms
from natural_video_llm.sessions.folder import Session, encoder_folder, event_line, read_start
from natural_video_llm.sessions.latents import Latents, latents_file, load_latents
from natural_video_llm.sessions.summary import encoders_of, length_s, people

_SHARD_BYTES = 500_000_000
_UNITS = {"time": "seconds since session start, on the monotonic clock", "length_s": "seconds"}


class ShardedTable:
    """A table in files of bounded size; each `write` is a row group."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema):
        self._folder, self._name, self.schema = folder, name, schema
        self._shards, self.rows = 0, 0
        self._file: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, columns: dict[str, Any]) -> None:
        table = pa.table(columns, schema=self.schema)
        if self._file is not None and self._file.tell() > _SHARD_BYTES:
            self._close_shard()
        if self._writer is None:
            self._open_shard()
        assert self._writer is not None
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)
        self.rows += table.num_rows

    def close(self) -> None:
        """There is one file at least."""
        if not self._shards:
            self._open_shard()
        self._close_shard()

    def _open_shard(self) -> None:
        self._file = (self._folder / f"{self._name}-{self._shards:05d}.parquet").open("wb")
        self._writer = pq.ParquetWriter(self._file, self.schema, compression="zstd")
        self._shards += 1

    def _close_shard(self) -> None:
        if self._writer is not None and self._file is not None:
            self._writer.close()
            self._file.close()
        self._writer = self._file = None


class Export:
    """See `export_parquet` for the arguments."""

    def __init__(
        self,
        sessions: Sequence[Path],
        encoders: Sequence[str] | None,
        video: bool,
        pseudonyms: bool,
        float32: bool,
    ):
        if video and pseudonyms:
            raise UserError("a face on video names a person: export either with --video or with --pseudonyms")
        for path in sessions:
            _check_consent(path, read_start(path), "video" if video else "text")
        self._sessions, self._video, self._float32 = sessions, video, float32
        self._chosen = encoders
        self._names = Pseudonyms() if pseudonyms else Names()
        self._latents: dict[str, ShardedTable] = {}
        self._encoders: dict[str, dict[str, Any]] = {}
        self._consents: Counter[str] = Counter()
        self._people: set[str] = set()
        self._seconds = 0.0

    def write(self, out: Path, progress: Callable[[int, int], None]) -> dict:
        if out.exists():
            raise UserError(f"{out} exists already; choose a new folder, an export is never mixed with another")
        beside = out.with_name(f".{out.name}.partial")
        try:
            shutil.rmtree(beside, ignore_errors=True)
            for name in ("data", "meta"):
                (beside / name).mkdir(parents=True)
            info = self._write(beside, progress)
            beside.rename(out)
        except OSError as error:
            raise write_error(beside, error) from error
        return info

    def _write(self, out: Path, progress: Callable[[int, int], None]) -> dict:
        sessions = ShardedTable(out / "data", "sessions", SESSIONS)
        utterances = ShardedTable(out / "data", "utterances", UTTERANCES)
        for done, path in enumerate(self._sessions, start=1):
            session = Session(path)
            events = [self._names.event(event) for event in session.events]
            start = events[0]
            assert isinstance(start, SessionStart)
            sessions.write(_session_columns(start, events, length_s(session)))
            utterances.write(_utterance_columns(start, events))
            self._write_latents(session, start.session_id, out / "data")
            if self._video:
                _copy_video(session, out / "videos" / start.session_id)
            self._seconds += length_s(session)
            self._consents[start.consent] += 1
            self._people.add(start.person or start.session_id)
            progress(done, len(self._sessions))
        for table in (sessions, utterances, *self._latents.values()):
            table.close()
        self._copy_candidates(out)
        info = self._info(sessions, utterances)
        (out / "meta" / "info.json").write_text(json.dumps(info, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / "README.md").write_text(_card(info), encoding="utf-8")
        return info

    def _write_latents(self, session: Session, session_id: str, data: Path) -> None:
        for encoder in encoders_of(session) if self._chosen is None else self._chosen:
            for segment in session.finished_segments:
                path = latents_file(session, encoder, segment.file)
                if path.exists():
                    latents, header = load_latents(path), read_header(path)
                    columns = _latent_columns(session_id, segment.file, latents, header)
                    self._table_for(path, latents, data).write(columns)
                elif self._chosen is not None:
                    raise UserError(f"{path} is missing; run: nvllm extract {session.path} --encoder {encoder}")

    def _table_for(self, path: Path, latents: Latents, data: Path) -> ShardedTable:
        name = latents.encoder
        made = {
            "encoder": name,
            "encoder_sha256": latents.encoder_sha256,
            "units": latents.units,
            "latent_size": latents.latents.shape[1],
        }
        if name not in self._latents:
            schema = latents_schema(latents.latents.shape[1], self._float32)
            self._latents[name] = ShardedTable(data, f"latents-{encoder_folder(name)}", schema)
            self._encoders[name] = made
        if self._encoders[name] != made:
            raise UserError(f"{path}: made with other weights than the latents before it; delete it and extract again")
        return self._latents[name]

    def _copy_candidates(self, out: Path) -> None:
        for path in {path.resolve().parent / CANDIDATES for path in self._sessions}:
            if path.is_file():
                shutil.copyfile(path, out / "meta" / CANDIDATES)

    def _info(self, sessions: ShardedTable, utterances: ShardedTable) -> dict:
        return {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "session_schema_version": SESSION_SCHEMA_VERSION,
            "pseudonyms": isinstance(self._names, Pseudonyms),
            "video": self._video,
            "counts": {
                "sessions": sessions.rows,
                "people": len(self._people),
                "hours": round(self._seconds / 3600, 4),
                "utterances": utterances.rows,
                "latents": {name: table.rows for name, table in self._latents.items()},
            },
            "encoders": list(self._encoders.values()),
            "consents": [{"consent": consent, "sessions": count} for consent, count in self._consents.most_common()],
            "units": _UNITS,
            "columns": COLUMNS,
        }


def _check_consent(session: Path, start: SessionStart, what: str) -> None:
    if not start.consent.strip() or (start.recorded is not None and what not in start.recorded):
        raise UserError(f"{session}: its consent does not cover {what}; leave that session out of the export")


def _session_columns(start: SessionStart, events: Sequence[Event], seconds: float) -> dict[str, list]:
    others = [
        {"index": index, "json": event_line(event).decode()}
        for index, event in enumerate(events)
        if not isinstance(event, Text)
    ]
    row = {name: getattr(start, name) for name in SESSIONS.names if name in SessionStart.model_fields}
    row |= {"length_s": seconds, "events": others}
    return {name: [row[name]] for name in SESSIONS.names}


def _utterance_columns(start: SessionStart, events: Sequence[Event]) -> dict[str, list]:
    rows = [_utterance_row(start, index, event) for index, event in enumerate(events) if isinstance(event, Text)]
    return {name: [row.get(name) for row in rows] for name in UTTERANCES.names}


def _utterance_row(start: SessionStart, index: int, text: Text) -> dict[str, Any]:
    row = text.model_dump()
    del row["event"]
    other = {name: row.pop(name) for name in list(row) if name not in UTTERANCES.names or name in OWN_COLUMNS}
    for name, parts in STRUCTS.items():
        if row[name] is not None:
            row[name] = [dict(zip(parts, entry, strict=True)) for entry in row[name]]
    row |= {
        "session_id": start.session_id,
        "index": index,
        "filmed": text.speaker == start.filmed_speaker,
        "other_fields": json.dumps(other, ensure_ascii=False) if other else None,
    }
    return row


def _latent_columns(session_id: str, segment: str, latents: Latents, header: str) -> dict[str, Any]:
    frames, size = latents.latents.shape
    values = pa.array(np.ascontiguousarray(latents.latents).reshape(-1))
    return {
        "session_id": [session_id] * frames,
        "segment": [segment] * frames,
        "time": latents.times,
        "present": latents.present,
        "latent": pa.FixedSizeListArray.from_arrays(values, size),
        "header": [header] * frames,
    }


def _copy_video(session: Session, folder: Path) -> None:
    folder.mkdir(parents=True)
    for segment in session.finished_segments:
        video = session.path / segment.file
        if not video.is_file():
            raise UserError(f"{video} is missing, so the session has no whole video; export without --video")
        shutil.copyfile(video, folder / video.name)


def _card(info: dict) -> str:
    tables = ["sessions", "utterances", *(f"latents-{encoder_folder(e['encoder'])}" for e in info["encoders"])]
    configurations = "".join(f"  - config_name: {t}\n    data_files: data/{t}-*.parquet\n" for t in tables)
    counts = info["counts"]
    return (
        f"---\nconfigs:\n{configurations}---\n\n# Conversations with the face that goes with them\n\n"
        f"{counts['sessions']} sessions of {people(counts['people'])}, {counts['hours']:.2f} hours, "
        f"{counts['utterances']} utterances.\n"
        "Written by `nvllm sessions export`; `nvllm sessions import` makes session folders of it again.\n"
        f"{_bullets(info)}\nThe consents that it stands on, the units and every column are in `meta/info.json`.\n"
    )


def _bullets(info: dict) -> str:
    lines: Iterable[str] = (
        f"- `{e['encoder']}`: {e['latent_size']} numbers a frame ({e['units']}), weights {e['encoder_sha256'][:12]}"
        for e in info["encoders"]
    )
    return "".join(f"\n{line}" for line in lines) + "\n"
