"""Judges over the wire: request shapes by the SDKs' own types, and servers that behave badly."""

import json
import time
from typing import Any

import pytest
from judge_servers import Bad, fair, judge_server
from pydantic import ConfigDict, TypeAdapter

from natural_video_llm.errors import UserError
from natural_video_llm.evaluation.judging import clients
from natural_video_llm.evaluation.judging.clients import Judge, JudgeAddress, NoAnswerError, parse_judge
from natural_video_llm.evaluation.judging.rubric import Scene, preference_question, rating_question, read_verdict

pytest.importorskip("openai", reason="the judge extra is not installed")
pytest.importorskip("anthropic", reason="the judge extra is not installed")

SCENE = Scene([], "I passed!", b"\xff\xd8 a picture", 8, 3.0)
RATING = rating_question(SCENE, "Well done!")
BLIND = preference_question(Scene([], "I passed!"), "Well done!", "Oh.")


def local(server: Any, sdk: str = "openai", **options: Any) -> Judge:
    url = server.url if sdk == "openai" else server.url.removesuffix("/v1")
    return Judge(JudgeAddress(sdk, url, "m"), **{"retries": 2, "timeout_s": 5, **options})


def test_judges_by_name() -> None:
    assert parse_judge("openai:gpt-x") == JudgeAddress("openai", "https://api.openai.com/v1", "gpt-x")
    assert parse_judge("anthropic:claude-x").base_url == "https://api.anthropic.com"
    own = parse_judge("http://localhost:8000/v1#org/model:1")
    assert (own.base_url, own.model, own.is_this_machine) == ("http://localhost:8000/v1", "org/model:1", True)
    assert str(own) == "http://localhost:8000/v1#org/model:1"
    for wrong in ("gpt-x", "openai:", "http://localhost/v1", "http://#m", "gemini:x"):
        with pytest.raises(UserError, match="openai:MODEL"):
            parse_judge(wrong)


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("[::1]", True), ("192.168.1.2", False), ("localhost.evil.example", False)],
)
def test_only_a_loopback_address_is_this_machine(host: str, here: bool) -> None:
    assert parse_judge(f"http://{host}:1/v1#m").is_this_machine is here


def test_no_key_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for judge, name in (("openai:m", "OPENAI_API_KEY"), ("anthropic:m", "ANTHROPIC_API_KEY")):
        with pytest.raises(UserError, match=f"no key for {judge}: {name} is not set"):
            Judge(parse_judge(judge))


def test_another_address_is_never_handed_openais_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with judge_server(fair) as server:
        local(server).ask(RATING)
    assert server.headers[0]["authorization"] == "Bearer none"


@pytest.mark.parametrize("question", [RATING, BLIND], ids=["rating with faces", "pair, words alone"])
def test_requests_have_the_shape_of_the_sdks_own_types(question: Any) -> None:
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

    def checked(kind: type, request: dict[str, Any]) -> None:
        strict = type("Strict", (kind,), {"__pydantic_config__": ConfigDict(extra="forbid")})
        TypeAdapter(strict).validate_python(request)
        with pytest.raises(ValueError, match="nonsense"):
            TypeAdapter(strict).validate_python({**request, "nonsense": 1})

    for address in (parse_judge("openai:m"), parse_judge("http://localhost/v1#m")):
        request = clients.openai_request(address, question, 100)
        checked(CompletionCreateParamsNonStreaming, request)
        assert request["temperature"] == 0
    request = clients.anthropic_request(parse_judge("anthropic:m"), question, 100)
    assert request.pop("temperature") == 0
    checked(MessageCreateParamsNonStreaming, request)


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_the_picture_and_the_words_arrive(sdk: str) -> None:
    with judge_server(fair) as server:
        answer = local(server, sdk).ask(RATING)
    assert read_verdict(answer.text or "", RATING.schema).model_dump()["coherence"] == 4
    assert (answer.tokens_in, answer.tokens_out) == (1000, 100)
    assert json.loads(answer.body)["model"] == "m", "the raw answer is kept"
    request = server.requests[0]
    assert request["temperature"] == 0
    picture, words = request["messages"][-1]["content"]
    assert "I passed!" in words["text"]
    assert "/9gg" in json.dumps(picture), "base64 of the JPEG"
    assert server.paths[0] == ("/v1/chat/completions" if sdk == "openai" else "/v1/messages")


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_a_refused_parameter_is_left_out_from_then_on(sdk: str) -> None:
    def picky(request: dict[str, Any], _: int) -> str | Bad:
        refused = [name for name in ("temperature", "response_format", "output_config") if name in request]
        said = (
            {"error": {"type": "invalid_request_error", "message": f"'{refused[0]}' is not supported"}}
            if refused
            else {}
        )
        return Bad(400, json.dumps(said)) if refused else fair(request)

    with judge_server(picky) as server:
        judge = local(server, sdk)
        judge.ask(RATING)
        assert judge.dropped == {"temperature", "response_format" if sdk == "openai" else "output_config"}
        assert len(server.requests) == 3
        judge.ask(BLIND)
    assert len(server.requests) == 4


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "bad",
    [
        Bad(429, '{"error": {"message": "slow down"}}', {"Retry-After": "0.2"}),
        Bad(503, "busy", {"Retry-After": "0.2"}),
        Bad(200, '{"choices": [{"mess', {"Retry-After": "0.2"}, cut=True),
    ],
    ids=["429", "503", "dropped"],
)
def test_a_passing_trouble_is_tried_again(sdk: str, bad: Bad) -> None:
    with judge_server(lambda request, number: bad if number == 0 else fair(request)) as server:
        began_s = time.monotonic()
        assert local(server, sdk).ask(RATING).text
    assert len(server.requests) == 2
    assert time.monotonic() - began_s >= 0.2, "as long as the server asked for, or the SDK's own pause"


@pytest.mark.parametrize(
    ("bad", "calls"),
    [
        (Bad(429, "{}", {"Retry-After": "0.05"}), 3),
        (Bad(wait_s=3), 3),
        (Bad(200, '{"choices": [{"message": {"content": "{\\"reas'), 1),
        (Bad(200, '{"choices": []}'), 1),
        (Bad(200, "[]"), 1),
        (Bad(200, "<html>welcome</html>"), 1),
        (Bad(200, ""), 1),
    ],
    ids=["429 for ever", "time-out", "half a JSON", "no choice", "a list", "a page", "nothing"],
)
def test_no_answer_is_told_apart_from_an_answer(bad: Bad, calls: int) -> None:
    with judge_server(lambda *_: bad) as server, pytest.raises(NoAnswerError):
        local(server, timeout_s=1).ask(BLIND)
    assert len(server.requests) == calls


def test_nobody_there() -> None:
    with judge_server(fair) as server:
        judge = local(server, retries=0)
    server.server_close()
    with pytest.raises(NoAnswerError):
        judge.ask(BLIND)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "check the key"), (404, "model's name"), (400, "takes no pictures"), (307, "name")]
)
def test_what_a_person_must_put_right_is_one_line(status: int, advice: str) -> None:
    bad = Bad(status, '{"error": {"message": "no\\nno"}}', {"Location": "http://127.0.0.1:9/"})
    with judge_server(lambda *_: bad) as server, pytest.raises(UserError, match=advice) as caught:
        local(server).ask(RATING)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_a_refusal_is_an_answer_without_words(sdk: str) -> None:
    with judge_server(lambda *_: None) as server:
        assert local(server, sdk).ask(RATING).text is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I would say 4.",
        '{"reason": "x", "coherence": 4',
        '{"reason": "x", "coherence": 6, "tone_alignment": 3}',
        '{"reason": "x", "coherence": NaN, "tone_alignment": 3}',
        '{"reason": "x", "coherence": 4.5, "tone_alignment": 3}',
        '{"reason": "x", "better": "first"}',
        "[4, 3]",
        "null",
    ],
)
def test_an_answer_that_does_not_fit_is_no_verdict(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|coherence|tone|better"):
        read_verdict(text, RATING.schema)


def test_a_verdict_may_stand_among_words() -> None:
    text = 'Sure {thing}: ```json\n{"reason": "a {b}", "coherence": 5, "tone_alignment": 1}\n``` Bye {'
    assert read_verdict(text, RATING.schema).model_dump() == {"reason": "a {b}", "coherence": 5, "tone_alignment": 1}
