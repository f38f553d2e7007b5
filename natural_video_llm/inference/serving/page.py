"""The page's own files; nothing of a person is in them, so they need no token."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from natural_video_llm.assets import face_landmarker_file

PAGE_FOLDER = Path(__file__).resolve().parents[2] / "web_dist"
BUILD_PAGE = "in the source tree, pip install . again, or make web after an editable install"
_NO_PAGE = (
    f"<!doctype html><title>Natural Video LLM</title><p>The page is not built: {BUILD_PAGE}. The API is at "
    "<code>/v1</code>.</p>"
)


_UNCHANGING = {"Cache-Control": "public, max-age=31536000, immutable"}  # a digest of the content is in the name
_ASKED_ANEW = {"Cache-Control": "no-cache"}


class _Files(StaticFiles):
    """A folder, each of its files with `headers`."""

    def __init__(self, folder: Path, headers: dict[str, str]):
        super().__init__(directory=folder)
        self._headers = headers

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(self._headers if response.status_code == 200 else _ASKED_ANEW)
        return response


def page_is_built() -> bool:
    return (PAGE_FOLDER / "index.html").is_file()


def add_page(app: FastAPI) -> None:
    """Serve the built page at `/`, or a line that says how to build it; to be called after all other routes."""
    assets = APIRouter(include_in_schema=False)

    @assets.get("/assets/face_landmarker.task")
    def face_landmarker() -> FileResponse:
        file = face_landmarker_file()
        if not file.is_file():
            raise HTTPException(404)
        return FileResponse(file, media_type="application/octet-stream", headers={"Cache-Control": "max-age=86400"})

    if not page_is_built():

        @assets.get("/")
        def no_page() -> HTMLResponse:
            return HTMLResponse(_NO_PAGE)

    else:
        for file in sorted(PAGE_FOLDER.glob("[!.]*.*")):
            _add_file(assets, file)
    app.include_router(assets)
    for name, headers in (("app", _UNCHANGING), ("wasm", _ASKED_ANEW)):
        if (PAGE_FOLDER / name).is_dir():
            app.mount(f"/{name}", _Files(PAGE_FOLDER / name, headers))


def _add_file(router: APIRouter, file: Path) -> None:
    """A route of its own for each file beside the folders: a mount at `/` would answer 405 for all other routes."""

    @router.get("/" if file.name == "index.html" else f"/{file.name}")
    def page_file() -> FileResponse:
        return FileResponse(file, headers=_ASKED_ANEW)
