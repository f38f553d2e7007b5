"""The report of a real run: whole, light, closed to the network, and honest about what is missing."""

import base64
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from natural_video_llm.assets import STARTER, starter_folder
from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.cli import main
from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.eval import evaluate
from natural_video_llm.evaluation.report import write_report
from natural_video_llm.preprocessing.align_text_video import align_session
from natural_video_llm.preprocessing.extract_video_latents import extract
from natural_video_llm.sessions.candidates import FILE_NAME
from natural_video_llm.sessions.folder import Session, find_sessions
from natural_video_llm.training.options import TrainOptions
from natural_video_llm.training.train import train

_VOID = {"meta", "img", "br", "link", "input", "hr"}
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Where Chromium itself goes: for its dictionaries, lists and updates.
_ERRANDS = ("google.com", "googleapis.com", "gvt1.com")
BAD = '</script><script>alert("bad")</script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """Parses a page and holds its text and tags; `open` is what was never closed."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def evaluated(tiny_sessions: Path, tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real run, trained and evaluated on the sample speaker; beside it the sessions."""
    folder = tmp_path_factory.mktemp("evaluated")
    sessions = folder / "sessions"
    # Without candidates nothing is chosen and no reply is generated, which takes long.
    shutil.copytree(tiny_sessions, sessions, ignore=shutil.ignore_patterns(FILE_NAME))
    found = find_sessions(sessions)
    for _ in extract(found, "face-geometry", workers=1):
        pass
    tokenizer = load_tokenizer(str(tiny_llm))
    for session in found:
        align_session(session, tokenizer, str(tiny_llm), "face-geometry", 3.0)
    run = folder / "run"
    small = {"match_steps": 2, "steps": 2, "batch_size": 2, "own_text_weight": 0.0}
    train(TrainOptions(sessions=sessions, out=run, llm=str(tiny_llm), **small), lambda _: None)
    evaluate(run, lambda _: None)
    return run


@pytest.fixture
def run(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of the run, with a verdict, a timeline, choices and replies as an evaluation writes them, of the session's
    real words."""
    copy = tmp_path / "run"
    shutil.copytree(evaluated, copy)
    test_id = json.loads((copy / "run.json").read_text())["test"][0]
    session = Session(evaluated.parent / "sessions" / test_id)
    said, answer = session.texts[:2]
    face = f"as {test_id} to {said.text!r}"
    change(
        copy,
        choices=json.loads((starter_folder() / "eval.json").read_text())["choices"],
        replies=[
            {"message": said.text, "face": "nobody in view", "answered_there": "", "reply": "Hm.", "moved_bits": 0.0},
            {"message": said.text, "face": face, "answered_there": answer.text, "reply": "Oh!", "moved_bits": 0.5},
        ],
        verdict={"face": "cannot be told", "words": "One person is too few.", "needed_people": 12},
        timeline=[{"session_id": test_id, "person": test_id, "utterances": utterances(session)}],
    )
    return copy


def utterances(session: Session) -> list[dict]:
    """The session's texts; each word of the answers gains 0.5 bits more than the one before it, from -1 on."""
    shown = []
    for text in session.texts:
        words = []
        if text.speaker != session.start.filmed_speaker:
            times = np.linspace(text.t_start, text.t_end, len(text.text.split()))
            pairs = enumerate(zip(text.text.split(), times.tolist(), strict=True))
            words = [{"text": word, "t_s": t_s, "gain_bits": 0.5 * i - 1} for i, (word, t_s) in pairs]
        fields = {"speaker": text.speaker, "text": text.text, "t_start": text.t_start, "t_end": text.t_end}
        shown.append(fields | {"words": words})
    return shown


def change(run: Path, **parts: object) -> None:
    """Put other parts into the run's eval.json; None takes one out."""
    path = run / "eval.json"
    result = json.loads(path.read_text()) | parts
    path.write_text(json.dumps({name: part for name, part in result.items() if part is not None}))


def page_of(run: Path, faces: bool = True) -> Page:
    page = Page(write_report(run, faces).read_text(encoding="utf-8"))
    assert not page.open, f"never closed: {page.open}"
    return page


def sources(page: Page) -> list[str]:
    content = next(m["content"] for m in page.all("meta") if m.get("name") == "nvllm-sessions")
    return (content or "").split()


def pictures(page: Page) -> list[np.ndarray]:
    """The page's photographs, rgb."""
    found = []
    for image in page.all("img"):
        kind, _, content = (image["src"] or "").partition(",")
        assert kind == "data:image/webp;base64"
        assert image["alt"]
        found.append(cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR))
    return found


def test_a_real_run_is_shown_whole(run: Path) -> None:
    page = page_of(run)
    headings = ["Evidence", "The right face at the wrong time", "Conversations", "Replies under different faces"]
    for words in (*headings, "Training", "Data", "How to reproduce", "One person is too few.", "text-only twin"):
        assert words in page.text
    assert "Whether the face is used cannot be told." in page.text
    strips = pictures(page)
    assert len(strips) == 4, "three answers, and the face that led to the second reply"
    assert all(strip.shape[0] == 72 and strip.shape[1] % 72 == 0 and strip.std() > 10 for strip in strips)
    assert "do not pass it on without their consent" in page.text
    record = json.loads((run / "run.json").read_text())
    assert sources(page) == record["test"]
    assert (run / "report.html").stat().st_size < 1_000_000
    assert json.loads((run / "config.json").read_text())["base_llm_sha256"] in page.text


def test_every_word_stands_with_its_gain(run: Path) -> None:
    page = page_of(run)
    timeline = json.loads((run / "eval.json").read_text())["timeline"]
    words = [w for u in timeline[0]["utterances"] for w in u["words"]]
    shown = [a for a in page.all("span") if "word " in (a.get("class") or "") and "data-word" in a]
    assert [(a["title"] or "").split(":")[0] for a in shown] == [w["text"] for w in words]
    assert "−1.00 bits" in (shown[0]["title"] or "")
    assert [("loss" if w["gain_bits"] < 0 else "gain") in (a["class"] or "") for a, w in zip(shown, words, strict=True)]
    bars = [a for a in page.all("rect") if "data-word" in a]
    assert len(bars) == len(words)
    assert all(0 <= float((a["x"] or "").rstrip("%")) <= 100 for a in bars)


def test_nothing_is_loaded_from_anywhere(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
    assert not page.all("link")
    assert "http:" not in html
    assert "https:" not in html
    assert not re.search(r"@import|url\(", html)
    assert [script for script in page.all("script") if "src" in script] == []


def test_no_faces_holds_no_photograph(run: Path) -> None:
    page = page_of(run, faces=False)
    assert not page.all("img")
    assert "data:image" not in (run / "report.html").read_text()
    assert "no picture of them" in page.text
    assert sources(page), "words are left, so deleting the session still finds the page"


def test_text_of_the_data_is_escaped(run: Path) -> None:
    result = json.loads((run / "eval.json").read_text())
    result["replies"][0] |= {"reply": BAD, "message": BAD, "face": BAD}
    result["timeline"][0]["utterances"][1]["words"][0]["text"] = BAD
    result["timeline"][0] |= {"session_id": f'"{BAD}', "person": BAD}
    result["conditions"][BAD] = result["conditions"]["none"]
    change(run, **result)
    (run / "judge.json").write_text(json.dumps({"judge": BAD, "pairs": {BAD: [0.5, 0.4, 0.6]}}))
    page = page_of(run)
    assert page.text.count(BAD) >= 6, "as text"
    assert len(page.all("script")) == 1
    assert all("onerror" not in a for a in page.all("img"))


def test_an_old_evaluation_without_its_data(tmp_path: Path) -> None:
    shutil.copy(starter_folder() / "config.json", tmp_path)
    evidence = json.loads((starter_folder() / "eval.json").read_text())
    old = {name: evidence[name] for name in ("conditions", "choices", "replies")}
    old["data"] = {name: evidence["data"][name] for name in ("people", "sessions", "utterances", "tokens", "words")}
    old["data"]["interval_over"] = "people"
    (tmp_path / "eval.json").write_text(json.dumps(old))
    page = page_of(tmp_path)
    assert "an older version, which gave no verdict" in page.text
    assert "The right face at the wrong time" in page.text, "the curve comes from the conditions"
    missing = page.text[page.text.rindex("What is missing here") :]
    for what in ("Verdict", "Conversations", "Judge", "Training curves", "How to reproduce", "Data card"):
        assert what in missing
    assert not page.all("img")
    assert STARTER not in sources(page)


def test_without_its_video_the_motion_is_left(run: Path, evaluated: Path, tmp_path: Path) -> None:
    sessions = tmp_path / "sessions"
    shutil.copytree(evaluated.parent / "sessions", sessions)
    record = json.loads((run / "run.json").read_text())
    record["options"]["sessions"] = str(sessions)
    (run / "run.json").write_text(json.dumps(record))
    for video in sessions.rglob("*.mp4"):
        video.unlink()
    page = page_of(run)
    assert not page.all("img")
    assert "Face strip" in page.text
    assert any(a.get("class") == "area" for a in page.all("polygon"))
    shutil.rmtree(sessions)
    page = page_of(run)
    assert "Pictures and motion" in page.text
    assert not any(a.get("class") == "area" for a in page.all("polygon"))
    assert any("data-word" in a for a in page.all("rect")), "the words are in eval.json"


def test_figures_that_are_no_numbers_are_told(run: Path) -> None:
    result = json.loads((run / "eval.json").read_text())
    figures = result["conditions"]
    for name, broken in (("none", [math.nan] * 3), ("shuffled", [0.25, None, None]), ("frozen", None)):
        figures[name]["true_saves_per_word"] = broken
    nothing = {"verdict": None, "choices": None, "replies": [], "time_shift": [{"shift_s": 1.0}], "timeline": []}
    change(run, conditions=figures, data={"people": 1}, **nothing)
    page = page_of(run)
    assert "not known" in page.text
    assert "no interval" in page.text
    assert "nan" not in re.findall(r"[a-z]+", page.text.lower())
    coordinates = [a[n] or "" for a in (t[1] for t in page.tags) for n in ("x", "cx", "y1", "points") if n in a]
    assert coordinates
    assert not [c for c in coordinates if "nan" in c or "inf" in c]


def test_a_judge_is_shown(run: Path) -> None:
    judge = {
        "judge": "a-local-judge",
        "saw_faces": True,
        "coherence": {"true": [3.25, 3.0, 3.5]},
        "tone": {"none": [2.5, 2.0, 3.0]},
        "pairs": {"true over none": [0.71, 0.6, 0.8]},
        "ties_by_order": 0.25,
        "length_effect": {"slope": 0.01, "win_rate_corrected": {"true over none": [0.68, 0.55, 0.8]}},
        "cost_usd": 0.5,
        "calls": 120,
        "agreement_with_person": {"pairs": 20, "agreement": 0.8, "kappa": 0.61},
    }
    (run / "judge.json").write_text(json.dumps(judge))
    text = page_of(run).text
    for words in ("a-local-judge", "saw frames of the face", "0.71", "0.68", "80.0 % of 20 pairs", "kappa 0.61", "120"):
        assert words in text
    (run / "judge.json").write_text("{half")
    assert "no LLM judge" in page_of(run).text


def test_the_picture_for_papers_is_the_same_twice(run: Path) -> None:
    write_report(run)
    first = [(run / f"evidence.{kind}").read_bytes() for kind in ("png", "svg")]
    write_report(run)
    assert first == [(run / f"evidence.{kind}").read_bytes() for kind in ("png", "svg")]
    picture = cv2.imdecode(np.frombuffer(first[0], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 1440


def test_without_an_evaluation_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run: nvllm eval"):
        write_report(tmp_path)
    (tmp_path / "eval.json").write_text("[1]")
    with pytest.raises(UserError, match="damaged"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_verb_writes_it(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["nvllm", "report", str(run), "--no-faces", "--json"])
    main()
    said = json.loads(capsys.readouterr().out)
    assert said["bytes"] == (run / "report.html").stat().st_size
    assert said["faces"] is False


needs_chromium = pytest.mark.skipif(
    _CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)


def browse(page: Path, folder: Path, width_px: int = 1200) -> tuple[str, str, set[str], np.ndarray]:
    """What Chromium makes of a page: its tree, its console, the network addresses that were asked for, a picture."""
    log, shot = folder / "net.json", folder / "shot.png"
    command = [
        *(
            str(_CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-component-update",
        ),
        *("--disable-background-networking", "--proxy-server=127.0.0.1:1", f"--user-data-dir={folder / 'profile'}"),
        *(f"--window-size={width_px},2000", f"--log-net-log={log}", f"--screenshot={shot}"),
        *("--enable-logging=stderr", "--virtual-time-budget=2000", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    console = "".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    addresses = set(re.findall(r'"(?:url|origin)":"((?:https?|wss?)://[^"/]+)', log.read_text(errors="replace")))
    asked = {address for address in addresses if not address.endswith(_ERRANDS)}
    return done.stdout, console, asked, cv2.imread(str(shot))


@needs_chromium
@pytest.mark.parametrize("width_px", [1200, 500])
def test_a_browser_shows_it_without_the_network(run: Path, tmp_path: Path, width_px: int) -> None:
    tree, console, asked, picture = browse(write_report(run), tmp_path, width_px)
    assert console == "", "errors, and what the page's own rules refused, are said there"
    assert "Whether the face is used" in Page(tree).text
    assert not asked
    assert picture.shape[1] == width_px
    assert picture.std() > 5, "it is not blank"


@needs_chromium
def test_the_browser_would_have_told(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<!DOCTYPE html><img src="http://somewhere.example/face.png"><script>nothing()</script>')
    _, console, asked, _ = browse(page, tmp_path)
    assert "nothing is not defined" in console
    assert any("somewhere.example" in url for url in asked)


@needs_chromium
def test_a_script_that_is_not_the_pages_own_is_refused(run: Path, tmp_path: Path) -> None:
    report = write_report(run)
    page = tmp_path / "page.html"
    bad = "<script>document.title = 'broken into'</script><img src=\"http://somewhere.example/face.png\"></main>"
    page.write_text(report.read_text().replace("</main>", bad))
    tree, console, asked, _ = browse(page, tmp_path)
    assert "<title>broken into" not in tree
    assert "Content Security Policy" in console
    assert not any("somewhere.example" in url for url in asked)
