"""Real judges: OpenAI's and Anthropic's own SDKs, and any address that speaks OpenAI's wire format."""

import base64
import importlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from natural_video_llm.errors import UserError, first_line
from natural_video_llm.evaluation.judging.rubric import Question

_OWN_ADDRESSES = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
# Another address than OpenAI's must not be handed OpenAI's key.
_OTHER_KEY = "NVLLM_JUDGE_API_KEY"
_SCHEMES = "openai:MODEL, anthropic:MODEL or http://HOST:PORT/v1#MODEL"


@dataclass(frozen=True)
class JudgeAddress:
    """Who judges: the SDK ("openai" or "anthropic"), the address that it calls, the model."""

    sdk: str
    base_url: str
    model: str

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""

    @property
    def is_this_machine(self) -> bool:
        """Whether what is sent stays on this machine: a loopback address."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        own = _OWN_ADDRESSES[self.sdk] == self.base_url
        return f"{self.sdk}:{self.model}" if own else f"{self.base_url}#{self.model}"


def parse_judge(name: str) -> JudgeAddress:
    """`openai:MODEL`, `anthropic:MODEL` or `URL#MODEL`.

    Raises:
        UserError: it is none of these.
    """
    if name.startswith(("http://", "https://")):
        url, _, model = name.partition("#")
        if model and urlsplit(url).hostname:
            return JudgeAddress("openai", url.rstrip("/"), model)
    sdk, _, model = name.partition(":")
    if sdk in _OWN_ADDRESSES and model:
        return JudgeAddress(sdk, _OWN_ADDRESSES[sdk], model)
    raise UserError(f"--judge {name}: no judge of that kind; give {_SCHEMES}")


@dataclass(frozen=True)
class Answer:
    """What came back: the judge's words (None where it refused), the whole body as it was, tokens in and out, and the
    temperature that it was asked for (None where the server refuses one)."""

    text: str | None
    body: str
    tokens_in: int
    tokens_out: int
    temperature: float | None = None


class NoAnswerError(Exception):
    """The judge could not be asked just now: time-out, too many requests, a broken line, half an answer."""


class Judge:
    """Asks one question at a time at temperature 0. The SDK tries again, waiting longer each time, or as long as the
    server's Retry-After says.

    Where a server refuses the temperature, or the schema, it is left out from then on; `dropped` says which.

    Args:
        max_tokens: of an answer, thinking included.
        timeout_s: of one try.
        retries: further tries after the first.

    Raises:
        UserError: the SDK is not installed, or there is no key.
    """

    def __init__(self, address: JudgeAddress, max_tokens: int = 1024, timeout_s: float = 120, retries: int = 4):
        self.address, self.max_tokens = address, max_tokens
        self.dropped: set[str] = set()
        self._wire = _WIRES[address.sdk]
        self._sdk = _import(address.sdk)
        self._client = _client(self._sdk, address, _key_of(address), timeout_s, retries)

    def ask(self, question: Question) -> Answer:
        """The judge's answer.

        Raises:
            NoAnswerError: there was none, after all tries; asking later may help.
            UserError: there will be none until a person has put something right.
        """
        while True:
            request = self._wire.request(self.address, question, self.max_tokens)
            kept = {name: value for name, value in request.items() if name not in self.dropped}
            try:
                body = self._wire.send(self._client, kept)
            except self._sdk.APIStatusError as error:
                refused = next((n for n in self._wire.optional if n in kept and n in str(error)), None)
                if error.status_code in (400, 422) and refused:
                    self.dropped.add(refused)
                    continue
                raise self._translated(error) from error
            except (self._sdk.APIError, ValueError, OSError) as error:
                raise NoAnswerError(first_line(error)) from error
            return replace(_read_body(body, self._wire.read), temperature=kept.get("temperature"))

    def _translated(self, error: Any) -> Exception:
        said = f"{self.address}: HTTP {error.status_code}, {first_line(error)}"
        if error.status_code in (401, 403):
            return UserError(f"{said}; check the key in {_key_name(self.address)}")
        if error.status_code in (408, 409, 429) or error.status_code >= 500:
            return NoAnswerError(said)
        return UserError(f"{said}; check the model's name, and give --send text to a judge that takes no pictures")


def _import(sdk: str) -> Any:
    try:
        return importlib.import_module(sdk)
    except ImportError as error:
        raise UserError(f"the {sdk} package is not installed; pip install 'natural-video-llm[judge]'") from error


def _key_name(address: JudgeAddress) -> str:
    return _KEYS[address.sdk] if address.base_url == _OWN_ADDRESSES[address.sdk] else _OTHER_KEY


def _key_of(address: JudgeAddress) -> str:
    name = _key_name(address)
    key = os.environ.get(name, "")
    if not key and name != _OTHER_KEY:
        raise UserError(f"no key for {address}: {name} is not set; set it, or name a local judge: {_SCHEMES}")
    return key or "none"


def _client(sdk: Any, address: JudgeAddress, key: str, timeout_s: float, retries: int) -> Any:
    # The address alone decides where faces go: neither a redirect nor, on this machine, a proxy.
    http = sdk.DefaultHttpxClient(follow_redirects=False, trust_env=not address.is_this_machine)
    make = sdk.OpenAI if address.sdk == "openai" else sdk.Anthropic
    return make(api_key=key, base_url=address.base_url, timeout=timeout_s, max_retries=retries, http_client=http)


def openai_request(address: JudgeAddress, question: Question, max_tokens: int) -> dict[str, Any]:
    """The parameters of a chat completion (`openai.types.chat.completion_create_params`)."""
    content: list[dict[str, Any]] = [{"type": "text", "text": question.text}]
    if question.picture:
        url = f"data:image/jpeg;base64,{base64.b64encode(question.picture).decode()}"
        content.insert(0, {"type": "image_url", "image_url": {"url": url}})
    schema = {"name": question.schema.__name__.lower(), "schema": question.schema.model_json_schema(), "strict": True}
    # OpenAI's newer models know the first name alone, many servers the second alone.
    limit = "max_completion_tokens" if address.base_url == _OWN_ADDRESSES["openai"] else "max_tokens"
    return {
        "model": address.model,
        "messages": [
            {"role": "system", "content": question.system},
            {"role": "user", "content": content if question.picture else question.text},
        ],
        "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": schema},
        limit: max_tokens,
    }


def anthropic_request(address: JudgeAddress, question: Question, max_tokens: int) -> dict[str, Any]:
    """The parameters of a message (`anthropic.types.message_create_params`), and the temperature, which the SDK's
    types no longer have: older models take it, newer ones refuse it."""
    content: list[dict[str, Any]] = [{"type": "text", "text": question.text}]
    if question.picture:
        data = base64.b64encode(question.picture).decode()
        source = {"type": "base64", "media_type": "image/jpeg", "data": data}
        content.insert(0, {"type": "image", "source": source})
    return {
        "model": address.model,
        "max_tokens": max_tokens,
        "system": question.system,
        "messages": [{"role": "user", "content": content}],
        "output_config": {"format": {"type": "json_schema", "schema": question.schema.model_json_schema()}},
        "temperature": 0,
    }


def _send_openai(client: Any, request: dict[str, Any]) -> str:
    return _text_of(client.chat.completions.with_raw_response.create(**request))


def _send_anthropic(client: Any, request: dict[str, Any]) -> str:
    named = {name: value for name, value in request.items() if name != "temperature"}
    extra = {"temperature": request["temperature"]} if "temperature" in request else {}
    return _text_of(client.messages.with_raw_response.create(**named, extra_body=extra))


def _text_of(response: Any) -> str:
    return str(response.http_response.text)


def _read_openai(body: dict[str, Any]) -> Answer:
    message, usage = body["choices"][0]["message"], body.get("usage") or {}
    text = None if message.get("refusal") else message["content"] or ""
    return Answer(text, "", int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))


def _read_anthropic(body: dict[str, Any]) -> Answer:
    text = "".join(part["text"] for part in body["content"] if part["type"] == "text")
    usage = body["usage"]
    refused = body.get("stop_reason") == "refusal"
    return Answer(None if refused else text, "", int(usage["input_tokens"]), int(usage["output_tokens"]))


def _read_body(body: str, read: Callable[[dict[str, Any]], Answer]) -> Answer:
    try:
        answer = read(json.loads(body))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise NoAnswerError(f"the server's answer is no whole answer ({type(error).__name__})") from error
    return replace(answer, body=body)


@dataclass(frozen=True)
class _Wire:
    """How one SDK is spoken to; `optional` parameters are left out where a server refuses them by name."""

    request: Callable[[JudgeAddress, Question, int], dict[str, Any]]
    send: Callable[[Any, dict[str, Any]], str]
    read: Callable[[dict[str, Any]], Answer]
    optional: tuple[str, ...]


_WIRES = {
    "openai": _Wire(openai_request, _send_openai, _read_openai, ("temperature", "response_format")),
    "anthropic": _Wire(anthropic_request, _send_anthropic, _read_anthropic, ("temperature", "output_config")),
}
