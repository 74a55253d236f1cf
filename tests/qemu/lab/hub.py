"""A hub is a folder behind any web server. This one counts and can hand out other bytes than the
folder holds, or nothing at all."""
import functools
import http.server
import threading

from . import ports


class Hub:
    """altered: {path below the root: bytes, None for 404, or a function of the request handler that answers as it likes}.
    paths: what was asked for."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = ports.free()
        self.altered = {}
        self.paths = []
        self.away = False  # True: every connection is closed without a word
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                if outer.away:
                    self.close_connection = True
                    return
                path = self.path.lstrip("/")
                outer.paths.append(path)
                if path not in outer.altered:
                    super().do_GET()
                    return
                data = outer.altered[path]
                if callable(data):
                    self.close_connection = True
                    data(self)
                    return
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request, client_address):
                pass

        self._server = Server(("127.0.0.1", self.port),
                              functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
