#!/usr/bin/env python3
"""moto's S3, IAM and STS behind a front that is as strict as AWS, and fails on request.

    moto_s3.py --access-key AK --secret-key SK [--port 0] [--region us-east-1] [--bucket NAME]...
               [--tls-cert PEM --tls-key PEM]

Prints "ready http://127.0.0.1:PORT" once it serves; with a certificate also "ready-tls https://...",
the same service on a second port. moto itself takes any signature, clock, body hash
and digest, and closes every connection; the front checks them all and keeps connections open.

    POST /lab/fault   {"match": "PUT .*/packs/", "mode": "503", "times": 3, "after": 0}
                      or [] to clear. `match` is a regular expression on "METHOD target". Modes:
                      503, 500         refuse without doing it (SlowDown, InternalError)
                      500-after        do it, then answer 500
                      reset            close the connection without doing it
                      reset-after      do it, then close the connection without an answer
                      truncate         answer with half of the body
                      delay            wait `secs` first
                      hang             never answer
                      409              ConditionalRequestConflict
                      expired          ExpiredToken
    POST /lab/clock   {"offset_s": 7200}: the server's clock, from now on
    GET  /lab/stats   {"requests": n, "connections": n, "log": ["PUT /b/k", ...]}
"""

import argparse
import base64
import datetime
import email.utils
import hashlib
import io
import json
import re
import socket
import ssl
import sys
import threading
import time
import traceback
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

import sigv4_check
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends

ACCOUNT = "123456789012"
LOG_MAX = 20_000
XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


class Lab:
    """What tests set and ask for. Locked, because every connection has its thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.faults = []
        self.log = []
        self.requests = 0
        self.connections = 0
        self.clock_offset = datetime.timedelta()

    def now(self):
        return datetime.datetime.now(datetime.timezone.utc) + self.clock_offset

    def record(self, line):
        with self.lock:
            self.requests += 1
            self.log = self.log[-LOG_MAX:] + [line]

    def fault_for(self, line):
        with self.lock:
            for fault in self.faults:
                if fault.get("times", 1) <= 0 or not re.search(fault["match"], line):
                    continue
                if fault.get("after", 0) > 0:
                    fault["after"] -= 1
                    continue
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return None

    def command(self, method, path, body):
        """The answer to /lab/...: something for JSON, or bytes; None for an unknown one."""
        with self.lock:
            if (method, path) == ("POST", "/lab/fault"):
                asked = json.loads(body)
                self.faults = asked if isinstance(asked, list) else self.faults + [asked]
                return {}
            if (method, path) == ("POST", "/lab/clock"):
                self.clock_offset = datetime.timedelta(seconds=json.loads(body)["offset_s"])
                return {}
            if (method, path) == ("GET", "/lab/stats"):
                return {
                    "requests": self.requests,
                    "connections": self.connections,
                    "log": self.log,
                }
        return None


class Moto:
    """moto in this process. It is not safe under threads everywhere: one request at a time."""

    def __init__(self):
        self.app = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.Lock()

    def call(self, method, target, headers, body, port):
        """(status, [(header, value)], body)"""
        url = urlsplit(target)
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(url.path, "latin1"),
            "QUERY_STRING": url.query,
            "RAW_URI": target,
            "REQUEST_URI": target,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in headers.items():
            if name == "content-type":
                environ["CONTENT_TYPE"] = value
            elif name != "content-length":
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        answer = {}

        def start_response(status, response_headers, _exc_info=None):
            answer["status"], answer["headers"] = int(status.split()[0]), response_headers
            return lambda _data: None

        with self.lock:
            chunks = self.app(environ, start_response)
            content = b"".join(chunks)
            if hasattr(chunks, "close"):
                chunks.close()
        return answer["status"], answer["headers"], content


def wrong_digest(headers, body):
    """The name of a digest header that does not fit the body, or None."""
    digests = {
        "content-md5": lambda: hashlib.md5(body).digest(),
        "x-amz-checksum-sha256": lambda: hashlib.sha256(body).digest(),
        "x-amz-checksum-sha1": lambda: hashlib.sha1(body).digest(),
        "x-amz-checksum-crc32": lambda: zlib.crc32(body).to_bytes(4, "big"),
    }
    for name, digest in digests.items():
        if name in headers and headers[name] != base64.b64encode(digest()).decode():
            return name
    return None


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def setup(self):
        super().setup()
        with self.server.lab.lock:
            self.server.lab.connections += 1

    def handle_any(self):
        lab = self.server.lab
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        headers = {}
        for name, value in self.headers.items():
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        if self.path.startswith("/lab/"):
            result = lab.command(self.command, self.path, body)
            content = result if isinstance(result, bytes) else json.dumps(result).encode()
            self.answer(404 if result is None else 200, [], content)
            return
        self.service = (sigv4_check.scope_of(headers) or ("", "s3"))[1]
        line = self.log_line(body)
        lab.record(line)
        fault = lab.fault_for(line)
        mode = fault["mode"] if fault else ""
        if self.fails_before(mode, fault):
            return
        try:
            status, answer_headers, content = self.serve(headers, body)
        except sigv4_check.Refused as refused:
            sys.stderr.write(f"refused {line}: {refused}\n")
            self.refuse(refused.status, refused.code, refused.message.split("\n")[0])
            return
        if mode == "reset-after":
            self.reset()
        elif mode == "500-after":
            self.refuse(500, "InternalError", "We encountered an internal error.")
        else:
            self.answer(status, answer_headers, content, truncate=mode == "truncate")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def log_line(self, _body):
        """What faults match on, and what the log shows."""
        return f"{self.command} {self.path}"

    def fails_before(self, mode, fault):
        """Carries out what a fault does instead of the request; True when that was all."""
        if mode == "503":
            self.refuse(503, "SlowDown", "Please reduce your request rate.")
        elif mode == "500":
            self.refuse(500, "InternalError", "We encountered an internal error.")
        elif mode == "409":
            self.refuse(409, "ConditionalRequestConflict", "A conflicting operation is going on.")
        elif mode == "expired":
            self.refuse(400, "ExpiredToken", "The provided token has expired.")
        elif mode == "reset":
            self.reset()
        elif mode == "hang":
            time.sleep(fault.get("secs", 3600))
            self.reset()
        elif mode == "delay":
            time.sleep(fault.get("secs", 1))
            return False
        else:
            return False
        return True

    def serve(self, headers, body):
        options = self.server.options
        sigv4_check.check(
            self.command, self.path, headers, body, self.secret_of, options.region, self.server.lab.now()
        )
        return self.dispatch(headers, body)

    def dispatch(self, headers, body):
        """Carries out a request whose signature is right: (status, headers, body)."""
        if self.service == "s3" and self.command in ("PUT", "POST"):
            wrong = wrong_digest(headers, body)
            if wrong:
                raise sigv4_check.Refused("BadDigest", f"{wrong} does not fit the body", status=400)
        try:
            return self.server.moto.call(self.command, self.path, headers, body, self.server.server_port)
        except Exception as error:  # moto raises what it has not thought of
            traceback.print_exc()
            raise sigv4_check.Refused("InternalError", repr(error), status=500) from error

    def secret_of(self, access_key, token):
        options = self.server.options
        if access_key == options.access_key:
            return None if token else options.secret_key
        for user in iam_backends[ACCOUNT]["aws"].users.values():
            for key in user.access_keys:
                if key.access_key_id == access_key:
                    return None if token else key.secret_access_key
        for role in sts_backends[ACCOUNT]["aws"].assumed_roles:
            if role.access_key_id == access_key:
                if role.session_token != token:
                    raise sigv4_check.Refused("InvalidToken", "The token is malformed.", status=400)
                return role.secret_access_key
        return None

    def answer(self, status, headers, content, truncate=False):
        own = ("content-length", "connection", "date", "transfer-encoding", "server")
        length = len(content)
        self.send_response_only(status)
        self.send_header("Date", email.utils.format_datetime(self.server.lab.now(), usegmt=True))
        for name, value in headers:
            if name.lower() not in own:
                self.send_header(name, value)
            elif name.lower() == "content-length" and self.command == "HEAD":
                length = int(value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: length // 2] if truncate else content)
        self.wfile.flush()
        if truncate:
            self.close_connection = True

    def refuse(self, status, code, message):
        region = f"<Region>{self.server.options.region}</Region>" if status == 400 else ""
        xml = (
            f"{XML_HEAD}<Error><Code>{code}</Code><Message>{escape(message)}</Message>{region}"
            "<RequestId>lab</RequestId></Error>"
        )
        self.answer(status, [("Content-Type", "application/xml")], xml.encode())

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, ValueError)):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description="a strict S3 stand-in that fails on request")
    parser.add_argument("--access-key", required=True)
    parser.add_argument("--secret-key", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--bucket", action="append", default=[])
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    options = parser.parse_args()
    server = Server(("127.0.0.1", options.port), Front)
    server.options, server.lab, server.moto = options, Lab(), Moto()
    for bucket in options.bucket:
        s3_backends[ACCOUNT]["aws"].create_bucket(bucket, options.region)
    if options.tls_cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert, options.tls_key)
        tls_server = Server(("127.0.0.1", 0), Front)
        tls_server.options, tls_server.lab, tls_server.moto = options, server.lab, server.moto
        # Handshakes happen in the connection's thread, so that a slow one holds nobody up.
        tls_server.socket = context.wrap_socket(
            tls_server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=tls_server.serve_forever, daemon=True).start()
        print(f"ready-tls https://127.0.0.1:{tls_server.server_port}", flush=True)
    print(f"ready http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
