"""moto's S3 server as a process: `python tests/rigs/storage/s3_server.py PORT KEY SECRET`.

It checks signatures and rights as S3 does. The account has two users with this key and secret: the second
one, whose key ends in X, may list and read only. Requests are answered one after the other, since moto does
not replace objects conditionally in one step.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto import settings
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

BUCKET, MANY = "bucket", "many"
ALL = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"]
READ = ["s3:GetObject", "s3:ListBucket"]


def _user(name: str, key: str, secret: str, actions: list[str]) -> None:
    users: Any = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    users.create_user("us-east-1", name)
    made = users.create_access_key(name)
    del users.access_keys[made.access_key_id]
    made.access_key_id, made.secret_access_key = key, secret
    users.access_keys[key] = made
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    users.put_user_policy(name, "rights", policy)


def main(port: int, key: str, secret: str) -> None:
    buckets: Any = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    buckets.create_bucket(BUCKET, "us-east-1")
    buckets.create_bucket(MANY, "us-east-1")  # with more objects than S3 lists at once
    for n in range(1001):
        buckets.put_object(MANY, f"folder/sessions/s{n}", b"x")
    _user("all", key, secret, ALL)
    _user("read", key + "X", secret, READ)
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app, one = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def alone(environ: Any, start: Callable[..., Any]) -> Iterable[bytes]:
        with one:
            answer: Iterable[bytes] = app(environ, start)
            return answer

    make_server("127.0.0.1", port, alone, threaded=True, request_handler=MotoRequestHandler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:4])
