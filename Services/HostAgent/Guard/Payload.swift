import CLinux
import Glibc
import GuardEngine
import Messages

/// The run itself: first process of a PID namespace of its own, so that its end is the end of everything it ever started (S3, S8).
struct Payload {
    /// As this process sees it; also its process group.
    let pid: pid_t
    /// Readable when the namespace is empty and waits to be reaped.
    let pidfd: Int32
    /// Read end of the pipe that the payload's exec closes; -1 once that is known.
    private(set) var ready: Int32
    /// Write end of the pipe that tells the payload's starter that this process lives; held until this process ends.
    private let alive: Int32

    /// Starts it from this very thread: the death signal belongs to the thread that forked. Lock descriptors are inherited.
    ///
    static func start(_ command: [String], deadline: Instant?, environment: [String: String]) -> Result<Payload, StartFailure> {
        guard let parent = Pipe.make(), let ready = Pipe.make() else { return .failure(StartFailure("pipe: \(Log.error(errno))")) }
        let options = ExecOptions(deadline: deadline?.nanoseconds ?? 0, parent: parent.read, ready: ready.write, payload: command)
        let arguments = CStrings(["vm-guard"] + options.arguments)
        for (name, value) in environment { setenv(name, value, 1) }
        guard cl_unshare(CLONE_NEWPID) == 0 else { return .failure(StartFailure("cannot make a PID namespace: \(Log.error(errno))")) }
        let pid = cl_fork()
        if pid == 0 {
            setpgid(0, 0)
            _ = cl_fcntl(parent.read, F_SETFD, 0)
            _ = cl_fcntl(ready.write, F_SETFD, 0)
            execv("/proc/self/exe", arguments.pointers)
            _exit(127)
        }
        guard pid > 0 else { return .failure(StartFailure("fork: \(Log.error(errno))")) }
        setpgid(pid, pid)
        close(parent.read)
        close(ready.write)
        let pidfd = cl_pidfd_open(pid)
        guard pidfd >= 0 else {
            let why = Log.error(errno)
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
            return .failure(StartFailure("pidfd_open: \(why)"))
        }
        return .success(Payload(pid: pid, pidfd: pidfd, ready: ready.read, alive: parent.write))
    }

    /// SIGKILL to the group and to the namespace's first process, whose end takes all others with it. Once more does no harm before ``reap()``.
    func end() {
        kill(-pid, SIGKILL)
        kill(pid, SIGKILL)
    }

    func pause() { signalAll(SIGSTOP) }
    func resume() { signalAll(SIGCONT) }

    /// To the group, and to whoever has left it but not the namespace. Looked for again until nobody is new: what is not stopped yet may start others.
    private func signalAll(_ signal: Int32) {
        kill(-pid, signal)
        kill(pid, signal)
        guard let namespace = Self.namespace(of: pid) else { return }
        var told: Set<pid_t> = [pid]
        for _ in 0..<10 {
            guard let directory = opendir("/proc") else { return }
            defer { closedir(directory) }
            let before = told.count
            while let entry = readdir(directory) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
                guard let other = pid_t(name), !told.contains(other), Self.namespace(of: other) == namespace else { continue }
                told.insert(other)
                kill(other, signal)
            }
            if told.count == before { return }
        }
    }

    private static func namespace(of pid: pid_t) -> String? {
        var target = [CChar](repeating: 0, count: 64)
        let length = readlink("/proc/\(pid)/ns/pid", &target, target.count)
        return length > 0 ? String(decoding: target[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }

    enum Begun { case notYet, yes, failed(String) }

    /// Whether its exec has happened; told once.
    mutating func begun() -> Begun {
        var pipe = pollfd(fd: ready, events: Int16(POLLIN), revents: 0)
        guard ready >= 0, poll(&pipe, 1, 0) == 1 else { return .notYet }
        var message = [UInt8](repeating: 0, count: 512)
        let count = read(ready, &message, message.count)
        close(ready)
        ready = -1
        return count > 0 ? .failed(String(decoding: message[..<count], as: UTF8.self)) : .yes
    }

    /// How it ended, once it has: then its namespace is empty. Asked once more only before that.
    func reap() -> String? {
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
        close(pidfd)
        return cl_wait_exited(status) != 0 ? "exit \(cl_wait_exit_status(status))" : "signal \(cl_wait_signal(status))"
    }

    /// `vm-guard exec`: become the payload, unless the guard or the time is gone.
    static func become(_ options: ExecOptions) -> Never {
        func fail(_ why: String) -> Never {
            var why = why
            why.withUTF8 { _ = write(options.ready, $0.baseAddress, $0.count) }
            _exit(127)
        }
        guard cl_set_parent_death_signal(SIGKILL) == 0 else { fail("no parent death signal: \(Log.error(errno))") }
        // The guard may have died before the signal was asked for; then its end of the pipe is closed.
        var parent = pollfd(fd: options.parent, events: Int16(POLLIN), revents: 0)
        let guardLives = poll(&parent, 1, 0) == 0
        let deadline = options.deadline == 0 ? nil : Instant(nanoseconds: options.deadline)
        if let obstacle = GuardEngine.obstacle(guardLives: guardLives, deadline: deadline, at: Instant(nanoseconds: cl_boottime())) { fail(obstacle) }
        _ = cl_fcntl(options.parent, F_SETFD, FD_CLOEXEC)
        _ = cl_fcntl(options.ready, F_SETFD, FD_CLOEXEC)
        signal(SIGPIPE, SIG_DFL)
        signal(SIGHUP, SIG_DFL)
        let arguments = CStrings(options.payload)
        if let program = arguments.pointers[0] { execvp(program, arguments.pointers) }
        fail("\(options.payload[0]): \(Log.error(errno))")
    }

    struct StartFailure: Error {
        let why: String
        init(_ why: String) { self.why = why }
    }
}

/// A NULL-terminated array of C strings, made before a fork; lives as long as the process.
struct CStrings {
    let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

    init(_ strings: [String]) {
        pointers = .allocate(capacity: strings.count + 1)
        for (index, string) in strings.enumerated() { (pointers + index).initialize(to: strdup(string)) }
        (pointers + strings.count).initialize(to: nil)
    }
}
