#!/usr/bin/python3
"""Sends every kind of bad input that the contract names to every process, and looks whether each is answered with the field named and survived.

usage: malformed.py < processes.json      the array `processes` of `bulwark status --json`

Prints one JSON object; exit status 1 if anything was not as promised.
"""

import json
import random
import sys
import uuid

import zmq

from bulwark_bus import Requests

MIB = 1 << 20

# For each process: a request type with the field it needs, and one that answers without effect here but is remembered under its id.
TYPES = {
    "fencing-service": ("host.show", "host", "host.activate", {"host": "nobody-1"}, {"host": "nobody-2"}),
    "spm-coordinator": ("task.show", "task", "spm.select", {"pool": "nothing", "host": "nobody-1"}, {"pool": "nothing", "host": "nobody-2"}),
    "placement-service": ("vm.show", "vm", "vm.start", {"vm": "nobody-1"}, {"vm": "nobody-2"}),
    "domain-monitor": ("domain.show", "domain", "domain.activate", {"domain": "nobody-1"}, {"domain": "nobody-2"}),
    "host-agent": ("vm.observe", "vm", "vm.observe", {"vm": "nobody-1", "attempt": 1}, {"vm": "nobody-2", "attempt": 1}),
    "lease-service": ("lockspace.join", "lockspace", "lockspace.leave", {"lockspace": "nothing-1"}, {"lockspace": "nothing-2"}),
}


def request(**changes):
    fields = {"v": 1, "id": str(uuid.uuid4()), "type": "ping", "body": {}}
    fields.update(changes)
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


def cases(kind):
    """Name, frames after the envelope, accepted codes, word that the error must name (None: nothing to name)."""
    needs, field, *_ = TYPES[kind]
    malformed = ["request.malformed"]
    yield "empty frame", [b""], malformed, None
    yield "not JSON", [b"hello"], malformed, None
    yield "truncated JSON", [request()[:-5]], malformed, None
    yield "rubbish after JSON", [request() + b"}"], malformed, None
    yield "array", [b"[1,2]"], malformed, None
    yield "number", [b"17"], malformed, None
    yield "null", [b"null"], malformed, None
    yield "invalid UTF-8", [b"\xff\xfe\x80\x81"], malformed, None
    yield "invalid UTF-8 in a string", [request(type="ping").replace(b"ping", b"\xc3\x28")], malformed + ["request.unknown-type"], None
    yield "zero bytes", [b"\0" * 64], malformed, None
    yield "deep nesting", [b"[" * 200_000], malformed, None
    yield "deep nesting of objects", [b'{"a":' * 150_000], malformed, None
    yield "deep body", [b'{"v":1,"id":"' + str(uuid.uuid4()).encode() + b'","type":"' + needs.encode() + b'","body":' + b"[" * 200_000 + b"]" * 200_000 + b"}"], malformed, None
    yield "no v", [request(v=None)], malformed + ["request.unknown-version"], "v"
    yield "v is a text", [request(v="1")], malformed + ["request.unknown-version"], "v"
    yield "unknown v", [request(v=2)], ["request.unknown-version"], "2"
    yield "no id", [request(id=None)], malformed, "id"
    yield "id is a number", [request(id=7)], malformed, "id"
    yield "no type", [request(type=None)], malformed, "type"
    yield "type is a number", [request(type=7)], malformed, "type"
    yield "unknown type", [request(type="no.such-type")], ["request.unknown-type"], "no.such-type"
    yield "no body", [request(body=None)], malformed, "body"
    yield "body is an array", [request(type=needs, body=[])], malformed, "body"
    yield "body is a text", [request(type=needs, body="x")], malformed, "body"
    yield "body lacks a field", [request(type=needs, body={})], malformed, field
    yield "field of another kind", [request(type=needs, body={field: 7})], malformed, field
    yield "timeout is a text", [request(timeout="soon")], malformed, "timeout"
    yield "wrong target", [request(target="another-life")], ["request.wrong-target"], "another-life"
    yield "above 1 MiB", [request(body={"x": "y" * (2 * MIB)})], ["request.too-large"], None
    yield "two frames", [request(), request()], malformed, "frame"
    yield "three frames", [request(), b"", b""], malformed, "frame"


class Prober:
    def __init__(self, context, process):
        self.context, self.process, self.kind = context, process, process["name"].split("/")[-1]
        self.problems, self.sent = [], 0

    def dealer(self):
        socket = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self.process["requests"])
        return socket

    def exchange(self, frames, seconds=5.0):
        """The reply to these frames (the envelope included), or None."""
        socket = self.dealer()
        try:
            socket.send_multipart(frames)
            self.sent += 1
            return json.loads(socket.recv_multipart()[-1]) if socket.poll(int(seconds * 1000)) else None
        finally:
            socket.close(0)

    def expect(self, name, reply, codes, word):
        if reply is None:
            self.problems.append(f"{name}: no reply")
        elif reply.get("ok") is not False or reply["error"]["code"] not in codes:
            self.problems.append(f"{name}: expected {' or '.join(codes)}, got {json.dumps(reply)[:300]}")
        elif word is not None and word not in reply["error"]["message"]:
            self.problems.append(f"{name}: the message does not name {word!r}: {reply['error']['message'][:300]}")

    def pid(self):
        return Requests(self.context, self.process["requests"]).body("health")["pid"]

    def run(self):
        before = self.pid()
        for name, frames, codes, word in cases(self.kind):
            self.expect(name, self.exchange([b""] + frames), codes, word)
        self.expect("no frame after the envelope", self.exchange([b""]), ["request.malformed"], None)
        self.expect("no envelope, not JSON", self.exchange([b"hello"]), ["request.malformed"], None)
        self.reused_id()
        self.too_large_for_the_socket()
        self.rubbish()
        self.keep_up()
        after = self.pid()
        if after != before:
            self.problems.append(f"it died: pid was {before}, is {after}")
        return {"name": self.process["name"], "pid": after, "sent": self.sent, "problems": self.problems}

    def reused_id(self):
        _, _, type, body, other = TYPES[self.kind]
        id = str(uuid.uuid4())
        first = self.exchange([b"", request(id=id, type=type, body=body)])
        again = self.exchange([b"", request(id=id, type=type, body=body)])
        if first is None or first != again:
            self.problems.append(f"same id and body: {json.dumps(first)[:200]} then {json.dumps(again)[:200]}")
        self.expect("id reused with another body", self.exchange([b"", request(id=id, type=type, body=other)]), ["request.id-reused"], None)

    def too_large_for_the_socket(self):
        """Above 16 MiB libzmq drops the peer: no reply, and nobody else notices."""
        reply = self.exchange([b"", request(body={"x": "y" * (17 * MIB)})], 0.5)
        if reply is not None and reply["error"]["code"] != "request.too-large":
            self.problems.append(f"17 MiB: {json.dumps(reply)[:200]}")

    def rubbish(self):
        """Valid requests with a few bytes changed, one after another on one socket; whether they are answered is not asked here."""
        chance = random.Random(7)
        socket = self.dealer()
        for _ in range(300):
            frame = bytearray(request(type=TYPES[self.kind][0]))
            for _ in range(chance.randint(1, 8)):
                frame[chance.randrange(len(frame))] = chance.randrange(256)
            socket.send_multipart([b"", bytes(frame)])
            self.sent += 1
        # A reader that goes away with replies on the way.
        socket.close(0)

    def keep_up(self):
        if not Requests(self.context, self.process["requests"], 2.0).ask("ping")["ok"]:
            self.problems.append("ping is refused afterwards")


def main():
    context = zmq.Context()
    results = []
    for process in json.load(sys.stdin):
        prober = Prober(context, process)
        try:
            results.append(prober.run())
        except (TimeoutError, AssertionError, ValueError, KeyError) as error:
            results.append({"name": process["name"], "sent": prober.sent, "problems": prober.problems + [f"{type(error).__name__}: {error}"]})
    print(json.dumps({"processes": results}, indent=1))
    sys.exit(any(result["problems"] for result in results))


main()
