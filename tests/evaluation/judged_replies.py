"""Made-up replies of made-up people, as `nvllm eval` would have written them."""

from pathlib import Path

from natural_video_llm.evaluation.reply_records import GeneratedReply, Turn, write_replies

TEXTS = {
    "true": "I am glad that the garden party went so well.",
    "none": "Nice.",
    "other person": "Oh, the rain again.",
}


def make_replies(people: int = 3, messages: int = 2, faces: tuple[str, ...] = tuple(TEXTS)) -> list[GeneratedReply]:
    """Under each face another text, which names the message so that no two are alike."""
    return [
        GeneratedReply(
            session_id=f"s{person}",
            person=f"p{person}",
            context=[Turn(speaker="partner", text="How was your day?")],
            message=f"We had party number {number}.",
            human_reply="How lovely!",
            face=face,
            reply=f"{TEXTS[face]} ({person}.{number})",
            seed=number,
            moved_bits=0.1,
            begins_s=10.0 * number + 4,
            span_s=(10.0 * number + 1, 10.0 * number + 5),
        )
        for person in range(people)
        for number in range(messages)
        for face in faces
    ]


def make_run(folder: Path, replies: list[GeneratedReply] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_replies(make_replies() if replies is None else replies, folder)
    return folder
