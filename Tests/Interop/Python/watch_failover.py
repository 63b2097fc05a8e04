#!/usr/bin/python3
"""Lists the hosts, subscribes to host.status and records a host's whole failover.

usage: watch_failover.py REQUESTS EVENTS HOST SECONDS

Prints `ready` once subscribed; then, when the host was NonResponsive and is Up again in a newer incarnation (or time ran out), one JSON object.
"""

import json
import sys

import zmq

from bulwark_bus import Requests, Subscription, wait


def main():
    requests, events, host, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
    context = zmq.Context()
    listed = Requests(context, requests).body("host.list")["hosts"]

    hosts = {}
    story = []

    def take_snapshot(state):
        for view in state["hosts"]:
            hosts[view["name"]] = view

    def take_event(topic, event):
        view = event["body"]
        assert topic == "host.status." + view["name"], topic
        hosts[view["name"]] = view
        if view["name"] == host:
            proof = (view.get("proof") or {}).get("proof") or {}
            story.append(
                {"status": view["status"], "incarnation": view["incarnation"], "reason": view["reason"], "proof": proof.get("kind"),
                 "covers": proof.get("incarnations"), "typeSeq": event["typeSeq"]})

    subscription = Subscription(context, requests, events, "host.status", take_snapshot, take_event)
    first = hosts[host]["incarnation"]
    print("ready", flush=True)

    def recovered():
        silent = any(entry["status"] == "NonResponsive" for entry in story)
        return silent and hosts[host]["status"] == "Up" and hosts[host]["incarnation"] > first

    done = wait(recovered, seconds, subscription.poll)
    # What the copy says must be what the owner says now.
    agrees = wait(
        lambda: {n: v["status"] for n, v in hosts.items()} == {v["name"]: v["status"] for v in Requests(context, requests).body("host.list")["hosts"]},
        10, subscription.poll)
    print(json.dumps(
        {"listed": sorted(view["name"] for view in listed), "recovered": done, "agrees": agrees, "gaps": subscription.gaps,
         "snapshots": subscription.snapshots, "applied": subscription.applied, "firstIncarnation": first, "story": story}), flush=True)


main()
