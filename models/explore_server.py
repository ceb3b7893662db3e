"""The web server of `gankern explore`: one page, for this computer alone.

Whoever knows the address may ask for images: no other page in the same browser knows it, since it has a secret in it. A
foreign name that leads to this computer is refused by its `Host` header.
"""

from __future__ import annotations

import errno
import hmac
import json
import secrets
import sys
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from .explore_view import Studio

ADDRESS = "127.0.0.1"


class Explorer(ThreadingHTTPServer):
    """Serves the page at `url`; images are drawn one after the other.

    Args:
        studio: Draws the images.
        port: 0 for a free one.

    Raises:
        ValueError: The port is taken or none.
    """

    daemon_threads = True

    def __init__(self, studio: Studio, port: int) -> None:
        if not 0 <= port < 1 << 16:
            raise ValueError(f"--port must be from 0 to 65535, got {port}")
        self.artist = ThreadPoolExecutor(1, "draw")  # of one thread: OpenMP would start its threads for each anew
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            raise ValueError(f"--port {port} {reason}; 0 takes a free one") from error
        self.studio = studio
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        self.prefix = f"/{secrets.token_urlsafe(16)}/"
        self.url = f"http://{ADDRESS}:{self.server_port}{self.prefix}"
        self.page = files("gankern.models").joinpath("explore.html").read_text("utf-8")

    def server_close(self) -> None:
        """Ends with the image that is being drawn."""
        super().server_close()
        self.artist.shutdown(cancel_futures=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints what went wrong, unless it is that a browser hung up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers GET for the page, what it has to know of the model, and images."""

    server: Explorer
    server_version, sys_version = "gankern", ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a connection may be silent

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        prefix, hosts = self.server.prefix, self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            self._say(HTTPStatus.FORBIDDEN, "this page is for the computer that it runs on")
        elif not hmac.compare_digest(path[: len(prefix)].encode(), prefix.encode()):
            self._say(HTTPStatus.NOT_FOUND, "there is nothing here: the address that gankern explore printed is longer")
        elif path == prefix:
            self._send_page()
        elif path == prefix + "model":
            self._send(HTTPStatus.OK, "application/json", json.dumps(self.server.studio.about()).encode())
        elif path == prefix + "image":
            self._send_image(query)
        else:
            self._say(HTTPStatus.NOT_FOUND, "there is no such page")

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        allowed = {"default-src": "'none'", "connect-src": "'self'", "img-src": "blob: data:", "base-uri": "'none'"}
        allowed |= {kind: f"'nonce-{nonce}'" for kind in ("script-src", "style-src")}
        allowed |= {"form-action": "'none'", "frame-ancestors": "'none'"}
        policy = "; ".join(f"{what} {value}" for what, value in allowed.items())
        body = self.server.page.replace("NONCE", nonce).encode()
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", body, {"Content-Security-Policy": policy})

    def _send_image(self, query: str) -> None:
        try:
            png = self.server.artist.submit(self.server.studio.png, query).result()
        except ValueError as error:
            self._say(HTTPStatus.BAD_REQUEST, str(error))
        except (RuntimeError, MemoryError, CancelledError) as error:  # too many pixels at once, or it is ending
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, f"cannot draw this ({str(error).partition(chr(10))[0]})")
        else:
            self._send(HTTPStatus.OK, "image/png", png)

    def _say(self, status: HTTPStatus, line: str) -> None:
        self._send(status, "text/plain; charset=utf-8", f"{line}\n".encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        with suppress(ConnectionError):  # the browser no longer wants it
            self.send_response(status)
            own = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
            own |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
            own |= {"Cross-Origin-Resource-Policy": "same-origin", **(headers or {})}
            for name, value in own.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's."""
