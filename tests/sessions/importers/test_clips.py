"""Clips with word timings → sessions, from real clips and from small ones made here."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from small_data import make_clip, save, told, word, words_of

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import SessionEnd, Text
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.sessions.importers import import_folder
from natural_video_llm.sessions.importers.takes import BrokenClipsError
from natural_video_llm.sessions.importers.transcripts import read_align, read_cues, read_word_json
from natural_video_llm.sessions.video import read_frames


def run(folder: Path, out: Path) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    import_folder(folder, out, "clips", "somebody", lambda done, total: told.append((done, total)))
    return told


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    make_clip(folder / "a.mp4")
    save(folder / "a.align", "0 5000 sil\n5000 10000 hello\n10000 20000 there\n")
    return folder


def test_a_real_clip(faces_dir: Path, tmp_path: Path) -> None:
    for suffix in (".mpg", ".align"):
        shutil.copy(faces_dir / "grid_s1" / f"bbir9a{suffix}", tmp_path)
    assert run(tmp_path, tmp_path / "out") == [(1, 1)]
    (session,) = find_sessions(tmp_path / "out")
    (text,) = session.texts
    assert text.text == "bin blue in r nine again"
    assert words_of(text)[:2] == [("bin", 0.53, 0.71), ("blue", 0.71, 0.92)]
    assert (text.t_start, text.t_end, text.timing) == (0.53, 1.68, "word")
    assert session.start.person == "somebody"
    (segment,) = session.finished_segments
    frames = list(read_frames(session.path / segment.file))
    assert len(frames) == segment.frames == 75
    np.testing.assert_allclose([time_s for time_s, _ in frames], np.arange(75) / 25, atol=1e-3)
    assert frames[0][1].shape == (288, 360, 3)


def test_frame_times_start_at_zero_and_segments_follow_on(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", frames=50, rate_hz=4, start_s=7.3)
    save(tmp_path / "a.srt", "1\n00:00:01,000 --> 00:00:02,000\nhi\n")
    run(tmp_path, tmp_path / "out")
    session = Session(tmp_path / "out" / "a")
    assert [s.file for s in session.finished_segments] == ["video/000000.mp4", "video/000001.mp4"]
    times = [t for s in session.finished_segments for t, _ in read_frames(session.path / s.file)]
    np.testing.assert_allclose(times, np.arange(50) / 4, atol=1e-3)
    assert [s.frames for s in session.finished_segments] == [40, 10]
    assert isinstance(session.events[-1], SessionEnd)
    assert session.events[-1].t == pytest.approx(49 / 4, abs=1e-3)


def test_an_odd_sized_video_loses_its_last_row_and_column(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 63, 47, "bgr0"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((47, 63, 3), 40 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    save(tmp_path / "a.align", "0 10000 hi\n")
    run(tmp_path, tmp_path / "out")
    frames = list(read_frames(tmp_path / "out" / "a" / "video" / "000000.mp4"))
    assert [rgb.shape for _, rgb in frames] == [(46, 62, 3)] * 5


def test_videos_without_a_transcript_are_left_out(clips: Path, tmp_path: Path) -> None:
    make_clip(clips / "silent.mp4", frames=2)
    save(clips / "._a.mp4", b"what another system hides beside each file")
    save(clips / "._a.align", b"\x00")
    assert run(clips, tmp_path / "out") == [(1, 1)]
    assert [s.path.name for s in find_sessions(tmp_path / "out")] == ["a"]


def test_a_folder_with_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no video with a transcript.*\.align"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="is no folder"):
        run(tmp_path / "nowhere", tmp_path / "out")


def test_two_clips_of_one_name_are_told(clips: Path, tmp_path: Path) -> None:
    shutil.copy(clips / "a.mp4", clips / "a.mkv")
    with pytest.raises(UserError, match=r"a\.mkv and .*a\.mp4 would both become session a"):
        run(clips, tmp_path / "out")


def test_an_interrupted_import_goes_on(clips: Path, tmp_path: Path) -> None:
    make_clip(clips / "my clip.mp4")
    transcript = save(clips / "my clip.json", '{"segments": [')
    with pytest.raises(UserError, match="line 1"):
        run(clips, tmp_path / "out")
    first = (tmp_path / "out" / "a" / "session.jsonl").read_bytes()
    half = tmp_path / "out" / ".my_clip.partial"  # as a killed process leaves it
    half.mkdir()
    save(half / "session.jsonl", "{")
    save(transcript, {"segments": [{"words": [word("hi", 0.1, 0.4)]}]})
    assert run(clips, tmp_path / "out") == [(1, 2), (2, 2)]
    assert (tmp_path / "out" / "a" / "session.jsonl").read_bytes() == first
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a", "my_clip"]


def test_clips_of_one_name_in_two_folders_are_not_lost_in_silence(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clips, out)
    assert run(clips, out) == [(1, 1)]
    with pytest.raises(UserError, match=r"out/a is there already and films somebody, not bob; choose another OUT"):
        import_folder(clips, out, "clips", "bob", lambda done, total: None)
    save(clips / "a.align", "5000 10000 goodbye\n")
    with pytest.raises(UserError, match=r"out/a is there already with other words than .*a\.mp4"):
        run(clips, out)


def test_a_broken_video_is_told(clips: Path, tmp_path: Path) -> None:
    save(clips / "a.mp4", b"no video at all")
    with pytest.raises(UserError, match=r"a\.mp4: no readable video"):
        run(clips, tmp_path / "out")
    with pytest.raises(UserError, match="no session here"):
        find_sessions(tmp_path / "out")


def test_broken_clips_do_not_stop_the_others(clips: Path, tmp_path: Path) -> None:
    for name in ("b", "c", "d", "e", "f", "z"):
        shutil.copy(clips / "a.mp4", clips / f"{name}.mp4")
    save(clips / "b.align", "0 5000 hello\n5000 x there\n")
    save(clips / "c.json", '{"words": [\n{]}')
    save(clips / "d.srt", "1\n00:00:00,100 --> 00:00:00,200\nh\xef\n".encode("latin-1"))
    save(clips / "e.vtt", "WEBVTT\n\n00:03.000 --> 00:02.000\nhi\n")
    save(clips / "f.mp4", (clips / "a.mp4").read_bytes()[:300])
    for name in ("f", "z"):
        shutil.copy(clips / "a.align", clips / f"{name}.align")
    with pytest.raises(BrokenClipsError) as raised:
        run(clips, tmp_path / "out")
    lines = str(raised.value).split("\n")
    found = (
        r"b\.align: line 2",
        r"c\.json: line 2",
        r"d\.srt .*UTF-8",
        r"e\.vtt: line 3",
        r"f\.mp4: the file holds no video",
    )
    assert len(lines) == len(found)
    for what, line in zip(found, lines, strict=True):
        assert re.search(what, line)
    assert raised.value.report.lines() == ["2 sessions: 2 utterances, 4 timed words", "skipped 5: broken"]
    assert [s.path.name for s in find_sessions(tmp_path / "out")] == ["a", "z"]


def test_what_stands_alone_and_words_after_the_end_are_counted(clips: Path, tmp_path: Path) -> None:
    make_clip(clips / "silent.mp4", frames=2)
    save(clips / "lost.vtt", "WEBVTT\n")
    shutil.copy(clips / "a.mp4", clips / "b.mp4")
    save(clips / "b.srt", "1\n00:00:00,100 --> 00:00:01,600\nhi\n\n2\n00:00:01,800 --> 00:00:02,100\nlate\n")
    shutil.copy(clips / "a.mp4", clips / "c.mp4")
    save(clips / "c.align", "0 5000 sil\n")
    report = import_folder(clips, tmp_path / "out", "clips", None, lambda done, total: None)
    assert told(report) == {
        "no transcript of the same name": 1,
        "no video of the same name": 1,
        "ends after the video": 1,
        "no words": 1,
    }
    assert [text.text for text in Session(tmp_path / "out" / "b").texts] == ["hi"]
    assert [s.path.name for s in find_sessions(tmp_path / "out")] == ["a", "b"]


def test_a_folder_that_gives_nothing_is_told(clips: Path, tmp_path: Path) -> None:
    save(clips / "a.align", "0 5000 sil\n")
    with pytest.raises(UserError, match="no clip gave a session"):
        run(clips, tmp_path / "out")


def test_clips_in_folders_below_are_told(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folders below it \(clips\).* nvllm import .*/clips .*/out --person clips"):
        run(tmp_path, tmp_path / "out")


def test_whisper_json_in_all_its_shapes(tmp_path: Path) -> None:
    spoken = [word(" Hello,", 0.5, 0.9), word(" world.", 1.0, 1.5)]
    expected = [("Hello,", 0.5, 0.9), ("world.", 1.0, 1.5)]
    for content in (
        {"text": "", "segments": [{"start": 0, "end": 2, "text": "Hello, world.", "words": spoken}]},
        [{"start": 0, "end": 2, "text": "Hello, world.", "words": spoken}],
        {"words": spoken},
        {"words": spoken, "segments": [{"start": 0, "end": 2, "text": "Hello, world."}]},
        spoken,
        [{"text": w["word"], "start": w["start"], "end": w["end"]} for w in spoken],
    ):
        (text,) = read_word_json(save(tmp_path / "a.json", content))
        assert text.text == "Hello, world."
        assert words_of(text) == expected
        assert (text.t_start, text.t_end) == (0.5, 1.5)


def test_json_segments_become_utterances(tmp_path: Path) -> None:
    segments = [
        {"start": 0.0, "end": 1.0, "text": " One", "words": [word(" One", 0.2, 0.8)]},
        {"start": 1.0, "end": 2.5, "text": " not cut into words"},
        {"start": 2.5, "end": 3.0, "text": " "},
    ]
    one, whole = read_word_json(save(tmp_path / "a.json", {"segments": segments}))
    assert (one.text, one.timing) == ("One", "word")
    assert whole == Text(speaker="speaker", text="not cut into words", t_start=1.0, t_end=2.5, timing="utterance")
    assert read_word_json(save(tmp_path / "a.json", {"segments": []})) == []


def test_json_words_without_times_fill_their_gap(tmp_path: Path) -> None:
    spoken = [{"word": "At"}, word("nine", 0.5, 0.9), {"word": "30"}, word("sharp", 1.4, 1.8), {"word": "7"}]
    (text,) = read_word_json(save(tmp_path / "a.json", spoken))
    assert words_of(text) == [
        ("At", 0.5, 0.5),
        ("nine", 0.5, 0.9),
        ("30", 0.9, 1.4),
        ("sharp", 1.4, 1.8),
        ("7", 1.8, 1.8),
    ]


@pytest.mark.parametrize(
    "content",
    [
        '{"segments": [\n  {]}',
        "",
        "7",
        "null",
        '"text"',
        {},
        {"segments": 3},
        {"segments": ["a"]},
        {"segments": [{"words": [{"word": "hi"}]}]},
        {"segments": [{"text": "no times"}]},
        {"title": "some other file"},
        {"words": [{"start": 0, "end": 1}]},
        {"words": [{"word": "a", "start": "x", "end": 1}]},
        {"words": [{"word": "a", "start": 0}]},
        {"words": [word("a", 2, 1)]},
        {"words": [word("a", -1, 1)]},
        '{"words": [{"word": "a", "start": 0, "end": NaN}]}',
        '{"words": [{"word": "a", "start": 0, "end": Infinity}]}',
        ["a", "b"],
        [1],
    ],
)
def test_damaged_json_is_one_clear_line(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError, match=r"a\.json") as raised:
        read_word_json(save(tmp_path / "a.json", content))
    assert "\n" not in str(raised.value)


def test_json_damage_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json: line 3"):
        read_word_json(save(tmp_path / "a.json", '{"words": [\n{"word": "a", "start": 0, "end": 1},\n}'))


VTT = """WEBVTT - title

NOTE made by hand

STYLE
::cue { color: red }

first
00:01.000 --> 00:02.500 align:start position:0%
Good <b>morning</b>
to you

01:00:03.000 --> 01:00:05.000
<v Ann>one <00:01:00:00.000>ignored</v>
"""


def test_vtt(tmp_path: Path) -> None:
    first, second = read_cues(save(tmp_path / "a.vtt", VTT))
    assert (first.text, first.t_start, first.t_end) == ("Good morning to you", 1.0, 2.5)
    assert first.timing == "utterance"
    assert (second.text, second.t_start) == ("one ignored", 3603.0)


def test_vtt_with_inline_times(tmp_path: Path) -> None:
    cue = "00:00:01.000 --> 00:00:03.000\nso<00:00:01.400><c> it</c><00:00:02.000><c> goes on</c>\n"
    (text,) = read_cues(save(tmp_path / "a.vtt", "WEBVTT\n\n" + cue))
    assert text.text == "so it goes on"
    assert words_of(text) == [("so", 1.0, 1.4), ("it", 1.4, 2.0), ("goes on", 2.0, 3.0)]
    assert text.timing == "word"


def test_srt(tmp_path: Path) -> None:
    content = (
        "1\n00:00:01,250 --> 00:00:02,500\n<i>Tom &amp; Ann</i>\nsay &lt;hi&gt;\n\n"
        "2\n00:10:00,000 --> 00:10:01,000\n<font color='#fff'></font>\n\n\n"
        "3\n10:00:00,001 --> 10:00:01,000\nZoë שלום 😀"
    )
    for ending in ("\n", "\r\n"):
        first, last = read_cues(save(tmp_path / "a.srt", content.replace("\n", ending)))
        assert (first.text, first.t_start, first.t_end) == ("Tom & Ann say <hi>", 1.25, 2.5)
        assert (last.text, last.t_start) == ("Zoë שלום 😀", 36000.001)


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("a.align", "0 25000 hi\n", read_align),
        ("a.json", '[{"word": "hi", "start": 0, "end": 1}]', read_word_json),
        ("a.vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nhi\n", read_cues),
        ("a.srt", "1\n00:00:00,000 --> 00:00:01,000\nhi\n", read_cues),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_text(
    tmp_path: Path, name: str, content: str, read: Callable[[Path], list[Text]]
) -> None:
    (text,) = read(save(tmp_path / name, b"\xef\xbb\xbf" + content.encode()))
    assert (text.text, text.t_start, text.t_end) == ("hi", 0, 1)
    with pytest.raises(UserError, match="UTF-8"):
        read(save(tmp_path / name, content.replace("hi", "h\xef").encode("latin-1")))


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("a.align", "0 10 a\n\n10 x b\n", read_align),
        ("a.align", "0 10 a\n10 20 b\n20 30\n", read_align),
        ("a.align", "0 10 a\n10 20 b\n30 20 c\n", read_align),
        ("a.align", "0 10 a\n10 20 b\n-30 20 c\n", read_align),
        ("a.srt", "1\n\n00:00:01,000 -> 00:00:02,000 --> x\nhi\n", read_cues),
        ("a.srt", "1\n\n00:00:03,000 --> 00:00:02,000\nhi\n", read_cues),
        ("a.vtt", "WEBVTT\n\n0:1 --> 0:2\nhi\n", read_cues),
        ("a.vtt", "WEBVTT\n\n00:03.000 --> 00:02.000\nhi\n", read_cues),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\na<00:03.000>b\n", read_cues),
    ],
)
def test_damaged_lines_name_file_and_line(
    tmp_path: Path, name: str, content: str, read: Callable[[Path], list[Text]]
) -> None:
    with pytest.raises(UserError, match=rf"{name}: line 3") as raised:
        read(save(tmp_path / name, content))
    assert "\n" not in str(raised.value)


def test_a_transcript_that_may_not_be_opened_is_not_blamed_for_its_letters(tmp_path: Path) -> None:
    (tmp_path / "a.align").mkdir()
    with pytest.raises(UserError, match=r"a\.align cannot be read \(Is a directory\); mend its rights"):
        read_align(tmp_path / "a.align")


def test_silence_is_no_word(tmp_path: Path) -> None:
    (text,) = read_align(save(tmp_path / "a.align", "0 25000 sil\n25000 50000 bin\n50000 60000 sp\n"))
    assert words_of(text) == [("bin", 1.0, 2.0)]
    assert read_align(save(tmp_path / "a.align", "0 25000 sil\n")) == []
