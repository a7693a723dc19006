"""A web server in a thread, for tests of downloads: it can break off, know no ranges or lengths, or be out of order."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Files:
    """What the server does. files: path to content. breaks: how many answers stop half way from here on. ranges:
    whether it knows them. lengths: whether it tells how much it sends. begins: where its answers to requests for a
    range begin, if not where they should; -1: it does not say. kind: the content type. status: what it answers
    instead, if not 0. asked: the Range of every request, in order."""

    files: dict[str, bytes] = field(default_factory=dict)
    breaks: int = 0
    ranges: bool = True
    lengths: bool = True
    begins: int | None = None
    kind: str = "application/octet-stream"
    status: int = 0
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Files]:
    """A server of these files while the block runs."""
    state = Files({f"/{name}": content for name, content in files.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            content = state.files.get(self.path)
            if state.status or content is None:
                self.send_error(state.status or 404)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and state.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                start = start if state.begins is None else state.begins
                if start >= 0:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                start = max(0, start)
            self.send_header("Content-Type", state.kind)
            if state.lengths:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = len(content)
            if state.breaks:
                state.breaks -= 1
                end = start + (end - start) // 2
            self.wfile.write(content[start:end])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
