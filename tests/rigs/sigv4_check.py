"""Checks AWS Signature Version 4 as AWS documents it, independently of botocore, curl and ReClo.

Source: AWS "Create a signed AWS API request" and the S3 error code list.
"""

import datetime
import hashlib
import hmac
import re
from urllib.parse import unquote_to_bytes

UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)
SKEW_MAX_S = 900


class Refused(Exception):
    """`code` is the S3 error code; `status` the HTTP status that goes with it."""

    def __init__(self, code, message, status=403):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


def encode(raw, keep_slash=False):
    return "".join(
        chr(c) if c in UNRESERVED or (keep_slash and c == 0x2F) else f"%{c:02X}" for c in raw
    )


def scope_of(headers):
    """(region, service) that the request says it is signed for, or None."""
    match = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    return (match[3], match[4]) if match else None


def canonical_request(method, target, headers, signed, body_hash, service):
    raw_path, _, query = target.partition("?")
    path = encode(unquote_to_bytes(raw_path), keep_slash=True)
    if service != "s3":  # all other services encode the path twice
        path = encode(path.encode(), keep_slash=True)
    pairs = []
    for pair in query.split("&") if query else []:
        name, _, value = pair.partition("=")
        pairs.append((encode(unquote_to_bytes(name)), encode(unquote_to_bytes(value))))
    lines = [f"{name}:{re.sub(' +', ' ', headers[name].strip())}\n" for name in signed]
    return "\n".join(
        [
            method,
            path or "/",
            "&".join(f"{name}={value}" for name, value in sorted(pairs)),
            "".join(lines),
            ";".join(signed),
            body_hash,
        ]
    )


def check(method, target, headers, body, secret_of, region, now):
    """Raises Refused unless real AWS would take the request.

    headers: lower-case names. secret_of(access_key, session_token) gives the secret, None, or raises
    Refused. region: the server's own. now: the server's clock, an aware datetime.
    """
    match = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if not match:
        raise Refused("AccessDenied", "no usable Authorization header")
    access_key, day, its_region, service, signed_text, signature = match.groups()
    secret = secret_of(access_key, headers.get("x-amz-security-token"))
    if secret is None:
        raise Refused("InvalidAccessKeyId", "The access key does not exist in our records.")
    if its_region != region:
        raise Refused(
            "AuthorizationHeaderMalformed",
            f"the region '{its_region}' is wrong; expecting '{region}'",
            status=400,
        )
    date = headers.get("x-amz-date", "")
    if not date.startswith(day):
        raise Refused("AccessDenied", "x-amz-date is missing or not of the scope's day")
    sent = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    if abs((now - sent).total_seconds()) > SKEW_MAX_S:
        raise Refused("RequestTimeTooSkewed", "The difference to the server's time is too large.")

    signed = signed_text.split(";")
    if signed != sorted(signed):
        raise Refused("SignatureDoesNotMatch", "SignedHeaders are not sorted")
    for name in signed:
        if name not in headers:
            raise Refused("SignatureDoesNotMatch", f"signed header not sent: {name}")
    if "host" not in signed:
        raise Refused("SignatureDoesNotMatch", "host is not signed")
    for name in headers:
        if name.startswith("x-amz-") and name not in signed:
            raise Refused("AccessDenied", f"header present but not signed: {name}")

    announced = headers.get("x-amz-content-sha256")
    if service == "s3" and not announced:
        raise Refused("InvalidRequest", "x-amz-content-sha256 is missing", status=400)
    actual = hashlib.sha256(body).hexdigest()
    if announced not in (None, "UNSIGNED-PAYLOAD", actual):
        raise Refused("XAmzContentSHA256Mismatch", "the body is not the one signed", status=400)

    canonical = canonical_request(method, target, headers, signed, announced or actual, service)
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            date,
            f"{day}/{its_region}/{service}/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = ("AWS4" + secret).encode()
    for part in (day, its_region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    expected = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, signature):
        raise Refused("SignatureDoesNotMatch", "signature differs; canonical request:\n" + canonical)
