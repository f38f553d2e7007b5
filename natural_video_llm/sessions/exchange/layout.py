"""What the parquet data set looks like.

OUT/
├── README.md                          a data set card: each table is a configuration of `load_dataset`
├── meta/info.json                     versions, counts, encoders with the hash of their weights, units, consents
├── data/sessions-00000.parquet        one row a session
├── data/utterances-00000.parquet      one row an utterance
├── data/latents-<encoder>-00000.parquet …     one row a frame
└── videos/<session_id>/000000.mp4 …   with --video
"""

import pyarrow as pa

SCHEMA_VERSION = 1
FORMAT = "natural-video-llm sessions"

SESSIONS = pa.schema(
    [
        ("session_id", pa.string()),
        ("person", pa.string()),
        ("filmed_speaker", pa.string()),
        ("split", pa.string()),
        ("started_utc", pa.string()),
        ("length_s", pa.float64()),
        ("consent", pa.string()),
        ("events", pa.list_(pa.struct([("index", pa.int32()), ("json", pa.string())]))),
    ]
)

_WORD = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("t_start", pa.float64()), ("t_end", pa.float64())])
_EDIT = pa.struct([("t", pa.float64()), ("position", pa.int32()), ("removed", pa.int32()), ("inserted", pa.string())])
UTTERANCES = pa.schema(
    [
        ("session_id", pa.string()),
        ("index", pa.int32()),
        ("speaker", pa.string()),
        ("filmed", pa.bool_()),
        ("text", pa.string()),
        ("t_start", pa.float64()),
        ("t_end", pa.float64()),
        ("timing", pa.string()),
        ("char_times", pa.list_(pa.float64())),
        ("word_times", pa.list_(_WORD)),
        ("edits", pa.list_(_EDIT)),
        ("how", pa.string()),
        ("other_fields", pa.string()),
    ]
)
# Columns whose rows are tuples in the event and structs here.
STRUCTS = {"word_times": [field.name for field in _WORD], "edits": [field.name for field in _EDIT]}
# Columns of an utterance that are no fields of its event.
OWN_COLUMNS = {"session_id", "index", "filmed", "other_fields"}


def latents_schema(latent_size: int, float32: bool) -> pa.Schema:
    number = pa.float32() if float32 else pa.float16()
    return pa.schema(
        [
            ("session_id", pa.string()),
            ("segment", pa.string()),
            ("time", pa.float64()),
            ("present", pa.bool_()),
            ("latent", pa.list_(number, latent_size)),
            ("header", pa.string()),
        ]
    )


COLUMNS = {
    "sessions": {
        "session_id": "what the other tables refer to",
        "person": "who is filmed, the same across sessions; none: a person who is in no other session",
        "filmed_speaker": "which speaker of the utterances is filmed",
        "split": "train or test where the data brings its own division",
        "started_utc": "wall-clock time at second 0",
        "length_s": "seconds from the start to the last event",
        "consent": "on whose word it was recorded",
        "events": "every event but the texts, with its place in session.jsonl",
    },
    "utterances": {
        "index": "place of the event in session.jsonl",
        "filmed": "whether the filmed person said it",
        "t_start, t_end": "seconds since session start",
        "timing": "how exact the times are: char, word or utterance",
        "char_times": "when each character appeared, in seconds since session start",
        "word_times": "first and last character [start, end) of each word, its start and end in seconds",
        "edits": "the keystrokes behind a typed text: time, position, characters removed, text put in",
        "how": "typed, pasted, dictated or generated",
        "other_fields": "JSON: fields of the event that have no column",
    },
    "latents": {
        "segment": "the video segment, as the session's events name it",
        "time": "capture time of the frame, in seconds since session start",
        "present": "whether a face was in view",
        "latent": "what the encoder made of the frame",
        "header": "JSON, the header of the latents' file: encoder, hash of its weights, units, shapes",
    },
}
