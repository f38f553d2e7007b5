"""Training, runs and the model of new conversations, over HTTP; the routes below /api that the page trains with."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel

from natural_video_llm.errors import UserError
from natural_video_llm.inference.serving.model_switch import ModelSwitch
from natural_video_llm.inference.training_jobs import Job, Run, TrainingJobs
from natural_video_llm.run_folder import REPORT_FILE

# The report is a page of its own with one script, which its own policy names by digest; it shares nothing with this
# server's origin, and may stand in a frame of the page.
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_Responses = dict[int | str, dict[str, Any]]
_NEEDS_TOKEN: _Responses = {401: {"description": "A token is needed"}}
_REFUSED = _NEEDS_TOKEN | {
    400: {"description": "The request is not valid"},
    409: {"description": "It cannot be done now"},
}
_GONE = _REFUSED | {404: {"description": "No such run"}}


class TrainingState(BaseModel):
    """`possible`: this server can train. `job` is the one that runs, or the last one."""

    possible: bool
    job: Job | None


class TrainingWish(BaseModel):
    """New training on `sessions`, or `go_on` with a run that was broken off."""

    sessions: list[str] = []
    hold_out: bool = True
    go_on: str | None = None


class RunList(BaseModel):
    """Newest first."""

    runs: list[Run]


class ModelWish(BaseModel):
    """A run's id; null is the model that the server was started with."""

    run: str | None


class ModelState(BaseModel):
    """What new conversations get: `model` by name, `run` by id. `first_model` is what the server was started with."""

    model: str
    run: str | None
    first_model: str


def training_router(jobs: TrainingJobs | None, switch: ModelSwitch) -> APIRouter:
    """The routes below /api/training, /api/runs and /api/model.

    Args:
        jobs: None where this server cannot train.
    """
    router = APIRouter(prefix="/api", tags=["training"])
    for part in (_training_routes(jobs), _run_routes(jobs, switch), _model_routes(jobs, switch)):
        router.include_router(part)
    return router


def _training_routes(jobs: TrainingJobs | None) -> APIRouter:
    router = APIRouter(prefix="/training")

    def state() -> TrainingState:
        return TrainingState(possible=jobs is not None, job=jobs.job if jobs else None)

    @router.get("", responses=_NEEDS_TOKEN)
    def training() -> TrainingState:
        return state()

    @router.post("", status_code=202, responses=_REFUSED)
    def begin_training(wish: TrainingWish) -> TrainingState:
        if jobs is None:
            raise HTTPException(409, "this server cannot train; start it with --record FOLDER, without --ray")
        if wish.go_on is not None:
            jobs.go_on(wish.go_on)
        else:
            jobs.start(wish.sessions, wish.hold_out)
        return state()

    @router.delete("", responses=_NEEDS_TOKEN)
    def stop_training() -> TrainingState:
        if jobs is not None:
            jobs.stop()
        return state()

    return router


def _run_routes(jobs: TrainingJobs | None, switch: ModelSwitch) -> APIRouter:
    router = APIRouter(prefix="/runs")

    @router.get("", responses=_NEEDS_TOKEN)
    def list_runs() -> RunList:
        return RunList(runs=[] if jobs is None else jobs.list_runs())

    @router.delete("/{run_id}", status_code=204, responses=_GONE)
    def delete_run(run_id: str) -> None:
        known, _ = _found(jobs, run_id)
        if switch.run == run_id:
            raise UserError(f"{run_id} is what new conversations get; go back to another model first")
        known.delete(run_id)

    @router.get("/{run_id}/report", responses=_GONE, response_class=FileResponse)
    def report(run_id: str) -> FileResponse:
        file = _found(jobs, run_id)[1] / REPORT_FILE
        if not file.is_file():
            raise HTTPException(404, "There is no report of this run.")
        return FileResponse(file, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})

    return router


def _model_routes(jobs: TrainingJobs | None, switch: ModelSwitch) -> APIRouter:
    router = APIRouter(prefix="/model")

    def state() -> ModelState:
        return ModelState(model=switch.model, run=switch.run, first_model=switch.first_model)

    @router.get("", responses=_NEEDS_TOKEN)
    def model() -> ModelState:
        return state()

    @router.put("", responses=_GONE)
    async def switch_model(wish: ModelWish) -> ModelState:
        await switch.to(None if wish.run is None else _found(jobs, wish.run)[1])
        return state()

    return router


def _found(jobs: TrainingJobs | None, run_id: str) -> tuple[TrainingJobs, Path]:
    """What knows the run, and its folder; 404 where it is gone, and where this server trains nothing."""
    folder = None if jobs is None else jobs.folder(run_id)
    if jobs is None or folder is None:
        raise HTTPException(404, "There is no such run any more.")
    return jobs, folder
