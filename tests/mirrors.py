"""A web server on this machine, in the place of a data set's mirrors, and what tests of fetching share."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path


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
    """Serves some files and notes what it is asked for."""

    def __init__(self, files: dict[str, bytes], cut: float = 1.0, status: int = 404) -> None:
        self.files, self.cut, self.status = files, cut, status
        self.asked: list[str] = []
        super().__init__()
        self.url = f"{self.root}/folder"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name = request.path.removeprefix("/folder/")
        self.asked.append(name)
        if name not in self.files:
            request.send_error(self.status)
            return
        body = self.files[name]
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: int(len(body) * self.cut)])
