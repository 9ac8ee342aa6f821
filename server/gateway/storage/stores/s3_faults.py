"""What the errors of S3's client mean, and what to do about them. Pure."""

from __future__ import annotations

import re

CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
NO_BUCKET = "NoSuchBucket"
FIXES = {
    NO_BUCKET: "there is no such bucket: make it, or correct the bucket in --snapshots",
    "InvalidAccessKeyId": f"the account is unknown there: correct {KEYS}",
    "SignatureDoesNotMatch": f"the account's secret is wrong: correct {KEYS}",
    "InvalidToken": "the account's AWS_SESSION_TOKEN is not valid: renew it",
    "ExpiredToken": "the account's AWS_SESSION_TOKEN has expired: renew it",
    "AccessDenied": "the account may not do this: allow it s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:ListBucket in this bucket",
    "PermanentRedirect": "the bucket is in another region: correct AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: correct AWS_REGION",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "NotImplemented": "this server cannot replace objects conditionally (If-Match): use another one",
}
METADATA = "http://169.254.169.254/"  # where the client asks for an account if it was given none
NO_ACCOUNT = f"no account: set {KEYS}"


def fault_of(text: str, endpoint: str) -> str:
    """One line for people. `endpoint` is the server's URL; empty: Amazon's."""
    found = CODE.search(text)
    code = (found[1] or found[2]) if found else ""
    if code in FIXES:
        return FIXES[code]
    if METADATA in text:
        return NO_ACCOUNT
    where = endpoint or "Amazon S3"
    if "error sending request" in text:
        return f"no connection to {where}: start it, or correct AWS_ENDPOINT_URL"
    if not code and re.search(r"<html|<!doctype html", text, re.IGNORECASE):
        return f"what answers at {where} does not speak S3: correct AWS_ENDPOINT_URL"
    return (text.strip().splitlines() or ["failed"])[0][:200]


def is_missing(text: str) -> bool:
    """Whether an object was not found, rather than its bucket."""
    return NO_BUCKET not in text
