"""`nvllm serve`; imports are inside it, as in `cli`."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tyro.conf import OmitArgPrefixes, Positional

from natural_video_llm.assets import STARTER
from natural_video_llm.errors import need_between
from natural_video_llm.preprocessing.options import DEFAULT_EXECUTION, Execution


def serve(
    run: Positional[Path] = Path(STARTER),
    host: str = "127.0.0.1",
    port: int = 8710,
    open: bool = False,
    token: str | None = None,
    record: Path | None = None,
    recipe: Path | None = None,
    sessions: int = 8,
    session_minutes: float = 240,
    ray: bool = False,
    replicas: int = 2,
    execution: OmitArgPrefixes[Execution] = DEFAULT_EXECUTION,
    weights: Literal["native", "int8", "int4"] = "native",
) -> None:
    """Serve the page, live conversations over WebSocket, and OpenAI's chat completions, until Ctrl-C.

    Args:
        run: a run folder; "starter" is the adapter that comes with the package, trained on sample speakers alone.
        host: address to listen on; 0.0.0.0 lets other machines in, who then need the token.
        port: to listen on.
        open: open the page in the browser.
        token: that clients must show; made up where other machines reach the port, none needed on this one alone.
        record: folder for recordings of live sessions, each made only with its person's consent; none by default.
        recipe: options of `nvllm train` in TOML for training from the page; by default some for a few minutes of one
            person. Its runs are written into the folder `runs` beside the recordings.
        sessions: conversations at a time, in each replica.
        session_minutes: how long one may last.
        ray: serve with several replicas, under Ray Serve (needs the extra `scale`).
        replicas: how many, with --ray.
        execution: of a neural encoder.
        weights: of the LLM's linear maps: native as they are, int8 or int4 for fewer bits, which a CPU reads faster.
    """
    from natural_video_llm.inference import server
    from natural_video_llm.inference.serving.guard import is_local
    from natural_video_llm.inference.serving.limits import Limits
    from natural_video_llm.inference.training_jobs import RECIPE
    from natural_video_llm.training.config_file import arguments_of

    if recipe is not None:
        arguments_of(recipe)
    need_between("--sessions", sessions, 1, 10_000)
    need_between("--session-minutes", session_minutes, 0.1, 1_000_000)
    need_between("--replicas", replicas, 1, 1000)
    service = server.Service(
        run=run,
        token=server.choose_token(host, token),
        local=is_local(host),
        record=record,
        recipe=recipe or RECIPE,
        limits=Limits(sessions=sessions, session_s=60 * session_minutes),
        execution=execution,
        weights=weights,
    )
    if ray:
        from natural_video_llm.inference.serve_on_ray import serve_on_ray

        serve_on_ray(service, host, port, replicas)
    else:
        server.serve(service, host, port, open)


SERVE_VERBS: dict[str, Callable[..., None]] = {"serve": serve}
