"""Training, runs and the model of new conversations, over HTTP; the routes below /api that the page trains with."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel

from natural_video_llm.errors import UserError
from natural_video_llm.inference.serving.model_switch import ModelSwitch
from natural_video_llm.inference.training_jobs import Job, Run, TrainingJobs
from natural_video_llm.sessions.deletion import REPORT_FILE

# The report is a page of its own with one script, which its own policy names by digest; it shares nothing with this
# server's origin, and may stand in a frame of the page.
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


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
    needs_token: dict[int | str, dict[str, Any]] = {401: {"description": "A token is needed"}}
    refused = needs_token | {
        400: {"description": "The request is not valid"},
        409: {"description": "It cannot be done now"},
    }
    gone = refused | {404: {"description": "No such run"}}

    def needed() -> TrainingJobs:
        if jobs is None:
            raise HTTPException(409, "this server cannot train; start it with --record FOLDER, without --ray")
        return jobs

    def folder_of(run_id: str) -> Path:
        folder = None if jobs is None else jobs.folder(run_id)
        if folder is None:
            raise HTTPException(404, "There is no such run any more.")
        return folder

    def state() -> TrainingState:
        return TrainingState(possible=jobs is not None, job=jobs.job if jobs else None)

    def model_state() -> ModelState:
        return ModelState(model=switch.model, run=switch.run, first_model=switch.first_model)

    @router.get("/training", responses=needs_token)
    def training() -> TrainingState:
        return state()

    @router.post("/training", status_code=202, responses=refused)
    def begin_training(wish: TrainingWish) -> TrainingState:
        if wish.go_on is not None:
            needed().go_on(wish.go_on)
        else:
            needed().start(wish.sessions, wish.hold_out)
        return state()

    @router.delete("/training", responses=needs_token)
    def stop_training() -> TrainingState:
        if jobs is not None:
            jobs.stop()
        return state()

    @router.get("/runs", responses=needs_token)
    def list_runs() -> RunList:
        return RunList(runs=[] if jobs is None else jobs.list_runs())

    @router.delete("/runs/{run_id}", status_code=204, responses=gone)
    def delete_run(run_id: str) -> None:
        folder_of(run_id)
        if switch.run == run_id:
            raise UserError(f"{run_id} is what new conversations get; go back to another model first")
        needed().delete(run_id)

    @router.get("/runs/{run_id}/report", responses=gone, response_class=FileResponse)
    def report(run_id: str) -> FileResponse:
        file = folder_of(run_id) / REPORT_FILE
        if not file.is_file():
            raise HTTPException(404, "There is no report of this run.")
        return FileResponse(file, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})

    @router.get("/model", responses=needs_token)
    def model() -> ModelState:
        return model_state()

    @router.put("/model", responses=gone)
    async def switch_model(wish: ModelWish) -> ModelState:
        await switch.to(None if wish.run is None else folder_of(wish.run))
        return model_state()

    return router
