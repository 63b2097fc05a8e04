import CLinux
import CZeroMQ
import Glibc
import Messages
import Synchronization

/// A file descriptor watched with ``Reactor/watch(fileDescriptor:events:_:)``.
public struct WatchID: Hashable, Sendable { let number: UInt64 }

/// Where the sockets, timers and engine of a process live: one thread at a time.
///
/// A thread of its own alternates between work posted by others, due timers and a poll over its sockets and watched descriptors; handlers run inline, one after
/// another, and must not block. What blocks runs on threads of its own and posts its result back, or with ``runOrPost(_:)`` goes on itself while the reactor's thread polls.
public final class Reactor: Sendable {
    public static let shared = Reactor()

    private enum Phase { case idle, running, stopping, stopped }

    private struct Source {
        var descriptor: Int32
        /// `nil`: the descriptor itself is what is watched.
        var socket: Socket?
        /// Of poll(2), or of ZeroMQ for a socket.
        var events: Int16
        var handler: @ReactorActor (Int16) -> Void
    }

    /// The longest sleep. poll(2) does not count suspend, timers do: after a resume they are at most this late.
    private static let longestSleep = Duration.seconds(1)

    /// What is done posts more; so much of that comes before sockets are looked at again.
    private static let turnsWithoutPoll = 4

    private static let mostEvents = 64

    let executor = ReactorExecutor()
    private let phase = Mutex(Phase.idle)
    private let started = Atomic<Bool>(false)

    @ReactorActor private var timers = TimerHeap()
    @ReactorActor private var sources: [UInt64: Source] = [:]
    /// Those of ``sources`` that are sockets.
    @ReactorActor private var sockets: [UInt64] = []
    /// Those that may be ready although nobody has used them since they were asked.
    @ReactorActor private var unasked: Set<UInt64> = []
    @ReactorActor private var lastSource: UInt64 = 0
    /// When the wait of the reactor's own thread ends if nothing happens.
    @ReactorActor private var pollsUntil = Instant(nanoseconds: 0)
    /// All descriptors, with the number of their source.
    private let all: Int32
    /// What the reactor's own thread waits for: to be woken, and ``all`` (number 1) unless another thread stands in for it.
    private let own: Int32

    /// pthread_t of the thread that stands in; 0: none does.
    private let stand = Atomic<UInt>(0)
    private let ownWatches = Atomic<Bool>(true)

    private init() {
        all = epoll_create1(Int32(EPOLL_CLOEXEC))
        own = epoll_create1(Int32(EPOLL_CLOEXEC))
        // As for the eventfd: without them there is no reactor at all.
        precondition(all >= 0 && own >= 0, "epoll_create1: errno \(errno)")
        Self.control(own, EPOLL_CTL_ADD, executor.wakeup, 0, Int16(POLLIN))
        Self.control(own, EPOLL_CTL_ADD, all, 1, Int16(POLLIN))
    }

    /// Starts the thread; posting work starts it too. Idempotent; does nothing after ``stop()``.
    public func start() {
        guard !started.load(ordering: .acquiring) else { return }
        phase.withLock { phase in
            guard phase == .idle else { return }
            var thread = pthread_t()
            let code = pthread_create(&thread, nil, { _ in Reactor.shared.main() }, nil)
            // A process without its reactor can neither work nor report; the supervisor restarts it.
            precondition(code == 0, "pthread_create: errno \(code)")
            pthread_detach(thread)
            phase = .running
        }
        started.store(true, ordering: .releasing)
    }

    /// Ends the thread for good, for the end of the process: closes all sockets and lets what they still hold go out for at most half a second.
    ///
    /// Callable from any thread; blocks the caller until it is done, unless that is the reactor itself.
    public func stop() {
        let wasRunning = phase.withLock { phase in
            defer { phase = phase == .running ? .stopping : phase }
            return phase == .running
        }
        guard wasRunning else { return }
        executor.signal()
        guard !executor.isCurrent else { return }
        let deadline = Clock.boottime() + .seconds(2)
        while phase.withLock({ $0 }) == .stopping, Clock.boottime() < deadline { usleep(1000) }
    }

    /// Runs work on the reactor, in the order of posting. From any thread.
    public nonisolated func post(_ work: @escaping @Sendable @ReactorActor () -> Void) { executor.add(.posted(work)) }

    /// Runs work on the calling thread, if the reactor waits for something to happen; else the reactor does it, as if posted. What it brings about is done along with it.
    ///
    /// For what would otherwise end with two threads waking each other up. The caller must not be a thread whose delay matters more than the reactor's.
    public nonisolated func runOrPost(_ work: @escaping @Sendable @ReactorActor () -> Void) {
        // Whoever is answered now may have another request, and this thread will be there for it.
        if stand.load(ordering: .relaxed) == UInt(pthread_self()) { setWatches(false) }
        if executor.holdOrAdd(.posted(work)) { runAndLetGo() }
    }

    /// Makes the calling thread wait for sockets and descriptors instead of the reactor's own, for ever, and run what they bring about: whoever asked is answered without a switch
    /// to another thread, if the work that blocks is done here, too.
    ///
    /// - Parameter next: asked after each turn for such work; the reactor's own thread waits for sockets and descriptors while it is done, however long that takes.
    public nonisolated func standIn(_ next: () -> (() -> Void)?) -> Never {
        stand.store(UInt(pthread_self()), ordering: .relaxed)
        var events = [epoll_event](repeating: epoll_event(), count: Self.mostEvents)
        while true {
            setWatches(false)
            let happened = happened(&events, atMost: -1)
            executor.hold()
            ReactorActor.assumeIsolated { handle(happened) }
            runAndLetGo()
            while let work = next() {
                setWatches(true)
                work()
            }
        }
    }

    /// Whether the reactor's own thread waits for sockets and descriptors. Only the thread that stands in for it says so.
    private func setWatches(_ watches: Bool) {
        guard watches != ownWatches.exchange(watches, ordering: .relaxed) else { return }
        Self.control(own, EPOLL_CTL_MOD, all, 1, watches ? Int16(POLLIN) : 0)
    }

    private func runAndLetGo() {
        var mustWake = false
        repeat {
            mustWake = ReactorActor.assumeIsolated {
                takeTurns()
                // A wait that should be over by the clock goes on where the machine was suspended in it.
                let isAwaited = timers.earliest().map { $0 < pollsUntil || pollsUntil <= Clock.boottime() } ?? false
                return isAwaited || sockets.contains { canHandle($0) }
            }
        } while !executor.letGo()
        if mustWake { executor.wake() }
    }

    /// Runs work once, `duration` of CLOCK_BOOTTIME from now (suspend counts); never early.
    @ReactorActor @discardableResult
    public func after(_ duration: Duration, _ work: @escaping @ReactorActor () -> Void) -> TimerID {
        timers.set(Clock.boottime() + duration, work)
    }

    /// Forgets a timer; one that fired already is ignored.
    @ReactorActor public func cancel(_ timer: TimerID) { timers.cancel(timer) }

    /// Calls the handler on every turn in which the descriptor is ready (level-triggered).
    ///
    /// It may be called although another call of it has read what was there, and must not block then.
    /// - Parameter events: POLLIN, POLLOUT or both. The handler gets those that are true and POLLERR for an error or a hang-up: unwatch it then.
    @ReactorActor public func watch(fileDescriptor: Int32, events: Int16, _ handler: @escaping @ReactorActor (Int16) -> Void) -> WatchID {
        add(Source(descriptor: fileDescriptor, events: events, handler: handler))
    }

    /// Forgets a descriptor (call it before closing that); its handler is not called again.
    @ReactorActor public func unwatch(_ watch: WatchID) { remove(watch) }

    // MARK: Sockets

    /// Calls the handler on every turn in which messages can be read.
    @ReactorActor func attach(_ socket: Socket, _ handler: @escaping @ReactorActor () -> Void) -> WatchID {
        let id = add(Source(descriptor: socket.descriptor, socket: socket, events: Int16(ZMQ_POLLIN)) { _ in handler() })
        sockets.append(id.number)
        return id
    }

    /// Whether the handler is called, too, when a message can be sent.
    @ReactorActor func setWantsToSend(_ watch: WatchID, _ wants: Bool) {
        let events = Int16(ZMQ_POLLIN) | (wants ? Int16(ZMQ_POLLOUT) : 0)
        guard let source = sources[watch.number], source.events != events else { return }
        sources[watch.number]?.events = events
        unasked.insert(watch.number)
    }

    /// Forgets the socket and closes it.
    @ReactorActor func detach(_ watch: WatchID) {
        let socket = sources[watch.number]?.socket
        remove(watch)
        socket?.close()
    }

    @ReactorActor private func add(_ source: Source) -> WatchID {
        lastSource += 1
        sources[lastSource] = source
        // A descriptor of a socket is always to be read.
        Self.control(all, EPOLL_CTL_ADD, source.descriptor, lastSource, source.socket == nil ? source.events : Int16(POLLIN))
        return WatchID(number: lastSource)
    }

    @ReactorActor private func remove(_ watch: WatchID) {
        guard let source = sources.removeValue(forKey: watch.number) else { return }
        sockets.removeAll { $0 == watch.number }
        unasked.remove(watch.number)
        Self.control(all, EPOLL_CTL_DEL, source.descriptor, watch.number, 0)
    }

    /// Also while somebody waits for it.
    private static func control(_ set: Int32, _ operation: Int32, _ descriptor: Int32, _ number: UInt64, _ events: Int16) {
        // The numbers of EPOLLIN and EPOLLOUT are those of POLLIN and POLLOUT.
        var event = epoll_event(events: UInt32(events), data: epoll_data_t(u64: number))
        let result = epoll_ctl(set, operation, descriptor, &event)
        // What is not watched is never heard of again: better to end.
        precondition(result == 0 || operation != EPOLL_CTL_ADD, "descriptor \(descriptor) cannot be watched: errno \(errno)")
    }

    /// What has happened to all descriptors, after so many milliseconds at most; -1 is for ever.
    private func happened(_ events: inout [epoll_event], atMost patience: Int32) -> [(source: UInt64, events: Int16)] {
        let ready = epoll_wait(all, &events, Int32(events.count), patience)
        return events.prefix(max(0, Int(ready))).map { ($0.data.u64, Int16(truncatingIfNeeded: $0.events)) }
    }

    // MARK: The loop

    /// The thread's own function.
    private func main() -> UnsafeMutableRawPointer? {
        pthread_setname_np(pthread_self(), "reactor")
        executor.hold()
        loop()
        return nil
    }

    private func loop() {
        var events = [epoll_event](repeating: epoll_event(), count: Self.mostEvents)
        while phase.withLock({ $0 }) == .running {
            let patience = ReactorActor.assumeIsolated { takeTurns(); return untilNext() }
            let isFree = patience > 0 && executor.letGo()
            let ready = epoll_wait(own, &events, 2, isFree ? Int32(patience) : 0)
            if isFree { executor.hold() }
            let numbers = events.prefix(max(0, Int(ready))).map(\.data.u64)
            if numbers.contains(0) { executor.clearWakeup() }
            // While this thread has no rest, whoever stands in for it hears what happens and gets no turn.
            let looks = numbers.contains(1) || (!isFree && !ownWatches.load(ordering: .relaxed))
            let happened = looks ? happened(&events, atMost: 0) : []
            ReactorActor.assumeIsolated { handle(happened) }
        }
        // Held for ever: nobody else begins anything.
        ReactorActor.assumeIsolated {
            for number in sockets { sources[number]?.socket?.close() }
            SocketContext.reactor.terminate()
        }
        phase.withLock { $0 = .stopped }
    }

    @ReactorActor private func takeTurns() {
        for _ in 0..<Self.turnsWithoutPoll {
            for work in executor.take() {
                switch work {
                case .job(let job): executor.run(job)
                case .posted(let work): work()
                }
            }
            let now = Clock.boottime()
            while let work = timers.take(dueAt: now) { work() }
            if executor.isIdle { break }
        }
    }

    @ReactorActor private func handle(_ happened: [(source: UInt64, events: Int16)]) {
        let known = Int16(POLLIN | POLLOUT)
        for (number, events) in happened {
            // A handler may remove other sources: they are looked up again.
            if let source = sources[number] {
                if source.socket != nil { unasked.insert(number) } else { source.handler(events & known | (events & ~known == 0 ? 0 : Int16(POLLERR))) }
            }
        }
        for number in sockets where canHandle(number) { sources[number]?.handler(0) }
    }

    /// Whether a socket is ready for what its handler wants.
    @ReactorActor private func canHandle(_ number: UInt64) -> Bool {
        guard let source = sources[number], let socket = source.socket, socket.wasUsed || unasked.contains(number) else { return false }
        let isReady = socket.readiness() & source.events != 0
        if isReady { unasked.insert(number) } else { unasked.remove(number) }
        return isReady
    }

    /// Milliseconds to the next timer, rounded up: never early. 0 if there is something to do.
    @ReactorActor private func untilNext() -> Int {
        if !executor.isIdle || sockets.contains(where: { canHandle($0) }) { return 0 }
        let now = Clock.boottime()
        let wait = min(max((timers.earliest() ?? now + Self.longestSleep) - now, .zero), Self.longestSleep)
        pollsUntil = now + wait
        return Int((wait.nanoseconds + 999_999) / 1_000_000)
    }
}
