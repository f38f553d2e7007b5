"""`python -m natural_video_llm` is `nvllm`, for launchers that start modules."""

from natural_video_llm.cli import main

if __name__ == "__main__":
    main()
