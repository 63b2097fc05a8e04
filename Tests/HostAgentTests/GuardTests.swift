import CLinux
import Foundation
import Glibc
import Messages
import Testing

/// The real `vm-guard` with a shell as payload: it and a helper in a session of its own must be gone whenever the guard says, or dies.
@Suite(.serialized, .enabled(if: getuid() == 0, "PID namespaces need root")) struct GuardTests {
    @Test func killingTheGuardEndsThePayloadAndEveryHelper() throws {
        let bench = try GuardBench()
        try bench.startGranted(seconds: 60)
        #expect(bench.living == 2)
        kill(bench.pid, SIGKILL)
        #expect(bench.wait { bench.living == 0 && bench.lockIsFree })
        #expect(bench.result == nil)
    }

    @Test func thePayloadLivesUntilItsDeadlineAndNotLonger() throws {
        let bench = try GuardBench()
        let begun = cl_boottime()
        try bench.startGranted(seconds: 2)
        bench.leases.crash()
        while cl_boottime() < begun + 1_700_000_000 {
            #expect(bench.living == 2)
            usleep(50000)
        }
        #expect(bench.wait { bench.living == 0 })
        #expect(cl_boottime() < begun + 3_000_000_000)
        #expect(bench.wait { bench.result?.verb == "ended" && bench.lockIsFree })
        #expect(bench.result?["released"] == "no")
        #expect(bench.result?["exit"] == "signal 9")
    }

    /// A log that takes nothing more costs the guard its words, not the deadline.
    @Test func aLogThatHangsDelaysNoKill() throws {
        let bench = try GuardBench()
        mkfifo(bench.log, 0o600)
        let log = cl_open(bench.log, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0)
        defer { close(log) }
        try bench.startGranted(seconds: 2)
        let page = [UInt8](repeating: 0, count: 4096)
        while write(log, page, page.count) > 0 {}
        #expect(bench.living == 2)
        #expect(bench.wait { bench.living == 0 })
    }

    @Test func aVerifiedRenewalMovesTheDeadline() throws {
        let bench = try GuardBench()
        try bench.startGranted(seconds: 1)
        bench.leases.say("deadline", [("deadline", String(cl_boottime() + 60_000_000_000))])
        usleep(1_500_000)
        #expect(bench.living == 2)
        bench.leases.say("lost", [("message", "overwritten")])
        #expect(bench.wait { bench.living == 0 })
        #expect(bench.leases.next()?.verb == "release")
    }

    /// Also the helper, which has left the group; and a stopped process dies of SIGKILL as any other.
    @Test func aPausedPayloadIsStoppedWholeAndKilledAtItsDeadline() throws {
        let bench = try GuardBench()
        try bench.startGranted(seconds: 3, options: ["--on-lease-loss", "pause", "--pause-before", "2000"])
        #expect(bench.wait { bench.stopped == 2 })
        #expect(bench.ask("status")?["state"] == "paused")
        bench.leases.crash()
        #expect(bench.living == 2 && bench.result == nil)
        #expect(bench.wait { bench.living == 0 })
        #expect(bench.wait { bench.result?["why"] == "the leases' deadline has passed" && bench.lockIsFree })
    }

    @Test func aPausedPayloadGoesOnWhenItsLeasesAreVerified() throws {
        let bench = try GuardBench()
        try bench.startGranted(seconds: 6, options: ["--on-lease-loss", "pause", "--pause-before", "5000"])
        #expect(bench.wait { bench.stopped == 2 })
        let until = ("deadline", String(cl_boottime() + 60_000_000_000))
        bench.leases.say("deadline", [until])
        let question = bench.leases.next()
        #expect(question?.verb == "verify" && question?["holder"] == "vm:web1:7" && bench.stopped == 2)
        bench.leases.say("verified", [until, ("number", question?["number"] ?? ""), ("lease", "domain|image|7|3")])
        #expect(bench.wait { bench.stopped == 0 && bench.living == 2 })
        #expect(bench.ask("status")?["state"] == "running")
    }

    @Test func aRefusalStartsNothing() throws {
        let bench = try GuardBench()
        try bench.start()
        #expect(bench.leases.next()?.verb == "acquire")
        bench.leases.say("refused", [("code", "lease.held"), ("message", "held by host 2")])
        #expect(bench.wait { bench.result?.verb == "refused" && bench.lockIsFree })
        #expect(bench.result?["code"] == "lease.held")
        #expect(bench.living == 0)
    }

    @Test func aHeldDiskLockRefuses() throws {
        let bench = try GuardBench()
        let other = cl_open(bench.diskLock, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        #expect(flock(other, LOCK_EX | LOCK_NB) == 0)
        try bench.start()
        #expect(bench.wait { bench.result?["code"] == "vm.still-here" })
        close(other)
    }

    @Test func aStartThatWasCalledOffNeverRuns() throws {
        let bench = try GuardBench()
        unlink(bench.spec)
        try bench.start()
        #expect(bench.wait { bench.result?.verb == "refused" })
        #expect(bench.living == 0)
    }

    @Test func aRestartedLeaseServiceAdoptsTheRun() throws {
        let bench = try GuardBench()
        try bench.startGranted(seconds: 60)
        bench.leases.crash()
        bench.leases.restart()
        let adopt = bench.leases.next()
        #expect(adopt?.verb == "adopt")
        #expect(adopt?["lease"] == "domain|image|7|3")
        #expect(adopt?["disklock"] == bench.diskLock)
        bench.leases.say("granted", [("deadline", String(cl_boottime() + 60_000_000_000)), ("lease", "domain|image|7|3")])
        usleep(300000)
        #expect(bench.living == 2)
        bench.leases.crash()
        bench.leases.restart()
        _ = bench.leases.next()
        bench.leases.say("refused", [("code", "lockspace.generation-mismatch"), ("message", "joined anew")])
        #expect(bench.wait { bench.living == 0 && bench.result?.verb == "ended" })
    }

    @Test func aStopReleasesTheLeasesAfterTheGroupIsGone() throws {
        let bench = try GuardBench()
        try bench.startGranted(seconds: 60)
        #expect(bench.ask("status")?["state"] == "running")
        _ = bench.ask("stop")
        let release = bench.leases.next()
        #expect(release?.verb == "release")
        #expect(bench.living == 0)
        #expect(!bench.lockIsFree)
        bench.leases.say("released")
        #expect(bench.wait { bench.result?["released"] == "yes" && bench.lockIsFree })
    }

    @Test func aPayloadThatCannotBeExecutedIsARefusal() throws {
        let bench = try GuardBench()
        try bench.start(payload: ["/nonexistent/qemu"])
        _ = bench.leases.next()
        bench.grant(seconds: 60)
        #expect(bench.leases.next()?.verb == "release")
        bench.leases.say("released")
        #expect(bench.wait { bench.result?.verb == "refused" })
    }

    @Test func withoutLeasesThereIsNoDeadlineAndNoLeaseService() throws {
        let bench = try GuardBench()
        bench.leases.crash()
        try bench.start(leases: false)
        #expect(bench.wait { bench.living == 2 })
        _ = bench.ask("stop")
        #expect(bench.wait { bench.living == 0 && bench.result?["released"] == "yes" })
    }
}

/// One guard, its run directory and its fake lease-service.
final class GuardBench {
    let run: String
    let leases: FakeLeaseService
    private(set) var pid: pid_t = 0
    /// Makes the payload's processes recognizable in /proc.
    private let mark = "98\(UInt32.random(in: 100_000_000...999_999_999))"

    init() throws {
        run = "/tmp/bulwark-guard-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        for directory in ["guards", "locks"] { try FileManager.default.createDirectory(atPath: "\(run)/\(directory)", withIntermediateDirectories: true) }
        leases = FakeLeaseService(run: run)
        _ = FileManager.default.createFile(atPath: spec, contents: nil)
    }

    deinit {
        if pid > 0 {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
        try? FileManager.default.removeItem(atPath: run)
    }

    var vmLock: String { "\(run)/locks/vm-web1.lock" }
    var diskLock: String { "\(run)/locks/disk-image.lock" }
    var log: String { "\(run)/log" }
    var spec: String { "\(run)/guards/vm:web1:7.spec" }

    func start(payload: [String]? = nil, leases: Bool = true, options: [String] = []) throws {
        let shell = ["/bin/sh", "-c", "setsid sleep \(mark) & exec sleep \(mark)"]
        var arguments = [
            "run", "--holder", "vm:web1:7", "--run", run, "--boot-id", "b1", "--vm-lock", vmLock, "--disk-lock", diskLock, "--spec", spec,
            "--log", log,
        ]
        if leases { arguments += ["--lease", "domain|image", "--generation", "domain|3"] }
        arguments += options + ["--"] + (payload ?? shell)
        pid = try spawn(besideTests("vm-guard"), arguments)
    }

    /// Started, granted, and the payload's two processes are there.
    func startGranted(seconds: Int64, options: [String] = []) throws {
        try start(options: options)
        let acquire = leases.next()
        #expect(acquire?.verb == "acquire")
        #expect(acquire?["lock"] == vmLock)
        grant(seconds: seconds)
        #expect(wait { self.living == 2 })
    }

    func grant(seconds: Int64) {
        leases.say("granted", [("deadline", String(cl_boottime() + seconds * 1_000_000_000)), ("lease", "domain|image|7|3")])
    }

    /// Processes of the payload that are not zombies.
    var living: Int { payload.count }

    /// Those of them that are stopped.
    var stopped: Int {
        payload.filter { process in
            let stat = FileManager.default.contents(atPath: "/proc/\(process)/stat").map { String(decoding: $0, as: UTF8.self) } ?? ""
            return stat.split(separator: ")").last?.split(separator: " ").first == "T"
        }.count
    }

    private var payload: [String] {
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.filter { process in
            guard Int(process) != nil, let line = FileManager.default.contents(atPath: "/proc/\(process)/cmdline") else { return false }
            return line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) } == ["sleep", mark]
        }
    }

    var lockIsFree: Bool {
        [vmLock, diskLock].allSatisfy { path in
            let file = cl_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
            defer { close(file) }
            return flock(file, LOCK_EX | LOCK_NB) == 0
        }
    }

    var result: GuardMessage? {
        FileManager.default.contents(atPath: "\(run)/guards/vm:web1:7.result").flatMap { GuardMessage(text: String(decoding: $0, as: UTF8.self)) }
    }

    /// A request at the control socket.
    func ask(_ verb: String) -> GuardMessage? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: "\(run)/guards/vm:web1:7.sock".utf8) }
        let connection = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { close(connection) }
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(connection, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard connected == 0 else { return nil }
        let text = Array(GuardMessage(verb).text.utf8)
        send(connection, text, text.count, 0)
        var buffer = [UInt8](repeating: 0, count: GuardMessage.maximumLength)
        let count = recv(connection, &buffer, buffer.count, 0)
        return count > 0 ? GuardMessage(text: String(decoding: buffer[..<count], as: UTF8.self)) : nil
    }

    /// Whether it becomes true within 5 s.
    func wait(_ condition: () -> Bool) -> Bool {
        for _ in 0..<250 {
            if condition() { return true }
            usleep(20000)
        }
        return condition()
    }
}

/// An executable that was built together with the tests.
func besideTests(_ name: String) -> String {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    let arguments = [own] + CommandLine.arguments
    let directories = arguments.compactMap { argument -> String? in
        guard let end = argument.range(of: "/debug/") ?? argument.range(of: "/release/") else { return nil }
        return String(argument[..<end.upperBound])
    }
    return directories.map { $0 + name }.first { access($0, X_OK) == 0 } ?? name
}

func spawn(_ executable: String, _ arguments: [String]) throws -> pid_t {
    let words = ([executable] + arguments).map { strdup($0) } + [nil]
    defer { words.forEach { free($0) } }
    var pid: pid_t = 0
    let failure = posix_spawn(&pid, executable, nil, nil, words, environ())
    guard failure == 0 else { throw POSIXError(POSIXErrorCode(rawValue: failure) ?? .EIO) }
    return pid
}

private func environ() -> [UnsafeMutablePointer<CChar>?] { [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil] }
