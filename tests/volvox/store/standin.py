"""A bucket server on loopback that can be told to misbehave; it speaks as much of S3 as the store does."""

from __future__ import annotations

import hashlib
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape


class StandIn(ThreadingHTTPServer):
    """Keeps objects in memory.

    Attributes:
        buckets: Bucket -> key -> bytes and when they were written.
        requests: Method and path of each request.
        conditional: Whether conditions of a write are heeded; None: they are refused as unknown.
        bare_etags: Whether an etag is compared without quotes; None: no etag is ever the same.
        lost_answers: So many writes are done and answered as if they were not.
        received: Bytes of all writes.
        answer: Status and body that every request gets instead; a HEAD gets the status alone.
        silent: While it is set no request is answered.
        headers_seen: Those of the last request.
        cut_after: After so many bytes of an object the connection is cut.
        uploads: Parts of uploads that are not finished.
        beside: Headers that were written with an object.
    """

    daemon_threads = True

    def __init__(self, *buckets: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets: dict[str, dict[str, tuple[bytes, float]]] = {name: {} for name in buckets}
        self.requests: list[str] = []
        self.conditional: bool | None = True
        self.bare_etags: bool | None = False
        self.lost_answers = 0
        self.received = 0
        self.answer: tuple[int, str] | None = None
        self.silent = threading.Event()
        self.headers_seen: dict[str, str] = {}
        self.cut_after: int | None = None
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.beside: dict[str, dict[str, str]] = {}
        self.mutex = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.silent.clear()
        self.shutdown()
        self.server_close()


def error(code: str, more: str = "") -> str:
    """The body of an S3 error."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>m</Message>{more}</Error>'


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments: object) -> None:
        pass

    def handle_one(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.headers_seen = dict(self.headers)
        while self.server.silent.is_set():
            time.sleep(0.05)
        if self.server.answer is not None:
            return self.reply(*self.server.answer)
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        with self.server.mutex:
            if bucket not in self.server.buckets:
                return self.reply(404, error("NoSuchBucket"))
            self.objects = self.server.buckets[bucket]
            if "versioning" in query:
                return self.reply(200, "<VersioningConfiguration/>")
            if "list-type" in query:
                return self.listed(query)
            if "delete" in query:
                keys = [one.text or "" for one in ElementTree.fromstring(body).iter() if one.tag.endswith("Key")]
                for one in keys:
                    self.objects.pop(one, None)
                gone = "".join(f"<Deleted><Key>{escape(one)}</Key></Deleted>" for one in keys)
                return self.reply(200, f"<DeleteResult>{gone}</DeleteResult>")
            if self.command == "POST" or "uploadId" in query:
                return self.parts(key, query, body)
            if self.command == "PUT":
                return self.written(key, body)
            if self.command == "DELETE":
                self.objects.pop(key, None)
                return self.reply(204, "")
            if key not in self.objects:
                return self.reply(404, error("NoSuchKey"))
            return self.reply(200, self.objects[key][0], self.objects[key][1])

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PROPFIND = handle_one

    def written(self, key: str, body: bytes) -> None:
        if source := self.headers.get("x-amz-copy-source"):
            body = self.objects[unquote(source).lstrip("/").partition("/")[2]][0]
        there = self.objects.get(key)
        self.server.received += 0 if source else len(body)
        if self.server.conditional is None and (self.headers.get("If-None-Match") or self.headers.get("If-Match")):
            return self.reply(501, error("NotImplemented"))
        if self.server.conditional:
            if self.headers.get("If-None-Match") and there:
                return self.reply(412, error("PreconditionFailed"))
            bare = self.server.bare_etags
            found = _etag(there[0]).strip('"' if bare else "") if there and bare is not None else None
            if (wanted := self.headers.get("If-Match")) and wanted != found:
                return self.reply(412, error("PreconditionFailed"))
        self.objects[key] = (body, time.time())
        self.server.beside[key] = {n: v for n, v in self.headers.items() if n.lower().startswith("x-amz-meta-")}
        if self.server.lost_answers:
            self.server.lost_answers -= 1
            return self.reply(500, error("InternalError"))
        text = f"<CopyObjectResult><ETag>{escape(_etag(body))}</ETag></CopyObjectResult>" if source else ""
        self.reply(200, text, etag=_etag(body))

    def parts(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            upload = f"u{len(self.server.requests)}"
            self.server.uploads[upload] = {}
            return self.reply(
                200,
                f"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>{escape(key)}</Key>"
                f"<UploadId>{upload}</UploadId></InitiateMultipartUploadResult>",
            )
        kept = self.server.uploads[query["uploadId"]]
        if self.command == "PUT":
            kept[int(query["partNumber"])] = body
            return self.reply(200, "", etag=_etag(body))
        del self.server.uploads[query["uploadId"]]
        if self.command == "POST":
            whole = b"".join(kept[number] for number in sorted(kept))
            self.objects[key] = (whole, time.time())
            return self.reply(
                200,
                f"<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>{escape(key)}</Key>"
                f"<ETag>{escape(_etag(whole))}</ETag></CompleteMultipartUploadResult>",
            )
        return self.reply(204, "")

    def listed(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        contents, folders = "", set()
        for key, (data, at) in sorted(self.objects.items()):
            if not key.startswith(prefix) or key <= query.get("start-after", ""):
                continue
            if delimiter and delimiter in key[len(prefix) :]:
                folders.add(prefix + key[len(prefix) :].partition(delimiter)[0] + delimiter)
                continue
            when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at))
            shown = quote(key) if query.get("encoding-type") == "url" else key
            contents += (
                f"<Contents><Key>{escape(shown)}</Key><LastModified>{when}</LastModified><Size>{len(data)}</Size>"
                f"<ETag>{escape(_etag(data))}</ETag></Contents>"
            )
        contents += "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in folders)
        encoding = f"<EncodingType>{query['encoding-type']}</EncodingType>" if "encoding-type" in query else ""
        self.reply(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{encoding}{contents}</ListBucketResult>")

    def reply(self, status: int, body: str | bytes, at: float = 0.0, etag: str = "") -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        if at:
            for name, value in self.server.beside.get(unquote(urlsplit(self.path).path).split("/", 2)[2], {}).items():
                self.send_header(name, value)
            self.send_header("Last-Modified", formatdate(at, usegmt=True))
            etag = _etag(data)
        if etag:
            self.send_header("ETag", etag)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            cut = self.server.cut_after
            self.wfile.write(data[:cut])
            if cut is not None and len(data) > cut:
                self.close_connection = True


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'
