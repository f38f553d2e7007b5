"""/v1/chat/completions as OpenAI has it: what is taken, and what is answered."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from natural_video_llm.inference.serving.messages import MOST_OUTPUT_TOKENS, OutputTokens, Seed, Temperature

MOST_TEXT_CHARS = 20_000
Text = Annotated[str, Field(max_length=MOST_TEXT_CHARS)]
Url = Annotated[str, Field(description="data:…;base64,… — other addresses are not opened")]


class TextPart(BaseModel):
    type: Literal["text"]
    text: Text


class ImageUrl(BaseModel):
    url: Url


class ImagePart(BaseModel):
    """A picture of the face that the message was written with: JPEG, PNG or WebP."""

    type: Literal["image_url"]
    image_url: ImageUrl


class VideoUrl(BaseModel):
    url: Url


class VideoPart(BaseModel):
    """A clip of the face that the message was written with: MP4, WebM or MPEG, at most a minute."""

    type: Literal["video_url"]
    video_url: VideoUrl


class InputVideo(BaseModel):
    data: Annotated[str, Field(description="base64")]


class InputVideoPart(BaseModel):
    """As `video_url`, the content without an address around it."""

    type: Literal["input_video"]
    input_video: InputVideo


Part = Annotated[TextPart | ImagePart | VideoPart | InputVideoPart, Field(discriminator="type")]


class ChatMessage(BaseModel):
    """The LLM knows two roles: what a system or developer message says is read as the user's."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], Field(max_length=50)]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def face(self) -> "list[ImagePart | VideoPart | InputVideoPart]":
        """Its pictures and clips, in order."""
        return [] if isinstance(self.content, str) else [p for p in self.content if not isinstance(p, TextPart)]


_OF_A_PERSON = {
    "type": "object",
    "properties": {"role": {"enum": ["system", "developer", "user"]}},
    "required": ["role"],
}


def _with_a_person(messages: list[ChatMessage]) -> list[ChatMessage]:
    if all(message.role == "assistant" for message in messages):
        raise ValueError("the assistant's own messages alone cannot be answered; send one of the user's")
    return messages


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """Fields of OpenAI's that are not here are ignored."""

    model: str
    messages: Annotated[
        list[ChatMessage],
        Field(min_length=1, max_length=500, json_schema_extra={"contains": _OF_A_PERSON}),
        AfterValidator(_with_a_person),
    ]
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    seed: Seed | None = None
    max_tokens: OutputTokens | None = None
    max_completion_tokens: Annotated[
        OutputTokens | None, Field(description=f"in place of max_tokens; at most {MOST_OUTPUT_TOKENS}")
    ] = None
    stop: (
        Annotated[str, Field(min_length=1, max_length=100)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=4)]
        | None
    ) = None
    n: Literal[1] | None = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())


FinishReason = Literal["stop", "length"]


class Answer(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    index: int = 0
    message: Answer
    finish_reason: FinishReason
    logprobs: None = None


class CompletionUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class FaceUse(BaseModel):
    """Of our own: how many frames were looked at, whether a face was in the last ones, and how far it moved the reply's
    tokens, in bits."""

    frames: int
    seen: bool
    moved_bits: float


class Completion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    face: FaceUse


class Delta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    index: int = 0
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: None = None


class Chunk(BaseModel):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | None = None


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "natural-video-llm"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    error: ErrorBody
