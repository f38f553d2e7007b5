"""The HTTP API, as OpenAI's own SDK, a browser and a tool that hunts for lies in schemas use it."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import schemathesis
from hypothesis import given, settings
from live_server import LiveServer, serving, wait_until

from natural_video_llm.inference.server import Service
from natural_video_llm.inference.serving import completions
from natural_video_llm.inference.serving.completions import StopAt
from natural_video_llm.inference.serving.limits import Limits

HELLO = [{"role": "user", "content": "Hello there"}]


@pytest.fixture(scope="module")
def sdk(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk


def data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def get(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_openai_sdk_talks_to_it(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["tiny"]
    assert sdk.models.retrieve("tiny").owned_by == "natural-video-llm"
    asked = {"model": "tiny", "messages": HELLO, "max_tokens": 9, "temperature": 1.0, "seed": 5}
    whole = sdk.chat.completions.create(**asked)
    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "length"
    assert (whole.usage.completion_tokens, whole.usage.total_tokens) == (9, 9 + whole.usage.prompt_tokens)
    chunks = list(sdk.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(said) == whole.choices[0].message.content
    assert len(said) > 1
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 9


def test_history_and_stops_count(sdk: openai.OpenAI) -> None:
    def said(messages: list, **more: object) -> str:
        answer = sdk.chat.completions.create(model="tiny", messages=messages, max_tokens=12, temperature=0, **more)
        return answer.choices[0].message.content or ""

    plain = said(HELLO)
    told = [{"role": "system", "content": "Be brief."}, *HELLO, {"role": "assistant", "content": "Hi!"}, *HELLO]
    assert said(told) != plain
    middle = plain[len(plain) // 2 :][:3]
    assert said(HELLO, stop=[middle]) == plain[: plain.index(middle)]
    assert said([*HELLO, {"role": "assistant", "content": "Hi!"}]) == ""


def test_a_picture_or_a_clip_is_the_face_of_its_message(
    sdk: openai.OpenAI, jpegs: list[bytes], tiny_sessions: Path
) -> None:
    clip = next(tiny_sessions.glob("*/video/000000.mp4")).read_bytes()
    for part, most in (
        ({"type": "image_url", "image_url": {"url": data_url("image/jpeg", jpegs[0])}}, 10),
        ({"type": "video_url", "video_url": {"url": data_url("video/mp4", clip)}}, 600),
        ({"type": "input_video", "input_video": {"data": base64.b64encode(clip).decode()}}, 600),
    ):
        content = [{"type": "text", "text": "Hello there"}, part]
        answer = sdk.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": content}],  # type: ignore[misc, list-item]
            max_tokens=4,
        )
        face = answer.model_extra["face"]
        assert 0 < face["frames"] <= most
        assert face["seen"]
        assert face["moved_bits"] > 0


def test_mistakes_are_answered_as_openai_does(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'tiny' only"):
        sdk.chat.completions.create(model="gpt-5", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        sdk.chat.completions.create(model="tiny", messages=HELLO, temperature=9)
    with pytest.raises(openai.BadRequestError, match="messages alone cannot be answered"):
        sdk.chat.completions.create(model="tiny", messages=[{"role": "assistant", "content": "Hi!"}])
    for url in ("http://127.0.0.1:1/x.jpg", "file:///etc/passwd", data_url("image/png", b"nothing")):
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Hi"}]
        with pytest.raises(openai.BadRequestError, match=r"addresses are not opened|no picture"):
            sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": content}])


def test_a_full_server_says_so_and_a_token_is_asked_for(run: Path) -> None:
    with serving(Service(run, token="s3cret", limits=Limits(sessions=1))) as server:
        for path in ("/v1/models", "/metrics"):
            assert get(server.http + path)[0] == 401
            assert get(server.http + path, Authorization="Bearer wrong")[0] == 401
            assert get(f"{server.http}{path}?token=s3cret")[0] == 200
        for path in ("/", "/healthz", "/readyz", "/assets/face_landmarker.task"):
            assert get(server.http + path)[0] in (200, 503), "nothing of a person is in these"
        with openai.OpenAI(base_url=f"{server.http}/v1", api_key="s3cret", max_retries=0) as sdk:
            stream = sdk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=512, stream=True)
            next(stream)
            with pytest.raises(openai.InternalServerError, match="conversations at a time"):
                sdk.chat.completions.create(model="tiny", messages=HELLO)
            stream.close()  # who stops reading ends the reply, and makes room

            def has_room() -> bool:
                try:
                    return bool(sdk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=1))
                except openai.InternalServerError:
                    return False

            wait_until(has_room)


def test_who_does_not_wait_for_a_whole_reply_ends_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completions, "_LOOK_EVERY_S", 0.01)
    with (
        serving(Service(run)) as server,
        openai.OpenAI(base_url=f"{server.http}/v1", api_key="x", max_retries=0, timeout=0.1) as sdk,
    ):
        wait_until(lambda: get(f"{server.http}/readyz")[0] == 200)
        with pytest.raises(openai.APITimeoutError):
            sdk.chat.completions.create(model="tiny", messages=HELLO, max_tokens=512, seed=1)
        wait_until(lambda: server.metric('nvllm_sessions{state="request"}') == 0)
        assert 0 < server.metric("nvllm_reply_tokens_total") < 512


def test_the_page_s_policy_and_readiness(server: LiveServer) -> None:
    wait_until(lambda: get(f"{server.http}/readyz")[0] == 200)
    with urllib.request.urlopen(f"{server.http}/") as answer:
        assert "script-src 'self' 'wasm-unsafe-eval'" in answer.headers["Content-Security-Policy"]
    assert get(f"{server.http}/v1/models", Origin="http://evil.example")[0] == 403


def answerable(body: dict) -> None:
    """The model that is here, short replies, and no pictures: a schema cannot tell which bytes are one."""
    body.update(model="tiny", max_completion_tokens=2)
    for message in body["messages"]:
        if isinstance(message["content"], list):
            message["content"] = [part for part in message["content"] if part["type"] == "text"]


def test_the_schema_is_honest(server: LiveServer) -> None:
    schema = schemathesis.openapi.from_url(f"{server.http}/openapi.json")
    wait_until(lambda: get(f"{server.http}/readyz")[0] == 200)
    quick = settings(max_examples=12, database=None)
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @quick
        def ask(case: schemathesis.Case) -> None:
            if case.path == "/v1/chat/completions" and case.meta.generation.mode.is_positive:
                answerable(case.body)
            case.call_and_validate()

        ask()


def test_text_is_cut_at_the_first_stop_wherever_it_is_split() -> None:
    text, stops = "one two\nUser: three", ["\nUser:", "three"]
    for cut in range(len(text)):
        stop = StopAt(stops)
        shown = stop.add(text[:cut]) + ("" if stop.stopped else stop.add(text[cut:]))
        assert (shown, stop.stopped) == ("one two", True)
    stop = StopAt(["END"])
    assert json.dumps(stop.add("the EN") + stop.add("d") + stop.rest()) == '"the ENd"'
