"""A web server on this machine, in the place of a data set's mirrors, and what tests of fetching share."""

import http.server
import threading
from pathlib import Path
from typing import Any


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock", ".verified.json"} if folder.exists() else set()


class Server:
    """A web server on this machine, whose requests ``answer`` answers."""

    def __init__(self) -> None:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Mirror(Server):
    """Serves some files, or one by any name, and notes what it is asked for; with the habits that web servers have."""

    def __init__(self, files: dict[str, bytes] | bytes, cut: float = 1.0, status: int = 404, **habits: Any) -> None:
        self.files, self.cut, self.status = files, cut, status
        self.ranges: bool = habits.get("ranges", True)
        self.length: bool = habits.get("length", True)
        self.breaks_after: int | None = habits.get("breaks_after")
        self.asked: list[str] = []
        self.answered: list[tuple[str | None, int]] = []
        super().__init__()
        self.url = f"{self.root}/folder"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name, wanted = request.path.removeprefix("/folder/"), request.headers["Range"]
        self.asked.append(name)
        whole = self.files.get(name) if isinstance(self.files, dict) else self.files
        begin = int(wanted[6:-1]) if wanted and self.ranges else 0
        status = self.status if whole is None else 416 if begin >= len(whole) else 206 if begin else 200
        self.answered.append((wanted, status))
        body = b"" if whole is None or status == 416 else whole[begin:]
        request.send_response(status)
        if whole is not None and begin:
            there = "*" if status == 416 else f"{begin}-{len(whole) - 1}"
            request.send_header("Content-Range", f"bytes {there}/{len(whole)}")
        if self.length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: int(len(body) * self.cut)][: self.breaks_after])
