import CLinux
import Foundation
import LeaseFormat
import Messages
import TestLab
import Testing

/// lease-service and Debian's sanlock on one lockspace, in both directions.
@Suite(.enabled(if: SanlockDaemon.isInstalled && geteuid() == 0, "needs sanlock and root"), .timeLimit(.minutes(4)))
struct SanlockTests {
    @Test("what one holds is refused to the other, and taken over once it is given back, with the next version")
    func refuseAndRelease() async throws {
        try await SanlockLab.run { lab in
            let (node, leases) = try lab.founder(1, leases: ["disk"])
            let sanlock = try lab.daemon(2)
            let (lease, resource) = (lab.lease("disk"), lab.resource(leases[0]))
            let ours = try node.guarded("web"), theirs = try sanlock.connect()
            for round in UInt64(0)..<3 {
                let held = try ours.take(lease)
                try expect(held.lver == 2 * round + 1 && held.generation == 1, "\(held) in round \(round)")
                try theirs.expectAlive(resource)
                try ours.release()

                try theirs.take(resource)
                try ours.expectRefusal(lease, naming: "sanlock2")
                let view = try node.lookup(lease)
                try expect(view.status == .exclusive && view.ownerID == 2 && view.ownerName == "sanlock2" && view.lver == 2 * round + 2, "\(view)")
                try theirs.giveBack()
                try expect(node.lookup(lease).status == .free, "it was given back")
            }
            // Each sees the other alive.
            let seen = try node.inspect(lab.lockspace).hosts
            try expect(seen.contains { $0.hostID == 2 && $0.name == "sanlock2" && $0.state == .live }, "\(seen)")
            let hosts = sanlock.client("host_status", "-s", lab.lockspace).text
            try expect(hosts.contains("1 timestamp"), hosts)
        }
    }

    @Test("a lease of ours whose host died is sanlock's after 8 x io_timeout and 60 s, not before", .timeLimit(.minutes(4)))
    func sanlockTakesOver() async throws {
        try await SanlockLab.run { lab in
            let (node, leases) = try lab.founder(1, leases: ["disk"])
            let sanlock = try lab.daemon(2)
            let ours = try node.guarded("web"), theirs = try sanlock.connect()
            try ours.take(lab.lease("disk"))
            let took = try Self.takeOver(lab, killing: node.kill) { try theirs.acquire(lab.resource(leases[0])) == SanlockResult.ok }
            try expect(took, "sanlock never took it")
            // Back again, its lease is void: it says so instead of granting it.
            try node.start()
            try ours.connect()
            let answer = try ours.adopt([GuardLease(name: lab.lease("disk"), lver: 1, generation: 1)], deadline: 0)
            try expect(answer.code != nil, "a lease that sanlock holds was granted again: \(answer)")
        }
    }

    @Test("a lease of sanlock's whose host died is ours after that time where an operator vouches for its watchdog, and nowhere else", .timeLimit(.minutes(4)))
    func oursTakesOver() async throws {
        try await SanlockLab.run { lab in
            let (node, leases) = try lab.founder(1, leases: ["disk"], vouching: true)
            let careful = try lab.node(3)
            try careful.join(lab.lockspace, at: lab.domain)
            let sanlock = try lab.daemon(2)
            let theirs = try sanlock.connect()
            try theirs.take(lab.resource(leases[0]))
            let ours = try node.guarded("web"), other = try careful.guarded("web")
            let took = try Self.takeOver(lab, killing: sanlock.kill) {
                try other.expectRefusal(lab.lease("disk"), naming: "sanlock2")
                return try !ours.acquire([lab.lease("disk")]).leases.isEmpty
            }
            try expect(took, "lease-service never took it")
        }
    }

    /// Kills the owner and tries until the lease is taken, which may not be before the owner's dead time is over: from its last renewal, two periods before the kill at most.
    private static func takeOver(_ lab: SanlockLab, killing: () -> Void, _ attempt: () throws -> Bool) throws -> Bool {
        let dead = Double(8 * lab.ioTimeout + 60), period = Double(2 * lab.ioTimeout) + 1
        killing()
        let killed = cl_boottime()
        func elapsed() -> Double { Double(cl_boottime() - killed) / 1e9 }
        while elapsed() < dead + 4 * period {
            if try attempt() {
                try expect(elapsed() > dead - 2 * period, "it was taken over \(elapsed()) s after the kill, and may not be before \(dead) s after the last renewal")
                return true
            }
            usleep(500_000)
        }
        return false
    }

    @Test("a host that joins anew has lost its leases: the other side takes them at once")
    func generations() async throws {
        try await SanlockLab.run { lab in
            let (node, leases) = try lab.founder(1, leases: ["web", "db"])
            let sanlock = try lab.daemon(2)
            let theirs = try sanlock.connect()
            try theirs.take(lab.resource(leases[0]))
            try expect(node.guarded("web").acquire([lab.lease("web")]).code == LeaseErrorCode.held.rawValue, "sanlock holds it")
            sanlock.kill()
            try sanlock.start()
            try lab.join(sanlock, 2)
            let ours = try node.guarded("web")
            try ours.take(lab.lease("web"))
            try sanlock.connect().expectAlive(lab.resource(leases[0]))

            let second = try node.guarded("db")
            try second.take(lab.lease("db"))
            try sanlock.connect().expectAlive(lab.resource(leases[1]))
            // The machine boots: nothing of its guards is left.
            ours.vanish()
            second.vanish()
            try node.reboot()
            try expect(node.join(lab.lockspace, at: lab.domain).generation == 2, "a new boot is a new generation")
            try sanlock.connect().take(lab.resource(leases[1]))
        }
    }

    @Test("both share a lease; neither may own it while the other shares it, nor share it while the other owns it")
    func sharing() async throws {
        try await SanlockLab.run { lab in
            let (node, leases) = try lab.founder(1, leases: ["disk"])
            let sanlock = try lab.daemon(2)
            let (lease, resource) = (lab.lease("disk"), lab.resource(leases[0]))
            let ours = try node.guarded("web"), theirs = try sanlock.connect()

            try ours.take(lease, .shared)
            try theirs.take(resource, shared: true)
            let shared = try node.lookup(lease)
            try expect(shared.status == .shared, "\(shared)")
            try expect(ours.convert(lease, to: .exclusive).code != nil, "ours owns what sanlock shares")
            try ours.release()
            try expect(ours.acquire([lease]).code != nil, "ours owns what sanlock shares")
            try theirs.giveBack()

            try ours.take(lease, .shared)
            let refused = try theirs.acquire(resource)
            try expect(refused == SanlockResult.isShared, "sanlock owns what ours shares: \(refused)")
            try expect(ours.convert(lease, to: .exclusive).code == nil, "nobody else shares it")
            try theirs.expectAlive(resource, shared: true)
            try ours.release()

            try theirs.take(resource)
            try expect(ours.acquire([lease], .shared).code != nil, "ours shares what sanlock owns")
            try theirs.giveBack()
            try ours.take(lease)
        }
    }

    @Test("each asks the other for a lease, kindly and by force: ours tells its guard, sanlock ends the holder")
    func requests() async throws {
        try await SanlockLab.run { lab in
            let (node, leases) = try lab.founder(1, leases: ["theirs", "ours"])
            let sanlock = try lab.daemon(2)
            // sanlock does not listen to a host again for 6 x io_timeout: whoever asks asks again.
            let soon = Double(12 * lab.ioTimeout + 10)

            for (turn, mode) in [LeaseDemand.Mode.graceful, .force].enumerated() {
                let holder = try sanlock.command(holding: lab.resource(leases[0]).text)
                try Wait.until("sanlock's holder has the lease", seconds: 20, pause: 50_000) { try node.lookup(lab.lease("theirs")).status == .exclusive }
                try Wait.until("sanlock ends the holder (\(mode))", seconds: soon, pause: 1_000_000) {
                    if holder.isRunning { _ = try node.call(Nothing.self, "lease.request", LeaseDemand(lease: lab.lease("theirs"), mode: mode)) }
                    return !holder.isRunning
                }
                try expect(holder.exitStatus == (mode == .force ? -SIGKILL : -SIGTERM), "\(mode): \(String(describing: holder.exitStatus))")
                try Wait.until("sanlock gives it back", seconds: 10, pause: 50_000) { try node.lookup(lab.lease("theirs")).status == .free }
                try expect(node.lookup(lab.lease("theirs")).lver == UInt64(turn + 1), "one owner in each turn")
            }

            let guarded = try node.guarded("web")
            try guarded.take(lab.lease("ours"))
            for (mode, name) in [("2", "graceful"), ("1", "force")] {
                let asked = sanlock.client("request", "-r", "\(lab.resource(leases[1]).text):2", "-f", mode)
                try expect(asked.status == 0, asked.text)
                let end = cl_boottime() + Int64(soon * 1e9)
                var told: GuardMessage?
                while cl_boottime() < end, told == nil { if let message = try guarded.next(seconds: 1), message.verb == "requested" { told = message } }
                try expect(told?["mode"] == name && told?["lver"] == "2", "asked with -f \(mode), the guard hears \(String(describing: told))")
            }
        }
    }

    @Test("host events reach the other side, with event, data and sender")
    func events() async throws {
        try await SanlockLab.run { lab in
            let node = try lab.founder(1, leases: []).node
            let sanlock = try lab.daemon(2)
            let heard = try node.listen(to: "lockspace.event")
            let soon = 4 * lab.ioTimeout + 10

            _ = try node.call(Nothing.self, "lockspace.notify", LockspaceNotice(lockspace: lab.lockspace, hostID: 2, generation: 1, event: 7, data: 42))
            try Wait.until("sanlock hears it", seconds: Double(soon), pause: 100_000) { sanlock.log.contains("request from host_id 1") }
            let sector = try SanlockDaemon.direct("read_leader", "-s", "\(lab.lockspace):1:\(lab.layout.ids):0")
            for field in ["extra1 1", "extra2 7", "extra3 42"] { try expect(sector.contains(field), sector) }

            let set = sanlock.client("set_event", "-s", "\(lab.lockspace):2:\(lab.layout.ids):0", "-i", "1", "-g", "1", "-e", "9", "-d", "43")
            try expect(set.status == 0, set.text)
            let ours = try heard.next(LockspaceHostEvent.self, seconds: Int64(soon))
            try expect(ours == LockspaceHostEvent(lockspace: lab.lockspace, from: 2, name: "sanlock2", event: 9, data: 43), "ours hears \(String(describing: ours))")
        }
    }

    @Test("4096-byte sectors, volumes made by sanlock: both read and write them", arguments: [1, 8])
    func largeSectors(_ mebibytes: Int) async throws {
        try await SanlockLab.run { lab in
            let resource = try lab.makeLargeSectors(mebibytes, lease: "disk")
            let node = try lab.node(1)
            try node.join(lab.lockspace, at: lab.domain)
            let sanlock = try lab.daemon(2)
            let ours = try node.guarded("web"), theirs = try sanlock.connect()
            for _ in 0..<2 {
                try ours.take(lab.lease("disk"))
                try theirs.expectAlive(resource)
                try ours.release()
                try theirs.take(resource)
                try ours.expectRefusal(lab.lease("disk"), naming: "sanlock2")
                try theirs.giveBack()
            }
            try expect(node.lookup(lab.lease("disk")).lver == 4, "four owners")
        }
    }
}

/// Apart from the others: by night it takes longer than they may.
@Suite(.enabled(if: SanlockDaemon.isInstalled && geteuid() == 0, "needs sanlock and root"), .timeLimit(.minutes(180)))
struct SanlockContentionTests {
    @Test("two sanlock daemons and two lease-services want one lease, over and over: nobody ever overwrites what another counted")
    func contention() async throws {
        // sanlock kills whoever holds a lease when its own storage is late, and that would be this process.
        try await SanlockLab.run(ioTimeout: 4) { lab in
            let (node, leases) = try lab.founder(1, leases: ["counter"])
            let second = try lab.node(3)
            try second.join(lab.lockspace, at: lab.domain)
            let daemons = [try lab.daemon(2), try lab.daemon(4)]
            let counter = Counter(path: "\(lab.directory)/counter", rounds: ProcessInfo.processInfo.environment["BULWARK_CONTENTION_ROUNDS"].flatMap(Int.init) ?? 300)
            let resource = lab.resource(leases[0]), lease = lab.lease("counter")
            try counter.contend(
                daemons.map(\.run).map { run in
                    { @Sendable in
                        let client = try SanlockClient(run: run)
                        return Contender(name: "sanlock", acquire: { try client.acquire(resource) == SanlockResult.ok }, release: { try client.giveBack() })
                    }
                } + [node, second].map(\.run).map { run in
                    { @Sendable in
                        let client = try LeaseClient(run: run, holder: Holder(role: .vm, name: "web", attempt: 1))
                        return Contender(name: "lease-service", acquire: { try !client.acquire([lease]).leases.isEmpty }, release: { try client.release() })
                    }
                })
        }
    }
}
