import Foundation
import Messages
import TestLab
import Testing

/// Repairs of lockspaces that real sanlock daemons share, and backups that a service writes by itself.
@Suite(.enabled(if: SanlockDaemon.isInstalled && geteuid() == 0, "needs sanlock and root"), .timeLimit(.minutes(6)))
struct SanlockRepairTests {
    @Test("the host id of a daemon that is gone is freed once it was silent for its own dead time, and its leases with it; a life that is not meant is not touched")
    func void() async throws {
        try await SanlockLab.run { lab in
            let (node, leases) = try lab.founder(1, leases: ["disk"])
            let sanlock = try lab.daemon(2)
            // The lease is given back when the connection is closed.
            let theirs = try sanlock.connect()
            try theirs.take(lab.resource(leases[0]))
            let ours = try node.guarded("web")
            func order(_ generation: UInt64 = 1, dryRun: Bool = false) throws -> LeaseVoidView {
                try node.call(
                    LeaseVoidView.self, "lease.void",
                    LeaseVoid(lockspace: lab.lockspace, hostID: 2, generation: generation, spm: false, dryRun: dryRun, who: "tester", why: "its machine is gone"))
            }
            func refusal(_ generation: UInt64 = 1) throws -> RequestError {
                do { _ = try order(generation) } catch let error as RequestError { return error }
                throw LabFailure("it was freed")
            }
            try expect(try refusal().code == LockspaceErrorCode.inUse.rawValue, "a daemon that lives")
            withExtendedLifetime(theirs) { sanlock.kill() }
            try expect(try refusal().code == LockspaceErrorCode.inUse.rawValue, "a daemon that may live")
            try expect(try refusal(2).code == LeaseErrorCode.generationMismatch.rawValue, "another life")
            let dead = Double(8 * lab.ioTimeout + 60)
            try Wait.until("it counts as dead", seconds: dead + 30, pause: 500_000) { (try? order(dryRun: true)) != nil }
            let plan = try order(dryRun: true)
            try expect(plan.leases == ["disk"] && !plan.isDone && plan.unchangedFor >= .seconds(Int64(dead)), "\(plan)")
            // Told only: nothing is free yet, and time alone does not free it.
            try ours.expectRefusal(lab.lease("disk"), naming: "sanlock2")
            let done = try order()
            try expect(done.isDone && done.state == .free, "\(done)")
            let held = try ours.take(lab.lease("disk"))
            try expect(held.lver == 2, "\(held)")
            // The daemon comes back as a new life, and sees an owner that lives.
            try sanlock.start()
            try lab.join(sanlock, 2)
            try sanlock.connect().expectAlive(lab.resource(leases[0]))
            try expect(node.inspect(lab.lockspace).hosts.contains { $0.hostID == 2 && $0.generation == 2 }, "a new generation")
        }
    }

    @Test("backups are written on schedule by the host with the lowest id alone, the oldest is overwritten, and each says what was there")
    func scheduledBackups() async throws {
        try await SanlockLab.run { lab in
            let directory = "\(lab.directory)/backups"
            func node(_ id: Int) throws -> LeaseNode {
                let node = try LeaseNode(
                    name: "node\(id)", hostID: id, in: lab.directory,
                    settings: ["lease.backup.directory": "\(directory)\(id)", "lease.backup.every": "1s", "lease.backup.keep": "2"])
                lab.atEnd { node.kill() }
                return node
            }
            let one = try node(1), two = try node(2)
            try one.initialize(lab.lockspace, at: lab.domain, ioTimeout: lab.ioTimeout)
            try one.join(lab.lockspace, at: lab.domain)
            try two.join(lab.lockspace, at: lab.domain)
            try one.create(["disk"], in: lab.lockspace)
            try one.guarded("web").take(lab.lease("disk"))
            func files(_ id: Int) -> [String] { ((try? FileManager.default.contentsOfDirectory(atPath: "\(directory)\(id)")) ?? []).sorted() }
            func contents(_ id: Int) -> [Data?] { files(id).map { FileManager.default.contents(atPath: "\(directory)\(id)/\($0)") } }
            try Wait.until("two backups", seconds: 30, pause: 200_000) { files(1).count == 2 }
            // Renewals go on, so that each one differs from what it overwrites.
            let before = contents(1)
            try Wait.until("both are overwritten", seconds: 60, pause: 200_000) { zip(contents(1), before).allSatisfy { $0 != $1 } }
            try expect(files(1).count == 2, "only as many as are kept: \(files(1))")
            try expect(files(2).isEmpty, "host 2 leaves it to host 1: \(files(2))")
            one.kill()
            try Wait.until("host 2 takes over", seconds: Double(8 * lab.ioTimeout + 60), pause: 500_000) { files(2).count == 2 }
        }
    }
}
