import CLinux
import Foundation
public import Messages

/// A program run to its end with a deadline. Blocking: call it on a thread of its own (``Blocking``).
public struct ChildProcess: Sendable {
    /// Absolute path.
    public var executable: String
    /// Without the program's name. Never a secret: everybody can read it.
    public var arguments: [String]
    public var environment: [String: String]
    /// Written to its standard input, which is then closed.
    public var input: Data
    /// After this long the whole group is killed with SIGKILL.
    public var deadline: Duration
    /// A PID namespace of its own: when the program ends, or is killed, or this process dies, everything that it started is gone.
    /// An unprivileged process that is PID 1 of a container may not make one; there the container's own, which ends with this process, takes its place.
    public var ownPIDNamespace = false
    /// Descriptors that it inherits at their numbers, such as a lock.
    public var inheriting: [Int32] = []
    /// At most so many bytes of each output are kept.
    public var outputLimit = 64 * 1024

    public init(
        _ executable: String, _ arguments: [String] = [], environment: [String: String] = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"],
        input: Data = Data(), deadline: Duration
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.input = input
        self.deadline = deadline
    }

    public enum End: Hashable, Sendable {
        case exited(Int32)
        case signalled(Int32)
        /// It was killed at its deadline: what it did is unknown.
        case timedOut
        /// It never ran.
        case notStarted(String)
    }

    public struct Outcome: Sendable {
        public var end: End
        public var output: String
        public var errorOutput: String
        public var duration: Duration
    }

    /// Runs it. The child's death signal is tied to the calling thread, which must not end before this returns (it does not).
    public func run() -> Outcome {
        let started = cl_boottime()
        func outcome(_ end: End, _ output: Data = Data(), _ errorOutput: Data = Data()) -> Outcome {
            Outcome(
                end: end, output: String(decoding: output, as: UTF8.self), errorOutput: String(decoding: errorOutput, as: UTF8.self),
                duration: Duration(nanoseconds: cl_boottime() - started))
        }
        guard let input = Pipe.make(), let output = Pipe.make(), let errorOutput = Pipe.make() else { return outcome(.notStarted("no more descriptors")) }
        func spawn(newPIDNamespace: Bool) -> pid_t {
            Spawn.spawn(
                executable, arguments, environment, input: input.read, output: output.write, error: errorOutput.write, keep: inheriting, newSession: true,
                diesWithThread: true, newPIDNamespace: newPIDNamespace)
        }
        var pid = spawn(newPIDNamespace: ownPIDNamespace)
        let isContained = pid < 0 && errno == EPERM && ownPIDNamespace && getpid() == 1
        if isContained { pid = spawn(newPIDNamespace: false) }
        let failure = errno
        for end in [input.read, output.write, errorOutput.write] { close(end) }
        guard pid > 0 else {
            for end in [input.write, output.read, errorOutput.read] { close(end) }
            return outcome(.notStarted("\(executable): \(String(cString: strerror(failure)))"))
        }
        var pump = Pump(pid: pid, input: self.input, inputEnd: input.write, outputEnds: [output.read, errorOutput.read], limit: outputLimit)
        let end = pump.run(until: started + deadline.nanoseconds)
        // What it started is this process's child by now, killed, and of its group.
        if isContained { while waitpid(-pid, nil, 0) > 0 {} }
        return outcome(end, pump.outputs[0], pump.outputs[1])
    }
}

/// Starting children from a process with threads.
public enum Spawn {
    /// - Returns: the pid, or -1 with `errno` set. The caller reaps it.
    public static func spawn(
        _ executable: String, _ arguments: [String], _ environment: [String: String], input: Int32, output: Int32, error: Int32, keep: [Int32] = [],
        newSession: Bool = true, diesWithThread: Bool = false, newPIDNamespace: Bool = false, networkNamespace: Int32 = -1
    ) -> pid_t {
        let argv = CStrings([executable] + arguments)
        let envp = CStrings(environment.keys.sorted().map { "\($0)=\(environment[$0] ?? "")" })
        return executable.withCString { path in
            keep.withUnsafeBufferPointer { kept in
                var options = cl_spawn_options()
                options.path = path
                options.argv = UnsafePointer(argv.pointers)
                options.envp = UnsafePointer(envp.pointers)
                options.input = input
                options.output = output
                options.error = error
                options.keep = kept.baseAddress
                options.keep_count = Int32(kept.count)
                options.new_session = newSession ? 1 : 0
                options.parent_death_signal = diesWithThread ? SIGKILL : 0
                options.new_pid_namespace = newPIDNamespace ? 1 : 0
                options.network_namespace = networkNamespace
                return withExtendedLifetime((argv, envp)) { cl_spawn(&options) }
            }
        }
    }
}

/// A NULL-terminated array of C strings.
private final class CStrings {
    let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

    init(_ strings: [String]) {
        count = strings.count
        pointers = .allocate(capacity: strings.count + 1)
        for (index, string) in strings.enumerated() { pointers[index] = strdup(string) }
        pointers[strings.count] = nil
    }

    deinit {
        for index in 0..<count { free(pointers[index]) }
        pointers.deallocate()
    }
}

private struct Pipe {
    var read: Int32
    var write: Int32

    static func make() -> Pipe? {
        var ends: [Int32] = [0, 0]
        guard pipe2(&ends, O_CLOEXEC) == 0 else { return nil }
        return Pipe(read: ends[0], write: ends[1])
    }
}

/// Feeds and drains a child until it ends or its time is over.
private struct Pump {
    let pid: pid_t
    let input: Data
    let inputEnd: Int32
    let outputEnds: [Int32]
    let limit: Int
    var outputs = [Data(), Data()]

    mutating func run(until deadline: Int64) -> ChildProcess.End {
        let process = cl_pidfd_open(pid)
        defer { if process >= 0 { close(process) } }
        var written = 0
        var open = [true, true, !input.isEmpty]
        for end in outputEnds + [inputEnd] { _ = cl_fcntl(end, F_SETFL, O_NONBLOCK) }
        if input.isEmpty { close(inputEnd) }
        var ended = false
        var timedOut = false
        while true {
            var polled = [
                pollfd(fd: ended ? -1 : process, events: Int16(POLLIN), revents: 0),
                pollfd(fd: open[0] ? outputEnds[0] : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: open[1] ? outputEnds[1] : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: open[2] ? inputEnd : -1, events: Int16(POLLOUT), revents: 0),
            ]
            let left = deadline - cl_boottime()
            // Without a pidfd (very old kernel) look every 20 ms; after the end take what the pipes still hold, without waiting for grandchildren.
            let wait = ended ? 0 : process < 0 ? min(20, left / 1_000_000 + 1) : left / 1_000_000 + 1
            let ready = poll(&polled, nfds_t(polled.count), Int32(clamping: max(0, wait)))
            for index in 0...1 where polled[index + 1].revents != 0 { open[index] = drain(index) }
            if polled[3].revents != 0 { open[2] = feed(&written) }
            if !ended, process < 0 || polled[0].revents != 0 { ended = hasEnded() }
            if ended, ready <= 0 || !(open[0] || open[1]) || polled[1].revents | polled[2].revents == 0 { break }
            if !ended, cl_boottime() >= deadline {
                kill(-pid, SIGKILL)
                kill(pid, SIGKILL)
                timedOut = true
                break
            }
        }
        for (index, isOpen) in [open[0], open[1]].enumerated() where isOpen { _ = drain(index) }
        for end in outputEnds { close(end) }
        if open[2] { close(inputEnd) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
        kill(-pid, SIGKILL)
        if timedOut { return .timedOut }
        return cl_wait_exited(status) != 0 ? .exited(cl_wait_exit_status(status)) : .signalled(cl_wait_signal(status))
    }

    private func hasEnded() -> Bool {
        var info = siginfo_t()
        return waitid(P_PID, id_t(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_signo == SIGCHLD
    }

    private mutating func drain(_ index: Int) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 16384)
        while true {
            let n = read(outputEnds[index], &buffer, buffer.count)
            if n > 0 {
                outputs[index].append(contentsOf: buffer.prefix(min(n, max(0, limit - outputs[index].count))))
            } else {
                return n < 0 && (errno == EAGAIN || errno == EINTR)
            }
        }
    }

    private func feed(_ written: inout Int) -> Bool {
        let n = input.withUnsafeBytes { bytes in bytes.baseAddress.map { write(inputEnd, $0 + written, input.count - written) } ?? 0 }
        if n > 0 { written += n }
        if written >= input.count || (n < 0 && errno != EAGAIN && errno != EINTR) {
            close(inputEnd)
            return false
        }
        return true
    }
}
