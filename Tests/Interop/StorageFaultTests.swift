import CLinux
import Foundation
import Messages
import ServiceKit
import TestLab
import Testing

/// Storage that hangs, fails, ends early or is full, under real lease-services: it harms the host that has it, and no other.
@Suite(.enabled(if: geteuid() == 0 && access("/usr/bin/bindfs", X_OK) == 0, "needs root and bindfs"), .timeLimit(.minutes(4)))
struct StorageFaultTests {
    @Test("one host's storage hangs: its guards are told in time, every other host goes on, and once the storage answers it joins anew")
    func hang() async throws {
        try await SanlockLab.run { lab in
            try Self.cut(lab, by: { $0.hang() }, healing: { $0.answer() })
        }
    }

    @Test("one host's storage fails: the same")
    func failure() async throws {
        try await SanlockLab.run { lab in
            try Self.cut(lab, by: { $0.fail() }, healing: { try $0.mount() })
        }
    }

    private static func cut(_ lab: SanlockLab, by break: (Passage) throws -> Void, healing heal: (Passage) throws -> Void) throws {
        let (well, _) = try lab.founder(1, leases: ["a", "b", "c"])
        let passage = try Passage(to: lab.domain, at: "\(lab.directory)/passage")
        lab.atEnd { passage.end() }
        let cut = try lab.node(2)
        try cut.join(lab.lockspace, at: passage.path)
        let theirs = try cut.guarded("a"), ours = try well.guarded("b"), others = try well.guarded("c")
        let held = try theirs.take(lab.lease("a"))
        try ours.take(lab.lease("b"))

        try `break`(passage)
        let began = cl_boottime()
        func elapsed() -> Double { Double(cl_boottime() - began) / 1e9 }
        let deadline = Double(8 * lab.ioTimeout)
        var lost: GuardMessage?, slowest = 0.0, cycles = 0
        while lost == nil, elapsed() < deadline + 5 {
            // The process answers, whatever its disk does.
            let asked = cl_boottime()
            _ = try cut.snapshot()
            slowest = max(slowest, Double(cl_boottime() - asked) / 1e9)
            try others.take(lab.lease("c"))
            try others.release()
            cycles += 1
            while let message = try theirs.next(seconds: 0.05) { if message.verb == "lost" { lost = message } }
        }
        try expect(lost != nil && elapsed() < deadline + 1, "the guard was told after \(elapsed()) s; its deadline was at most \(deadline) s away: \(String(describing: lost))")
        try expect(elapsed() > deadline / 2, "the guard was told after \(elapsed()) s, long before its deadline")
        try expect(slowest < 2, "the host whose storage is cut answered after \(slowest) s")
        try expect(cycles > 20, "the other host had \(cycles) turns in \(elapsed()) s")
        // What is lost is not free: nothing proves that its guard has ended.
        try others.expectRefusal(lab.lease("a"), naming: "node2")
        try expect(well.inspect(lab.lockspace).state == .joined, "the other host is still joined")
        try expect(ours.adopt([GuardLease(name: lab.lease("b"), lver: 1, generation: 1)], deadline: 0).code == nil, "the other host's guard still has its lease")

        theirs.vanish()
        try heal(passage)
        try Wait.until("the host joins anew", seconds: 60, pause: 200_000) {
            let view = try? cut.inspect(lab.lockspace)
            return view?.state == .joined && view?.generation ?? 0 > held.generation
        }
        try others.take(lab.lease("a"))
    }

    @Test("a volume that ends early is refused with the place where it ends, and nothing is written to it")
    func shortVolumes() async throws {
        try await SanlockLab.run { lab in
            let (node, leases) = try lab.founder(1, leases: ["a", "b"])
            let end = leases[1].offset + 512
            try expect(truncate(lab.layout.xleases, Int(end)) == 0, "truncate")
            let before = FileManager.default.contents(atPath: lab.layout.xleases)
            let client = try node.guarded("b")
            guard case .refused(_, let message) = try client.acquire([lab.lease("b")]) else { throw LabFailure("a lease without blocks was granted") }
            try expect(message.contains("ends at byte \(end)"), message)
            try expect(FileManager.default.contents(atPath: lab.layout.xleases) == before, "something was written")
            try node.guarded("a").take(lab.lease("a"))

            let second = try lab.node(2)
            try expect(truncate(lab.layout.ids, 512) == 0, "truncate")
            do {
                try second.join(lab.lockspace, at: lab.domain)
                throw LabFailure("a lockspace without a sector for this host was joined")
            } catch let error as RequestError {
                try expect(error.message.contains("ends at byte"), error.message)
            }
        }
    }

    @Test("a full file system: making a domain or a lease is refused, says so, and works once there is room")
    func fullFileSystem() async throws {
        try await SanlockLab.run { lab in
            let volume = "\(lab.directory)/small"
            mkdir(volume, 0o700)
            try expect(mount("none", volume, "tmpfs", 0, "size=2m") == 0, "tmpfs cannot be mounted: \(String(cString: strerror(errno)))")
            lab.atEnd { umount2(volume, Int32(MNT_DETACH)) }
            func room(_ size: String) throws { try expect(mount("none", volume, "tmpfs", UInt(MS_REMOUNT), "size=\(size)") == 0, "no remount") }
            let node = try lab.node(1)
            func refused(_ work: () throws -> Void) throws -> String {
                do { try work() } catch let error as RequestError { return error.message }
                throw LabFailure("it was done on a full file system")
            }
            let full = String(cString: strerror(ENOSPC))
            let first = try refused { try node.initialize(lab.lockspace, at: volume, ioTimeout: 2) }
            try expect(first.contains(full), first)
            try room("9m")
            try node.initialize(lab.lockspace, at: volume, ioTimeout: 2)
            try node.join(lab.lockspace, at: volume)
            var made: [String] = []
            let second = try refused { for name in (0..<20).map({ "disk\($0)" }) { try node.create([name], in: lab.lockspace); made.append(name) } }
            try expect(second.contains(full) && !made.isEmpty, "\(second) after \(made)")
            for name in made {
                let client = try node.guarded(name)
                try client.take(lab.lease(name))
                try client.release()
            }
            try expect(refused { _ = try node.lookup(lab.lease("disk\(made.count)")) }.contains("disk\(made.count)"), "a lease that was not made is found")
            try room("64m")
            try node.create(["disk\(made.count)"], in: lab.lockspace)
        }
    }
}

/// A directory seen through a process of its own: FUSE, and so a place where storage can hang or fail for one host alone.
private final class Passage {
    let path: String
    private let origin: String
    private var child: Child?

    init(to origin: String, at path: String) throws {
        self.origin = origin
        self.path = path
        mkdir(path, 0o700)
        try mount()
    }

    func mount() throws {
        umount2(path, Int32(MNT_DETACH))
        child = try Child.start("/usr/bin/bindfs", ["-f", "-o", "direct_io", origin, path], diesWithThread: true)
        try child?.await("bindfs shows the domain", seconds: 10) { access("\(path)/dom_md/ids", F_OK) == 0 }
    }

    func hang() { if let child { kill(child.pid, SIGSTOP) } }
    func answer() { if let child { kill(child.pid, SIGCONT) } }
    func fail() { child?.kill() }

    func end() {
        answer()
        umount2(path, Int32(MNT_DETACH))
        child?.kill()
    }
}
