"""What an index store holds, read from a folder or over S3: names, sizes and Zarr metadata."""

import datetime
import hashlib
import hmac
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree
from pathlib import Path


class FileStore:
    """Objects are the files below a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.name = f"file://{self.folder}"

    def objects(self):
        """Name → bytes, of every object."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in files}

    def read(self, name):
        """The bytes of one object."""
        return (self.folder / name).read_bytes()


class S3Store:
    """Objects below a prefix of a bucket. Signs requests with AWS Signature Version 4."""

    def __init__(self, endpoint, region, bucket, prefix, access_key, secret_key):
        self.endpoint = endpoint
        self.region = region
        self.bucket = bucket
        self.prefix = prefix.strip("/") + "/"
        self.access_key = access_key
        self.secret_key = secret_key
        self.name = f"s3://{bucket}/{prefix}"

    def objects(self):
        """Name → bytes, of every object."""
        sizes, token = {}, None
        while True:
            query = {"list-type": "2", "prefix": self.prefix}
            if token:
                query["continuation-token"] = token
            page = ElementTree.fromstring(self._get(f"/{self.bucket}", query))
            # S3 and its imitations do not agree on the name space of the elements.
            for element in page.iter():
                element.tag = element.tag.rpartition("}")[2]
            for entry in page.iter("Contents"):
                sizes[entry.findtext("Key").removeprefix(self.prefix)] = int(entry.findtext("Size"))
            token = page.findtext("NextContinuationToken")
            if not token:
                return dict(sorted(sizes.items()))

    def read(self, name):
        """The bytes of one object."""
        return self._get(f"/{self.bucket}/{self.prefix}{name}", {})

    def _get(self, path, query):
        """A signed GET, see the AWS documentation of Signature Version 4."""
        path = urllib.parse.quote(path)
        query = "&".join(
            f"{urllib.parse.quote(name, safe='')}={urllib.parse.quote(value, safe='')}"
            for name, value in sorted(query.items())
        )
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        body = hashlib.sha256(b"").hexdigest()
        headers = {
            "host": urllib.parse.urlsplit(self.endpoint).netloc,
            "x-amz-content-sha256": body,
            "x-amz-date": now,
        }
        signed = ";".join(headers)
        canonical = "\n".join(
            ["GET", path, query, *(f"{name}:{value}" for name, value in headers.items()), "", signed, body]
        )
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        request = urllib.request.Request(f"{self.endpoint}{path}?{query}", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read()
