import Bus
import CLinux
import Foundation
import Messages
import ServiceKit
import Synchronization

/// Runs the manager services of one instance as local processes, and its BMCs.
///
/// * Manager services end with the supervisor (parent death signal): started anew, it starts them anew. Hosts and BMCs survive it; BMCs are adopted by pid file.
/// * What ends is started again at once, later and later only when it keeps ending; not while its hold file exists.
/// * It never changes a host's power: that is the BMCs' business.
/// * SIGTERM stops services in reverse order, then the BMCs.
///
/// Everything happens on the thread that calls ``run()``; only health checks run on threads of their own.
final class Supervisor {
    private let instance: Instance
    private let compose: ComposeFile
    private var children: [Child] = []
    private let namespace: Int32

    init(_ instance: Instance) throws {
        self.instance = instance
        compose = try ComposeFile(path: instance.settings.compose, variables: instance.variables)
        namespace = cl_open("/run/netns/\(instance.managerNamespace)", O_RDONLY | O_CLOEXEC, 0)
        guard namespace >= 0 else {
            throw RequestError(RequestErrorCode.notFound, "the network namespace \(instance.managerNamespace) is missing; `bulwark up` makes it")
        }
        try Files.directory(instance.labRun)
    }

    deinit { close(namespace) }

    /// Runs until SIGTERM or SIGINT.
    /// - Throws: `RequestError` when another supervisor runs this instance.
    func run() throws {
        let lock = try lockInstance()
        defer { close(lock) }
        Termination.watch()
        guard let own = ProcessRecord(pid: getpid()) else { throw RequestError(code: "supervise.failed", message: "/proc is not mounted") }
        try own.save(instance.pidFile(Self.process))
        for service in compose.managerServices {
            children.append(Child(service.name, directory: instance.settings.executables, service: service))
        }
        for host in instance.hosts { children.append(bmc(of: host)) }
        say("supervises \(children.map(\.name).joined(separator: ", "))")
        while !Termination.requested {
            tend()
            awaitSomething()
        }
        say("stops")
        stop()
        try Files.remove(instance.pidFile(Self.process))
    }

    static let process = "supervise"

    /// A line of its own log.
    private func say(_ text: String) { FileHandle.standardOutput.write(Data("\(Clock.rfc3339()) \(text)\n".utf8)) }

    // MARK: Children

    private func bmc(of host: Chassis) -> Child {
        let command = ["ipmi_sim", "-c", "\(host.bmc)/lan.conf", "-f", "\(host.bmc)/sim.emu", "-s", "\(host.bmc)/state", "-n"]
        let service = ComposeFile.Service(name: host.bmcProcess, command: command, restart: .always, stopGracePeriod: .milliseconds(500))
        let child = Child(host.bmcProcess, directory: instance.settings.executables, service: service, survives: true)
        if let running = ProcessRecord(file: instance.pidFile(child.name)) { child.adopt(running) }
        return child
    }

    /// Collects what has ended, starts what should run, begins health checks that are due.
    private func tend() {
        let now = cl_boottime()
        for child in children {
            if let end = child.collect() {
                say("\(child.name) \(end)")
                child.planRestart(now)
            }
            if child.shouldStart(now), !Files.exists(instance.holdFile(child.name)) { start(child) }
            child.beginHealthCheck(now, environment: environment(child))
        }
        report()
    }

    private func environment(_ child: Child) -> [String: String] {
        let own = ["PATH": ([instance.settings.executables] + Tool.path).joined(separator: ":"), "LANG": "C.UTF-8", "BULWARK_CLUSTER": instance.clusterFile]
        return own.merging(child.service.environment) { $1 }
    }

    private func start(_ child: Child) {
        let log = "\(instance.logs)/\(child.name).log"
        try? Files.directory((log as NSString).deletingLastPathComponent)
        let output = cl_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        let input = cl_open("/dev/null", O_RDONLY | O_CLOEXEC, 0)
        defer { for descriptor in [output, input] where descriptor >= 0 { close(descriptor) } }
        guard let executable = Tool.find(child.service.command[0], beside: instance.settings.executables) else {
            say("\(child.name) cannot start: there is no \(child.service.command[0]) in \(instance.settings.executables) or the system's directories")
            child.planRestart(cl_boottime())
            return
        }
        let pid = Spawn.spawn(
            executable, Array(child.service.command.dropFirst()), environment(child), input: input, output: output, error: output,
            diesWithThread: !child.survives, networkNamespace: namespace)
        guard pid > 0, let record = ProcessRecord(pid: pid) else {
            say("\(child.name) cannot start: \(String(cString: strerror(errno)))")
            child.planRestart(cl_boottime())
            return
        }
        child.started(record)
        try? record.save(instance.pidFile(child.name))
        say("\(child.name) runs as \(pid)")
    }

    /// Sleeps until a child ends, a signal comes, or it is time to look at hold files and health again.
    private func awaitSomething() {
        var polled = [pollfd(fd: Termination.descriptor, events: Int16(POLLIN), revents: 0)]
        polled += children.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        let next = children.compactMap { $0.waitingUntil.map { ($0 - cl_boottime()) / 1_000_000 + 1 } }.min() ?? 100
        poll(&polled, nfds_t(polled.count), Int32(min(100, max(5, next))))
    }

    private func stop() {
        for group in [children.filter { !$0.survives }.reversed(), children.filter(\.survives)] {
            for child in group { child.process?.signal(SIGTERM) }
            for child in group {
                guard let process = child.process else { continue }
                let ended = waitUntil(seconds: child.service.stopGracePeriod.seconds) {
                    _ = child.collect()
                    return !process.isAlive
                }
                if !ended {
                    say("\(child.name) did not stop within \(child.service.stopGracePeriod.seconds) s and is killed")
                    process.signal(SIGKILL)
                }
                try? Files.remove(instance.pidFile(child.name))
            }
        }
        report()
    }

    // MARK: Reporting

    private var reported = Data()

    /// Writes `supervise.json` when something changed.
    private func report() {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        guard let data = try? encoder.encode(children.map(\.state)), data != reported else { return }
        if (try? Files.write(data, to: "\(instance.labRun)/supervise.json")) != nil { reported = data }
    }

    private func lockInstance() throws -> Int32 {
        let lock = cl_open("\(instance.labRun)/supervise.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0, flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            throw RequestError(RequestErrorCode.conflict, "another supervisor runs \(instance.name) already")
        }
        return lock
    }
}

/// One supervised process.
private final class Child {
    let name: String
    let directory: String
    let service: ComposeFile.Service
    /// Lives on without the supervisor.
    let survives: Bool
    private(set) var process: ProcessRecord?
    private(set) var descriptor: Int32 = -1
    private var startedAt: Int64 = 0
    /// Not before this time; `nil`: not at all.
    private var nextStart: Int64? = 0
    private var quickEnds = 0
    private var restarts = 0
    private var hasRun = false
    private var health: HealthProbe?
    private var nextCheck: Int64 = 0

    init(_ name: String, directory: String, service: ComposeFile.Service, survives: Bool = false) {
        self.name = name
        self.directory = directory
        self.service = service
        self.survives = survives
    }

    func adopt(_ running: ProcessRecord) {
        process = running
        descriptor = cl_pidfd_open(running.pid)
        hasRun = true
        startedAt = cl_boottime()
        nextStart = nil
    }

    func started(_ record: ProcessRecord) {
        if hasRun { restarts += 1 }
        adopt(record)
        health = service.healthcheck.map(HealthProbe.init)
        nextCheck = startedAt
    }

    /// - Returns: how it ended, if it has.
    func collect() -> String? {
        guard let process else { return nil }
        var status: Int32 = 0
        let reaped = waitpid(process.pid, &status, WNOHANG) == process.pid
        guard reaped || !process.isAlive else { return nil }
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
        self.process = nil
        health = nil
        exit = reaped && cl_wait_exited(status) != 0 ? cl_wait_exit_status(status) : nil
        if !reaped { return "ended" }
        return exit.map { "ended with status \($0)" } ?? "was ended by signal \(cl_wait_signal(status))"
    }

    private var exit: Int32?

    /// At once, unless it has ended quickly several times in a row: then 0.2, 0.4, ... 5 s later.
    func planRestart(_ now: Int64) {
        guard service.restart.applies(toExit: exit) else {
            nextStart = nil
            return
        }
        quickEnds = now - startedAt < 3_000_000_000 ? quickEnds + 1 : 0
        nextStart = now + (quickEnds < 4 ? 20_000_000 : min(5_000_000_000, 100_000_000 << Int64(min(quickEnds - 3, 6))))
    }

    /// When it starts again, if it shall.
    var waitingUntil: Int64? { process == nil ? nextStart : nil }

    func shouldStart(_ now: Int64) -> Bool { process == nil && nextStart.map { $0 <= now } ?? false }

    func beginHealthCheck(_ now: Int64, environment: [String: String]) {
        guard let health, process != nil, nextCheck <= now, !health.isRunning else { return }
        let young = now - startedAt < health.check.startPeriod.nanoseconds
        nextCheck = now + (young ? health.check.startInterval : health.check.interval).nanoseconds
        health.begin(directory: directory, environment: environment, young: young)
    }

    struct State: Codable {
        var name: String
        var pid: Int32?
        var restarts: Int
        /// `starting`, `healthy`, `unhealthy`; `nil` without a health check.
        var health: String?
    }

    var state: State { State(name: name, pid: process?.pid, restarts: restarts, health: health?.status) }
}

/// The health check of one life of a process; as container engines do it.
private final class HealthProbe: Sendable {
    let check: ComposeFile.Healthcheck
    private let result = Mutex((status: "starting", failures: 0, running: false))

    init(_ check: ComposeFile.Healthcheck) { self.check = check }

    var status: String { result.withLock { $0.status } }
    var isRunning: Bool { result.withLock { $0.running } }

    func begin(directory: String, environment: [String: String], young: Bool) {
        result.withLock { $0.running = true }
        Thread.detachNewThread { [self] in
            let passed = Tool.find(check.test[0], beside: directory).map {
                ChildProcess($0, Array(check.test.dropFirst()), environment: environment, deadline: check.timeout).run().end == .exited(0)
            } ?? false
            result.withLock { result in
                result.running = false
                result.failures = passed ? 0 : young && result.status == "starting" ? 0 : result.failures + 1
                if passed { result.status = "healthy" } else if result.failures >= check.retries { result.status = "unhealthy" }
            }
        }
    }
}

/// SIGTERM and SIGINT as something that can be polled.
enum Termination {
    /// Readable once a signal came.
    static let descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))

    static func watch() {
        guard descriptor >= 0 else { return }
        // The handler only writes to a descriptor that exists by now: nothing else is allowed in it.
        for number in [SIGTERM, SIGINT, SIGHUP] {
            signal(number) { _ in
                var one: UInt64 = 1
                _ = write(Termination.descriptor, &one, 8)
            }
        }
        signal(SIGPIPE, SIG_IGN)
    }

    static var requested: Bool {
        var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&polled, 1, 0) > 0
    }
}
