"""A program that is started as llama-server is, and finds one token as probable as it is told."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

PROGRAM = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.support.other_program import serve
serve(sys.argv, @)
"""


def write_program(path: Path, logprob: float | None) -> Path:
    """A program that holds every token so probable; None: that breaks off at the second question."""
    path.write_text(PROGRAM.replace("@", repr(logprob)))
    path.chmod(0o755)
    return path


def serve(arguments: list[str], logprob: float | None) -> None:
    """Answer until somebody ends the process."""
    n_asked = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"build_info": "other"})

        def do_POST(self) -> None:
            nonlocal n_asked
            n_asked += 1
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if logprob is None and n_asked > 1:
                sys.exit(3)
            [[token_id, _]] = asked["logit_bias"]
            one = {"id": token_id, "logprob": logprob or 0.0}
            self.answer({"completion_probabilities": [{**one, "top_logprobs": [one]}]})

        def answer(self, document: object) -> None:
            content = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    port = int(arguments[arguments.index("--port") + 1])
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()
