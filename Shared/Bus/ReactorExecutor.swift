import CLinux
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

/// The reactor thread's queue of work from other threads and of the tasks isolated to ``ReactorActor``. An eventfd ends its poll.
final class ReactorExecutor: SerialExecutor {
    enum Work {
        case job(UnownedJob)
        case posted(@Sendable @ReactorActor () -> Void)
    }

    private struct Inbox {
        var work: [Work] = []
        /// The eventfd is readable, or will be at once.
        var signalled = false
    }

    private let inbox = Mutex(Inbox())
    /// pthread_t of the reactor, 0 while there is none.
    private let thread = Atomic<UInt>(0)
    let wakeup: Int32

    init() {
        wakeup = eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
        // Without it the process has no reactor at all; it happens only when it starts without a free descriptor.
        precondition(wakeup >= 0, "eventfd: errno \(errno)")
    }

    /// Makes the calling thread the reactor's.
    func adopt() { thread.store(UInt(pthread_self()), ordering: .releasing) }
    var isCurrent: Bool { thread.load(ordering: .acquiring) == UInt(pthread_self()) }

    func enqueue(_ job: consuming ExecutorJob) { add(.job(UnownedJob(job))) }
    func checkIsolated() { precondition(isCurrent, "not on the reactor thread") }
    func isIsolatingCurrentContext() -> Bool? { isCurrent }

    func add(_ work: Work) {
        Reactor.shared.start()
        let onReactor = isCurrent
        let wake = inbox.withLock { inbox in
            inbox.work.append(work)
            guard !onReactor, !inbox.signalled else { return false }
            inbox.signalled = true
            return true
        }
        if wake { signal() }
    }

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
