"""Who may talk to the server: whoever has the token, and no page of another site."""

import re
import secrets
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import HTTPException, WebSocket
from fastapi.security import HTTPAuthorizationCredentials
from fastapi.security.http import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Scripts, workers and connections of this server alone; WebAssembly and blobs are what finding the face needs.
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_HEADERS = {
    "Cache-Control": "no-store",  # what is deleted here must not stay in a browser
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_plain_name(name: str) -> bool:
    """Whether `name`, which a client gave, stands for a file or folder right below where it is looked for."""
    return _PLAIN_NAME.fullmatch(name) is not None


class TokenGuard:
    """A dependency of every route: the token as `Authorization: Bearer` or `?token=`. The page's own files, /healthz,
    /readyz and /openapi.json hold nothing of anybody, and need none.

    Args:
        token: None lets everyone in.
    """

    def __init__(self, token: str | None):
        self._token = token

    async def __call__(self, request: Request) -> None:
        if not self.lets_in(request):
            raise HTTPException(401, "a token is needed", {"WWW-Authenticate": "Bearer"})

    def lets_in(self, connection: HTTPConnection) -> bool:
        if self._token is None:
            return True
        kind, _, given = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = connection.query_params.get("token", "")
        return secrets.compare_digest(given.strip().encode(), self._token.encode())


class TokenScheme(HTTPBearer):
    """Says in the OpenAPI schema that a token is asked for; `TokenGuard` does it."""

    def __init__(self) -> None:
        super().__init__(auto_error=False, description="The token that the server was started with.")

    async def __call__(self, request: HTTPConnection) -> HTTPAuthorizationCredentials | None:
        return None


async def deny(websocket: WebSocket) -> None:
    """Refuse a connection that has not begun."""
    await websocket.send_denial_response(JSONResponse({"detail": "a token is needed"}, 401))


class SameSite:
    """Refuses requests that pages of other sites send, and bodies that are too large; adds the headers that keep a page
    in its bounds.

    A browser names the page's site as Origin, which must be the one that is asked. Without a token the Host must be a
    name of this machine as well: another site may have its name point here (DNS rebinding).

    Args:
        only_local: the Host must be a name of this machine.
        most_bytes: the largest body.
    """

    def __init__(self, app: ASGIApp, only_local: bool, most_bytes: int):
        self._app, self._only_local, self._most_bytes = app, only_local, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(headers)
        if refusal is not None and scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(refusal)
        elif refusal is not None:
            await refusal(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, self._bounded(receive), _with_headers(send))

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._only_local and not is_local(_name(host)):
            return _refused(403, "this server answers to the names of this machine only")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return _refused(403, "pages of other sites may not use this server")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most_bytes:
            return _refused(413, f"the body may have {self._most_bytes} bytes")
        return None

    def _bounded(self, receive: Receive) -> Receive:
        came = 0

        async def bounded() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most_bytes:
                raise HTTPException(413, f"the body may have {self._most_bytes} bytes")
            return message

        return bounded


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _refused(status: int, why: str) -> JSONResponse:
    error = {"message": why, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status, {"Connection": "close"} if status == 413 else None)


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return with_headers
