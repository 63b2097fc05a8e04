"""What a client of any language needs of Bulwark's bus: plain REQ and SUB sockets and JSON."""

import json
import time
import uuid

import zmq


class Requests:
    """A plain REQ socket to one process."""

    def __init__(self, context, endpoint, timeout=5.0):
        self.context, self.endpoint, self.timeout = context, endpoint, timeout
        self.socket = None
        self.connect()

    def connect(self):
        if self.socket is not None:
            self.socket.close(0)
        self.socket = self.context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(self.endpoint)

    def ask(self, type, body=None, id=None):
        """The whole reply; raises TimeoutError if none came (a REQ socket is then of no more use and is made anew)."""
        request = {"v": 1, "id": id or str(uuid.uuid4()), "type": type, "body": body or {}}
        self.socket.send(json.dumps(request).encode())
        if not self.socket.poll(int(self.timeout * 1000)):
            self.connect()
            raise TimeoutError(f"{self.endpoint} did not answer {type}")
        reply = json.loads(self.socket.recv())
        assert reply["v"] == 1 and reply["id"] == request["id"], reply
        return reply

    def body(self, type, body=None):
        reply = self.ask(type, body)
        assert reply["ok"], reply
        return reply["body"]


class Subscription:
    """Events of one type from one process, by the contract's rules: subscribe, ask for the snapshot, apply what is newer, ask again at a gap or a new epoch.

    `apply_snapshot(state)` and `apply(topic, event)` are called in order; `gaps` counts events that were missed.
    """

    def __init__(self, context, requests, events, type, apply_snapshot, apply):
        self.context, self.requests, self.type = context, Requests(context, requests), type
        self.apply_snapshot, self.apply = apply_snapshot, apply
        self.gaps, self.snapshots, self.applied, self.older = [], 0, 0, 0
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.connect(events)
        self.socket.setsockopt(zmq.SUBSCRIBE, type.encode())
        self.socket.setsockopt(zmq.SUBSCRIBE, b"service.alive")
        self.epoch, self.type_seq = None, 0
        # The subscription is in force once something of this publisher arrives: `service.alive` comes every second.
        if not self.socket.poll(5000):
            raise TimeoutError(f"{events} is silent")
        self.resume()

    def resume(self):
        state = self.requests.body("snapshot")
        self.epoch, self.type_seq = state["epoch"], state["typeSeq"].get(self.type, 0)
        self.snapshots += 1
        self.apply_snapshot(state["body"])

    def poll(self, seconds):
        """Takes what has come within the time; False if nothing did."""
        if not self.socket.poll(int(seconds * 1000)):
            return False
        frames = self.socket.recv_multipart()
        assert len(frames) == 2, frames
        topic, event = frames[0].decode(), json.loads(frames[1])
        assert event["v"] == 1
        if event["epoch"] != self.epoch:
            self.resume()
        elif event["type"] == "service.alive":
            last = event["body"]["typeSeq"].get(self.type, 0)
            if last > self.type_seq:
                self.gaps.append({"have": self.type_seq, "alive says": last})
                self.resume()
        elif event["type"] == self.type and (topic == self.type or topic.startswith(self.type + ".")):
            if event["typeSeq"] <= self.type_seq:
                self.older += 1
            elif event["typeSeq"] == self.type_seq + 1:
                self.type_seq = event["typeSeq"]
                self.applied += 1
                self.apply(topic, event)
            else:
                self.gaps.append({"have": self.type_seq, "came": event["typeSeq"]})
                self.resume()
        return True


def wait(condition, seconds, step):
    """Runs `step(remaining)` until the condition holds; False if time ran out."""
    deadline = time.monotonic() + seconds
    while not condition():
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        step(min(remaining, 1.0))
    return True
