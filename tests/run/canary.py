"""The canary: the password of all brokers of the tests, which must be seen in no output of warren's, and who looks for it."""

import base64
import contextlib
import hashlib
import os
import urllib.parse

USER = "canary"
TOKEN = "c4n4ry-8d1f0b"  # what is looked for: it is the same in every encoding; scripts/test looks in ctest's log, too
PASSWORD = TOKEN + "/@:%?"
LOGIN = f"{USER}:{urllib.parse.quote(PASSWORD, safe='')}"  # as it stands in a URL

_SALT = b"salt"
DEFINITION = {"name": USER, "tags": "administrator", "hashing_algorithm": "rabbit_password_hashing_sha256",
              "password_hash": base64.b64encode(_SALT + hashlib.sha256(_SALT + PASSWORD.encode()).digest()).decode()}


def sings(data):
    """True when the password, or the part of it that is unmistakable, is in what was put out."""
    return TOKEN in data if isinstance(data, str) else TOKEN.encode() in data


def in_files(folder, but=()):
    """The files of the folder, at any depth, that hold it; `but` is where it may stand."""
    found = []
    for base, _, names in os.walk(folder):
        for path in (os.path.join(base, name) for name in names):
            if path not in but and os.path.isfile(path):
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    found += [path] if sings(file.read()) else []
    return found


def in_processes(pids):
    """What /proc shows to others of the processes and holds it."""
    found = []
    for path in (f"/proc/{pid}/{name}" for pid in pids for name in ("cmdline", "environ", "comm")):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            found += [path] if sings(file.read()) else []
    return found
