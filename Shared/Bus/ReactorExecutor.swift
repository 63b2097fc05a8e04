import CLinux
import Dispatch
import Glibc
import Synchronization

/// Everything that runs on the reactor thread: its isolation lets sockets, engine and timers call each other without hops or locks.
@globalActor public actor ReactorActor {
    public static let shared = ReactorActor()

    public nonisolated var unownedExecutor: UnownedSerialExecutor { Reactor.shared.executor.asUnownedSerialExecutor() }

    /// Runs work that is isolated to the reactor from a place that the compiler cannot know to be on its thread; ends the process if it is not.
    ///
    /// The only place of the cast that a global actor needs here: `@ReactorActor () -> T` and `() -> T` have the same representation (isolation is a
    /// promise, not a value), and the line above it proves that the promise holds. MainActor.assumeIsolated does the same.
    static func assumeIsolated<T: Sendable>(_ work: @ReactorActor () throws -> T) rethrows -> T {
        precondition(Reactor.shared.executor.isCurrent, "not on the reactor thread")
        return try withoutActuallyEscaping(work) { work in
            try unsafeBitCast(work, to: (() throws -> T).self)()
        }
    }
}

/// The queue of what runs on the reactor: work from other threads and the tasks isolated to ``ReactorActor``. An eventfd ends its poll.
///
/// One thread at a time *holds* it, and that is where everything isolated runs: the reactor's own, except while that waits for something to happen. What comes while somebody
/// holds it is done by the holder, who leaves nothing behind.
final class ReactorExecutor: SerialExecutor {
    enum Work {
        case job(UnownedJob)
        case posted(@Sendable @ReactorActor () -> Void)
    }

    fileprivate struct Inbox {
        var work: [Work] = []
        /// The eventfd is readable, or will be at once.
        var signalled = false
        var isHeld = false
        /// Threads that wait to hold it.
        var waiting = 0
    }

    private let inbox = Mutex(Inbox())
    /// pthread_t of the holder, 0 while there is none.
    private let holder = Atomic<UInt>(0)
    private let handover = DispatchSemaphore(value: 0)
    let wakeup: Int32

    init() {
        wakeup = eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
        // Without it the process has no reactor at all; it happens only when it starts without a free descriptor.
        precondition(wakeup >= 0, "eventfd: errno \(errno)")
    }

    // MARK: Holding

    var isCurrent: Bool { holder.load(ordering: .acquiring) == UInt(pthread_self()) }

    /// Makes the calling thread the holder, as soon as nobody is.
    func hold() {
        let waits = inbox.withLock { inbox in
            if inbox.isHeld { inbox.waiting += 1 }
            defer { inbox.isHeld = true }
            return inbox.isHeld
        }
        if waits { handover.wait() }
        holder.store(UInt(pthread_self()), ordering: .releasing)
    }

    /// Adds work, and makes the calling thread the holder if there is none; else the holder does the work.
    func holdOrAdd(_ work: Work) -> Bool {
        Reactor.shared.start()
        let holds = inbox.withLock { inbox in
            inbox.work.append(work)
            defer { inbox.isHeld = true }
            return !inbox.isHeld
        }
        if holds { holder.store(UInt(pthread_self()), ordering: .releasing) }
        return holds
    }

    /// Ends that. Whoever waits for it gets it next, and does all the work that there is then.
    /// - Returns: whether it has: not while there is work, unless somebody else waits to do it.
    func letGo() -> Bool {
        let (isOver, isAwaited) = inbox.withLock { inbox in
            let isAwaited = inbox.waiting > 0
            guard inbox.work.isEmpty || isAwaited else { return (false, false) }
            holder.store(0, ordering: .releasing)
            if isAwaited { inbox.waiting -= 1 } else { inbox.isHeld = false }
            return (true, isAwaited)
        }
        if isAwaited { handover.signal() }
        return isOver
    }

    // MARK: Work

    func enqueue(_ job: consuming ExecutorJob) { add(.job(UnownedJob(job))) }
    func checkIsolated() { precondition(isCurrent, "not on the reactor thread") }
    func isIsolatingCurrentContext() -> Bool? { isCurrent }

    func add(_ work: Work) {
        Reactor.shared.start()
        let mustWake = inbox.withLock { inbox in
            inbox.work.append(work)
            return !inbox.isHeld && inbox.mustSignal()
        }
        if mustWake { signal() }
    }

    /// Ends the poll under way, or the next.
    func wake() { if inbox.withLock({ $0.mustSignal() }) { signal() } }

    func signal() { eventfd_write(wakeup, 1) }

    /// What has come in since the last turn.
    func take() -> [Work] {
        inbox.withLock { inbox in
            guard !inbox.work.isEmpty else { return [] }
            let work = inbox.work
            inbox.work = []
            return work
        }
    }

    var isIdle: Bool { inbox.withLock { $0.work.isEmpty } }

    /// Reads first, then allows the next signal: the other way round a signal in between would be read away while it counts as given, and no later work would
    /// wake the reactor. What is added in between is taken in the turn that follows.
    func clearWakeup() {
        var count: eventfd_t = 0
        eventfd_read(wakeup, &count)
        inbox.withLock { $0.signalled = false }
    }

    func run(_ job: UnownedJob) { job.runSynchronously(on: asUnownedSerialExecutor()) }
}

extension ReactorExecutor.Inbox {
    fileprivate mutating func mustSignal() -> Bool {
        defer { signalled = true }
        return !signalled
    }
}
