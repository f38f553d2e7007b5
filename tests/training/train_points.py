"""`nvllm` with one more kind of encoder, "points", whose latents tests make up; a script, for launchers to start."""

from natural_video_llm.cli import main
from natural_video_llm.preprocessing import encoders


def add_points() -> None:
    """Make "points" a kind of encoder that is never run and has no mirror."""
    encoders._KINDS["points"] = encoders._KINDS["face-geometry"]


if __name__ == "__main__":
    add_points()
    main()
