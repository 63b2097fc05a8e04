import CLinux
import Foundation
import Messages
import TestLab
import Testing

/// lease-service with engine: sanlock: a real daemon renews, takes and releases, guards hold.
@Suite(.enabled(if: SanlockDaemon.isInstalled && geteuid() == 0 && dlopen("libsanlock_client.so.1", RTLD_LAZY) != nil, "needs sanlock, libsanlock-client1 and root"), .timeLimit(.minutes(4)))
struct SanlockEngineTests {
    @Test("a guard holds its lease through sanlock, whatever becomes of lease-service, and gives it back; a native host is refused meanwhile, takes it and refuses in turn")
    func holds() async throws {
        try await SanlockLab.run { lab in
            let (native, _) = try lab.founder(2, leases: ["disk"])
            let (node, daemon) = try lab.driven(1)
            let view = try node.join(lab.lockspace, at: lab.domain)
            try expect(view.state == .joined && view.generation == 1 && view.generationBefore == 0, "\(view)")

            let first = try lab.guarded("web", ["disk"], on: node)
            let held = try first.awaitPayload()
            try expect(held == [GuardLease(name: lab.lease("disk"), lver: 1, generation: 1)], "\(held)")
            let status = daemon.client("status").text
            try expect(status.contains("p \(first.pid)") && status.contains("\(lab.lockspace):disk:"), status)
            // As long as the payload has the daemon's connection open, nothing is released.
            let payload = try #require(first.payload)
            try expect(!Self.sockets(of: first.pid).isDisjoint(with: Self.sockets(of: payload)), "the payload did not inherit the connection")
            let client = try native.guarded("web")
            try client.expectRefusal(lab.lease("disk"), naming: "sanlock1")
            try expect(native.lookup(lab.lease("disk")).ownerID == 1, "another owner on disk")

            node.kill()
            try expect(first.payload == payload && client.acquire([lab.lease("disk")]).code == LeaseErrorCode.held.rawValue, "lease-service's end changed something")
            try node.start()
            let before = try #require(first.deadline)
            try Wait.until("the deadline moves again", seconds: 20) { first.deadline ?? 0 > before }
            try expect(first.payload == payload && node.snapshot().leases.map(\.holder) == ["vm:web:1"], "it was not taken back")

            let end = try first.stop()
            try expect(end.verb == "ended" && end["released"] == "yes", end.text)
            try expect(native.lookup(lab.lease("disk")).status == .free, "it was given back")
            try expect(client.take(lab.lease("disk")).lver == 2, "the next version")
            let second = try lab.guarded("web", attempt: 2, ["disk"], on: node)
            let refusal = try second.awaitEnd()
            try expect(refusal.verb == "refused" && refusal["code"] == LeaseErrorCode.held.rawValue && refusal["message"]?.contains("node2") == true, refusal.text)
            try client.release()
            let third = try lab.guarded("web", attempt: 3, ["disk"], on: node)
            try expect(third.awaitPayload().first?.lver == 3, "taken over after release")
            _ = try third.stop()
            try node.leave(lab.lockspace)
            try Wait.until("the daemon has left", seconds: 10) { try native.inspect(lab.lockspace).hosts.first { $0.hostID == 1 }?.state == .free }
        }
    }

    private static func sockets(of pid: pid_t) -> Set<String> {
        let directory = "/proc/\(pid)/fd"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return Set(names.compactMap { try? FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/\($0)") }.filter { $0.hasPrefix("socket:") })
    }

    @Test("a guard that is killed, by anybody or by sanlock for a host that takes the lease by force, takes its payload along before the lease is free")
    func killed() async throws {
        try await SanlockLab.run { lab in
            let (native, leases) = try lab.founder(2, leases: ["disk"])
            let (node, _) = try lab.driven(1)
            try node.join(lab.lockspace, at: lab.domain)
            let other = try lab.daemon(3)
            for (attempt, isBySanlock) in [(UInt64(1), false), (2, true)] {
                let run = try lab.guarded("web", attempt: attempt, ["disk"], on: node)
                try run.awaitPayload()
                if isBySanlock {
                    let asked = other.client("request", "-r", "\(lab.resource(leases[0]).text):3", "-f", "1")
                    try expect(asked.status == 0, asked.text)
                } else {
                    Glibc.kill(run.pid, SIGKILL)
                }
                try Wait.until("the lease is free", seconds: Double(4 * lab.ioTimeout + 10), pause: 1000) { try native.lookup(lab.lease("disk")).status == .free }
                try expect(run.payload == nil, "the lease is free and the payload runs")
                try expect(run.exitStatus == -SIGKILL, "\(String(describing: run.exitStatus))")
                try Wait.until("lease-service sees it too", seconds: 10) { try node.snapshot().leases.isEmpty }
            }
        }
    }

    @Test("a daemon that dies takes the guests with it at once, long before their deadline, and a new daemon joins with the next generation, never under a living guest")
    func daemonDies() async throws {
        try await SanlockLab.run(ioTimeout: 1) { lab in
            let (native, _) = try lab.founder(2, leases: ["disk"])
            let (node, daemon) = try lab.driven(1)
            try node.join(lab.lockspace, at: lab.domain)
            let run = try lab.guarded("web", ["disk"], on: node)
            try run.awaitPayload()
            let deadline = try #require(run.deadline)
            daemon.kill()
            try daemon.start()
            while run.payload != nil {
                try expect(native.inspect(lab.lockspace).hosts.first { $0.hostID == 1 }?.generation == 1, "joined anew under a living guest")
                try expect(cl_boottime() < deadline, "the payload lives until the deadline")
            }
            let result = try run.awaitEnd()
            try expect(result.verb == "ended" && result["released"] == "no" && result["why"]?.contains("closed its connection") == true, result.text)
            try Wait.until("joined anew", seconds: 30) { try node.snapshot().lockspaces.first?.generation == 2 }
            let next = try lab.guarded("web", attempt: 2, ["disk"], on: node)
            let held = try next.awaitPayload()
            try expect(held.first?.generation == 2 && held.first?.lver == 2, "\(held)")
        }
    }

    @Test("volumes with 4096-byte sectors; a guard that says it has taken what it has not is refused by what the disk says", arguments: [1, 8])
    func largeSectors(_ mebibytes: Int) async throws {
        try await SanlockLab.run(ioTimeout: 1) { lab in
            _ = try lab.makeLargeSectors(mebibytes, lease: "disk")
            let (node, _) = try lab.driven(1)
            try node.join(lab.lockspace, at: lab.domain)
            let liar = try node.guarded("liar")
            let order = try liar.exchange(liar.acquisition(of: [lab.lease("disk")]))
            try expect(LeaseClient.isVerb("take", order), String(decoding: order, as: UTF8.self))
            let answer = String(decoding: try liar.exchange(Array(GuardMessage("taken", [("holder", liar.holder.description)]).text.utf8)), as: UTF8.self)
            try expect(answer.hasPrefix("refused") && answer.contains(LeaseErrorCode.corrupt.rawValue), answer)
            liar.vanish()
            let run = try lab.guarded("web", ["disk"], on: node)
            try expect(run.awaitPayload().first?.lver == 1, "the first to take it")
            try expect(run.stop()["released"] == "yes", "given back")
        }
    }

    @Test("an SPM behind sanlock makes leases, asks for them and sends events; what takes a lease in lease-service itself is refused by name")
    func creates() async throws {
        try await SanlockLab.run(ioTimeout: 1) { lab in
            let (native, _) = try lab.founder(2, leases: [])
            let (node, _) = try lab.driven(1)
            try node.join(lab.lockspace, at: lab.domain)
            let spm = try lab.guarded(Holder(role: .spm, name: "lab", attempt: 1), [DomainLayout.sdm], on: node)
            let lver = try #require(try spm.awaitPayload().first?.lver)
            let request = LeaseRequest(lease: lab.lease("disk"), lver: lver)
            _ = try node.call(LeaseView.self, "lease.create", request)
            try expect(native.lookup(lab.lease("disk")).status == .free, "it is not there")
            do {
                _ = try node.call(Nothing.self, "lease.remove", request)
                throw LabFailure("it was removed")
            } catch let error as RequestError {
                try expect(error.code == LeaseErrorCode.notSupported.rawValue, "\(error)")
            }
            let run = try lab.guarded("web", ["disk"], on: node)
            try run.awaitPayload()
            _ = try run.stop()
            _ = try spm.stop()

            let client = try native.guarded("web")
            try client.take(lab.lease("disk"))
            _ = try node.call(Nothing.self, "lease.request", LeaseDemand(lease: lab.lease("disk"), mode: .graceful))
            var asked: GuardMessage?
            for _ in 0..<40 where asked?.verb != "requested" { asked = try client.next(seconds: 1) ?? asked }
            try expect(asked?["mode"] == "graceful" && asked?["by"] == "sanlock1", "\(String(describing: asked))")
            let heard = try native.listen(to: "lockspace.event")
            _ = try node.call(Nothing.self, "lockspace.notify", LockspaceNotice(lockspace: lab.lockspace, hostID: 2, generation: 1, event: 7, data: 42))
            let event = try heard.next(LockspaceHostEvent.self, seconds: 20)
            try expect(event?.from == 1 && event?.event == 7 && event?.data == 42, "\(String(describing: event))")
        }
    }
}
