"""The page's own files; nothing of a person is in them, so they need no token."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from natural_video_llm.assets import face_landmarker_file

PAGE_FOLDER = Path(__file__).resolve().parents[2] / "web_dist"
_NO_PAGE = (
    "<!doctype html><title>Natural Video LLM</title><p>The page is not built. In the source tree run: "
    "<code>cd web &amp;&amp; npm ci &amp;&amp; npm run build</code>. The API is at <code>/v1</code>.</p>"
)


class _Files(StaticFiles):
    """Files whose names hold a digest of their content never change; the others are asked for anew."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        fixed = path.startswith("app/") and response.status_code == 200
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if fixed else "no-cache"
        return response


def add_page(app: FastAPI) -> None:
    """Serve the built page at `/`, or a line that says how to build it; to be called after all other routes."""
    assets = APIRouter(include_in_schema=False)

    @assets.get("/assets/face_landmarker.task")
    def face_landmarker() -> FileResponse:
        file = face_landmarker_file()
        if not file.is_file():
            raise HTTPException(404)
        return FileResponse(file, media_type="application/octet-stream", headers={"Cache-Control": "max-age=86400"})

    if not PAGE_FOLDER.is_dir():

        @assets.get("/")
        def no_page() -> HTMLResponse:
            return HTMLResponse(_NO_PAGE)

    app.include_router(assets)
    if PAGE_FOLDER.is_dir():
        app.mount("/", _Files(directory=PAGE_FOLDER, html=True))
