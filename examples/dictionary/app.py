"""A reverse dictionary: describe a thing, get the word. A small web server over an s3vector collection.

usage: app.py --database CONNINFO [--port N] [--embeddings X.npy --definitions X.tsv.gz]

Fills the collection `dictionary` when there is none, from the sample in demo/data or from the files
given. Listens on loopback. `make dictionary` starts it on a database of its own.
"""

import argparse
import base64
import hashlib
import re
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg
from flask import Flask, abort, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

sys.path.insert(0, str(Path(__file__).parent.parent))

import embedding
import sample
from dictionary import Dictionary

HERE = Path(__file__).parent
PARTS = ("noun", "verb", "adj", "adv")
LIMIT = 12
# Longer texts are cut by the model anyway.
LONGEST = 2000


def create_app(dictionary, model):
    """The web application."""
    app = Flask(__name__)
    app.json.sort_keys = False
    page = (HERE / "page.html").read_text(encoding="utf-8")
    # The page is one file: its own script and style run, nothing else does, whatever a definition holds.
    script = re.search("<script>(.*)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    @app.get("/")
    def show():
        return page

    @app.get("/about")
    def about():
        return jsonify(dictionary.about())

    @app.get("/search")
    def search():
        text, part = request.args.get("q", "").strip(), request.args.get("part", "")
        if not text or len(text) > LONGEST or part not in ("", *PARTS):
            abort(400)
        start = time.perf_counter()
        vector, = model.embed([text])
        embedded = (time.perf_counter() - start) * 1e3
        answers, cost = dictionary.search(vector, {"part": part} if part else {}, LIMIT)
        return jsonify(answers=answers, cost={"embedding": embedded, **cost})

    @app.after_request
    def protect(response):
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    return app


class Quiet(WSGIRequestHandler):
    """Logs no requests."""

    def log_request(self, *arguments):
        pass


def fill(dictionary, entries, vectors):
    start = time.perf_counter()
    dictionary.load(entries, vectors)
    print(f"  {len(entries):,} definitions added ({time.perf_counter() - start:.1f}s)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--database", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--definitions", type=Path)
    options = parser.parse_args()
    if (options.embeddings is None) != (options.definitions is None):
        parser.error("--embeddings and --definitions belong together")

    # As Ctrl-C does; whoever started this may send it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with closing(Dictionary(options.database)) as dictionary:
            if not dictionary.exists():
                fill(dictionary, *sample.read(options.embeddings, options.definitions))
            app = create_app(dictionary, embedding.Model())
            with make_server("127.0.0.1", options.port, app, threaded=True, request_handler=Quiet) as server:
                print(f"  the dictionary is open at http://127.0.0.1:{server.port}/   (Ctrl-C ends it)", flush=True)
                server.serve_forever()
    except psycopg.OperationalError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(flush=True)


if __name__ == "__main__":
    main()
