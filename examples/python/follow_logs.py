#!/usr/bin/env python3
"""Mirrors a mutation log over `/logs`, the protocol of Go's maintner, with nothing but Python's own library.

    follow_logs.py URL FOLDER [--once]

URL is that of the list, as in http://127.0.0.1:8799/logs. The folder gets one file for each segment, named as the server
names them: `NNNN.<sha224>.mutlog` for one that another follows, `NNNN.growing.mutlog` for the last. Whatever happens on
either side, the folder holds a prefix of the log, checked by SHA-224, and what was fetched once is not fetched again.

Each line of output is a JSON object:
    {"event": "have", "bytes": 51234, "segments": 3, "records": 410}   the folder holds the whole log, as listed
    {"event": "split", "common": 48000}                                the log was replaced: it is as before up to here only
    {"event": "retry", "why": "..."}                                   the server could not be asked; it will be again
"""

import hashlib
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

FROZEN = re.compile(r"^(\d{4,})\.([0-9a-f]{56})\.mutlog$")
GROWING = re.compile(r"^(\d{4,})\.growing\.mutlog$")
HEADER = re.compile(rb"REC@(0|[1-9a-f][0-9a-f]*)\+(0|[1-9a-f][0-9a-f]*)=")
# The server holds a request for news for 55 s.
LONG_POLL = 70


class Unreachable(Exception):
    """The server could not be asked; asking again may help."""


class Corrupt(Exception):
    """What the server sent is not what its list says."""


def fetch(url, headers=None):
    """The status, headers and body of a response."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=LONG_POLL) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        if error.code == 304:
            return 304, b""
        if error.code >= 500:
            raise Unreachable(f"{url}: {error.code}") from error
        raise Corrupt(f"{url}: {error.code} {error.reason}") from error
    except (OSError, ValueError, urllib.error.URLError) as error:  # also a body that was cut short
        raise Unreachable(f"{url}: {error}") from error
    except Exception as error:  # http.client has exceptions of its own for responses that are none
        raise Unreachable(f"{url}: {error!r}") from error


def records(data, start=0):
    """The payloads of the records from an offset on, at which one must begin."""
    at = start
    while at < len(data):
        header = HEADER.match(data, at, at + 40)
        if not header or int(header[1], 16) != at:
            raise Corrupt(f"no record at {at}")
        end = header.end() + int(header[2], 16)
        if end > len(data):
            raise Corrupt(f"the record at {at} is cut short")
        yield data[header.end() : end]
        at = end


class Mirror:
    """A folder that follows a log."""

    def __init__(self, url, folder):
        self.url, self.folder = url, folder
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.counts, self.replaced = {}, {}
        self.segments = self.local()

    def path(self, name):
        return os.path.join(self.folder, name)

    def local(self):
        """What an earlier run left, without a gap: a list of (bytes, SHA-224, name)."""
        found = {}
        for name in sorted(os.listdir(self.folder)):
            if match := FROZEN.match(name):
                size = os.path.getsize(self.path(name))
                found.setdefault(int(match[1]), (size, match[2], name))
            elif match := GROWING.match(name):
                with open(self.path(name), "rb") as file:
                    data = file.read()
                found.setdefault(int(match[1]), (len(data), hashlib.sha224(data).hexdigest(), name))
        segments = []
        while len(segments) in found:
            segments.append(found[len(segments)])
        return segments

    def total(self):
        return sum(size for size, _, _ in self.segments)

    def listing(self, wait):
        """The server's list, when it is longer than what we have, or nothing."""
        query = f"?waitsizenot={self.total()}" if wait else ""
        status, body = fetch(self.url + query)
        if status == 304:
            return None
        try:
            listed = json.loads(body)
            if [segment["number"] for segment in listed] != list(range(len(listed))):
                raise Corrupt("the list has a gap")
            return listed
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"the list makes no sense: {error!r}") from error

    def update(self, wait=True):
        """Follows once. Tells what happened, which is nothing if there are no news."""
        listed = self.listing(wait)
        if listed is None:
            return []
        fresh = [self.sync(segment, last=at + 1 == len(listed)) for at, segment in enumerate(listed)]
        common = self.common(fresh)
        split = [{"event": "split", "common": common}] if common < self.total() else []
        self.forget({name for _, _, name in fresh})
        self.segments = fresh
        count = sum(self.count(digest, name) for _, digest, name in fresh)
        return [*split, {"event": "have", "bytes": self.total(), "segments": len(fresh), "records": count}]

    def count(self, digest, name):
        """The records of a segment; each content is counted once."""
        if digest not in self.counts:
            self.counts[digest] = sum(1 for _ in records(self.read(name)))
        return self.counts[digest]

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def write(self, name, data):
        """Whole or not at all."""
        temporary = self.path("temporary")
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path(name))

    def sync(self, segment, last):
        """Makes one segment what the list says, and fetches only what is missing."""
        number, size, digest = segment["number"], segment["size"], segment["sha224"]
        growing = f"{number:04d}.growing.mutlog"
        name = growing if last else f"{number:04d}.{digest}.mutlog"
        if not last and os.path.exists(self.path(name)) and os.path.getsize(self.path(name)) == size:
            return size, digest, name
        have = b""
        for old in (growing, f"{number:04d}.{digest}.mutlog", self.name_of(number)):
            if old and os.path.exists(self.path(old)):
                have = self.read(old)
                break
        # More than the server has: it lost its tail. What is left of ours may still be right.
        data = have[:size]
        if len(data) < size:
            data += self.fetch_from(segment, len(data))
        if hashlib.sha224(data).hexdigest() != digest and have:
            data = self.fetch_from(segment, 0)
        if len(data) != size or hashlib.sha224(data).hexdigest() != digest:
            raise Unreachable(f"segment {number} is not what the list says")
        if data != have or not os.path.exists(self.path(name)):
            self.remember_old(number, have, data)
            self.write(name, data)
        return size, digest, name

    def name_of(self, number):
        return self.segments[number][2] if number < len(self.segments) else None

    def remember_old(self, number, have, data):
        """How far a segment that was replaced is as before; asked by `common` when the old bytes are gone."""
        if number < len(self.segments):
            same = len(os.path.commonprefix([have, data]))
            self.replaced[number] = min(same, self.replaced.get(number, self.segments[number][0]))

    def fetch_from(self, segment, start):
        """The bytes of a segment from an offset to the size in the list."""
        url = urllib.parse.urljoin(self.url, segment["url"])
        status, body = fetch(url, {"Range": f"bytes={start}-{segment['size'] - 1}"})
        return body if status == 206 else body[start : segment["size"]]

    def common(self, fresh):
        """How many bytes of what we had are a prefix of what there is now."""
        replaced, self.replaced = self.replaced, {}
        common = 0
        for number, (size, digest, _) in enumerate(self.segments):
            if number >= len(fresh):
                break
            if fresh[number][1] == digest:
                common += size
                continue
            same = replaced.get(number, 0)
            common += same
            if same < size:
                break
        return common

    def forget(self, keep):
        """Removes the segments of a history that is over, and the growing one that was frozen."""
        for name in os.listdir(self.folder):
            if (FROZEN.match(name) or GROWING.match(name)) and name not in keep:
                os.remove(self.path(name))


def say(event):
    print(json.dumps(event), flush=True)


def main():
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    if len(arguments) != 2:
        sys.exit(__doc__)
    mirror, once, pause = Mirror(*arguments), "--once" in sys.argv, 0.05
    wait = False
    while True:
        try:
            for event in mirror.update(wait):
                say(event)
            pause, wait = 0.05, True
            if once:
                return
        except (Unreachable, Corrupt) as error:
            say({"event": "retry", "why": str(error)})
            time.sleep(pause)
            pause = min(pause * 2, 15)


if __name__ == "__main__":
    main()
