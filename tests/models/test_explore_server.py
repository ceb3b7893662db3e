"""The web server of `gankern explore` answers its own page and nobody else."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from small_checkpoints import checkpoint

from gankern.models.explore_server import Explorer
from gankern.models.explore_view import Studio
from gankern.models.trained import Trained

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Explorer]:
    studio = Studio(Trained(checkpoint("stylegan2").G_ema, "stylegan2"), "model")
    with Explorer(studio, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server: Explorer, path: str, host: str | None = None, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a path as it is, with a Host header of one's choice."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    result = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return result


def test_the_page_may_run_its_own_script_alone(server: Explorer) -> None:
    status, headers, body = get(server, server.prefix)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
    assert body.decode().count(f'nonce="{nonce}"') == 2
    assert "NONCE" not in body.decode()
    assert not re.search(r"(src|href)=\"(?!data:)", body.decode())  # nothing is fetched from elsewhere
    assert get(server, server.prefix)[1]["Content-Security-Policy"] != policy


def test_images_and_the_model_are_served_with_safe_headers(server: Explorer) -> None:
    status, headers, body = get(server, server.prefix + "image?seed=3&psi=0.7")
    assert (status, headers["Content-Type"], body[:8]) == (200, "image/png", PNG)
    assert body != get(server, server.prefix + "image?seed=4&psi=0.7")[2]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert not [name for name in headers if name.lower().startswith("access-control")]
    status, _, body = get(server, server.prefix + "model", host=f"localhost:{server.server_port}")
    assert (status, json.loads(body)["family"]) == (200, "stylegan2")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil:{port}"]
)
def test_another_host_name_is_refused(server: Explorer, host: str) -> None:
    status, _, body = get(server, server.prefix + "image", host=host.format(port=server.server_port))
    assert (status, body) == (403, b"this page is for the computer that it runs on\n")


def raw(server: Explorer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_no_host_name_and_two_of_them_are_refused(server: Explorer) -> None:
    line, host = f"GET {server.prefix} HTTP/1.1\r\n", f"Host: 127.0.0.1:{server.server_port}\r\n"
    assert raw(server, f"{line}{host}\r\n".encode()).startswith(b"HTTP/1.1 200 ")
    assert raw(server, f"{line}\r\n".encode()).startswith(b"HTTP/1.1 403 ")
    assert raw(server, f"{line}{host}Host: evil.example\r\n\r\n".encode()).startswith(b"HTTP/1.1 403 ")


def test_a_wrong_or_missing_secret_finds_nothing(server: Explorer) -> None:
    wrong = "/" + "A" * (len(server.prefix) - 2) + "/"
    for path in ("/", "/image", "/model", wrong, f"{wrong}image", server.prefix[:-1], f"/x{server.prefix}image"):
        assert get(server, path)[0] == 404, path
    assert len(server.prefix) >= 22


@pytest.mark.parametrize(
    "path",
    ["explore.html", "../trained.py", "..%2f..%2fetc/passwd", "image/", "image/../model", "%69mage", "\xe4"],
)
def test_there_is_nothing_else(server: Explorer, path: str) -> None:
    request = f"GET {server.prefix}{path} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode("latin-1")
    assert raw(server, request).startswith(b"HTTP/1.1 404 ")


def test_wrong_parameters_are_told_in_a_line(server: Explorer) -> None:
    for query in ("seed=x", "psi=inf", "unknown=1", "noise=<script>", "grid=99", "class=3"):
        status, headers, body = get(server, server.prefix + "image?" + query)
        assert (status, headers["Content-Type"], body.count(b"\n")) == (400, "text/plain; charset=utf-8", 1), query


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_only_get_is_answered(server: Explorer, method: str) -> None:
    assert get(server, server.prefix + "image", method=method)[0] == 501


def test_what_cannot_be_drawn_is_told_and_the_server_goes_on(server: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(query: str) -> bytes:
        raise RuntimeError("out of memory\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(server.studio, "png", fail)
        assert get(server, server.prefix + "image")[::2] == (500, b"cannot draw this (out of memory)\n")
    assert get(server, server.prefix + "image")[0] == 200


def test_many_ask_at_once_and_one_is_drawn_at_a_time(server: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing: list[int] = []
    most: list[int] = []
    png = server.studio.png

    def counted(query: str) -> bytes:
        drawing.append(1)
        most.append(len(drawing))
        try:
            return png(query)
        finally:
            drawing.pop()

    monkeypatch.setattr(server.studio, "png", counted)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: get(server, f"{server.prefix}image?seed={i % 4}"), range(16)))
    assert [status for status, _, _ in answers] == [200] * 16
    assert max(most) == 1
    assert len({body for _, _, body in answers}) == 4


def test_a_browser_that_hangs_up_is_no_error(server: Explorer, capfd: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    for _ in range(5):
        connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=30)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # so that close() resets it
        connection.sendall(f"GET {server.prefix}image?grid=4 HTTP/1.1\r\nHost: 127".encode())
        connection.close()
    assert get(server, server.prefix + "image")[0] == 200  # the others have been answered, or are being
    while threading.active_count() > before:
        time.sleep(0.01)
    assert capfd.readouterr().err == ""


def test_a_port_that_cannot_be_had_is_one_clear_line(server: Explorer) -> None:
    with pytest.raises(ValueError, match=f"--port {server.server_port} is in use; 0 takes a free one"):
        Explorer(server.studio, server.server_port)
    with pytest.raises(ValueError, match="--port must be from 0 to 65535, got 65536"):
        Explorer(server.studio, 65536)


def test_it_listens_on_this_computer_alone(server: Explorer) -> None:
    assert server.server_address[0] == "127.0.0.1"
