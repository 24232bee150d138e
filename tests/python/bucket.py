"""Lists and writes objects of an S3 bucket, as any other client of it would.

usage: bucket.py ENDPOINT REGION BUCKET ACCESS_KEY SECRET_KEY list [PREFIX]
       bucket.py ENDPOINT REGION BUCKET ACCESS_KEY SECRET_KEY put KEY TEXT

`list` prints the key and the size of every object, a line each. Requests are signed with AWS
Signature Version 4.
"""

import datetime
import hashlib
import hmac
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree


class Bucket:
    """A bucket of an S3 server, addressed by path."""

    def __init__(self, endpoint, region, name, access_key, secret_key):
        self.endpoint, self.region, self.name = endpoint, region, name
        self.access_key, self.secret_key = access_key, secret_key

    def signed(self, method, key="", query=None, body=b""):
        """Path (with its query) and headers of a signed request."""
        host = urllib.parse.urlsplit(self.endpoint).netloc
        path = urllib.parse.quote(f"/{self.name}/{key}")
        arguments = urllib.parse.urlencode(sorted((query or {}).items()), quote_via=urllib.parse.quote)
        time = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": time}
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = "\n".join([method, path, arguments, lines, names, digest])
        scope = f"{time[:8]}/{self.region}/s3/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashed}"
        signing_key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            signing_key = hmac.digest(signing_key, part.encode(), "sha256")
        signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return path + (f"?{arguments}" if arguments else ""), headers

    def request(self, method, key="", query=None, body=b""):
        """Sends a signed request and returns the body of its answer."""
        path, headers = self.signed(method, key, query, body)
        # The environment may name a proxy, which loopback is none of the business of.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(self.endpoint + path, data=body or None, headers=headers, method=method)
        with opener.open(request, timeout=30) as response:
            return response.read()

    def objects(self, prefix):
        """Yields key and size of every object whose key begins with `prefix`."""
        query = {"list-type": "2", "prefix": prefix}
        while True:
            page = ElementTree.fromstring(self.request("GET", query=query))
            space = page.tag.removesuffix("ListBucketResult")
            for entry in page.iter(f"{space}Contents"):
                yield entry.findtext(f"{space}Key"), int(entry.findtext(f"{space}Size"))
            token = page.findtext(f"{space}NextContinuationToken")
            if not token:
                return
            query["continuation-token"] = token


def main():
    endpoint, region, name, access_key, secret_key, command, *arguments = sys.argv[1:]
    bucket = Bucket(endpoint, region, name, access_key, secret_key)
    if command == "list":
        for key, size in bucket.objects(*arguments or [""]):
            print(key, size)
    elif command == "put":
        key, text = arguments
        bucket.request("PUT", key, body=text.encode())
    else:
        sys.exit(f"unknown command {command}")


if __name__ == "__main__":
    main()
