import CLinux
import CZeroMQ
import Glibc
import Messages
import Synchronization

/// A file descriptor watched with ``Reactor/watch(fileDescriptor:events:_:)``.
public struct WatchID: Hashable, Sendable { let number: UInt64 }

/// The one thread of a process on which its sockets, timers and engine live.
///
/// It alternates between work posted by others, due timers and `zmq_poll` over its sockets and watched descriptors; handlers run inline, one after
/// another, and must not block. What blocks runs on threads of its own and posts its result back.
public final class Reactor: Sendable {
    public static let shared = Reactor()

    private enum Phase { case idle, running, stopping, stopped }

    private struct Source {
        var item: zmq_pollitem_t
        var handler: @ReactorActor (Int16) -> Void
    }

    /// The longest sleep. poll(2) does not count suspend, timers do: after a resume they are at most this late.
    private static let longestSleep = Duration.seconds(1)

    /// What is done posts more; so much of that comes before sockets are looked at again.
    private static let turnsWithoutPoll = 4

    let executor = ReactorExecutor()
    private let phase = Mutex(Phase.idle)
    private let started = Atomic<Bool>(false)

    @ReactorActor private var timers = TimerHeap()
    @ReactorActor private var sources: [UInt64: Source] = [:]
    @ReactorActor private var sockets: [UInt64: Socket] = [:]
    @ReactorActor private var lastSource: UInt64 = 0
    /// What zmq_poll gets: the wake-up descriptor, then all sources; rebuilt when these changed.
    @ReactorActor private var items: [zmq_pollitem_t] = []
    @ReactorActor private var owners: [UInt64] = []
    @ReactorActor private var itemsAreStale = true

    private init() {}

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

    /// Runs work once, `duration` of CLOCK_BOOTTIME from now (suspend counts); never early.
    @ReactorActor @discardableResult
    public func after(_ duration: Duration, _ work: @escaping @ReactorActor () -> Void) -> TimerID {
        timers.set(Clock.boottime() + duration, work)
    }

    /// Forgets a timer; one that fired already is ignored.
    @ReactorActor public func cancel(_ timer: TimerID) { timers.cancel(timer) }

    /// Calls the handler on every turn in which the descriptor is ready (level-triggered).
    /// - Parameter events: POLLIN, POLLOUT or both. The handler gets those that are true and POLLERR for an error, a hang-up or a closed descriptor: unwatch it then.
    @ReactorActor public func watch(fileDescriptor: Int32, events: Int16, _ handler: @escaping @ReactorActor (Int16) -> Void) -> WatchID {
        let interest = (events & Int16(POLLIN) != 0 ? Int16(ZMQ_POLLIN) : 0) | (events & Int16(POLLOUT) != 0 ? Int16(ZMQ_POLLOUT) : 0)
        return add(zmq_pollitem_t(socket: nil, fd: fileDescriptor, events: interest, revents: 0)) { ready in
            handler(
                (ready & Int16(ZMQ_POLLIN) != 0 ? Int16(POLLIN) : 0) | (ready & Int16(ZMQ_POLLOUT) != 0 ? Int16(POLLOUT) : 0)
                    | (ready & Int16(ZMQ_POLLERR) != 0 ? Int16(POLLERR) : 0))
        }
    }

    /// Forgets a descriptor (call it before closing that); its handler is not called again.
    @ReactorActor public func unwatch(_ watch: WatchID) { remove(watch) }

    // MARK: Sockets

    /// Calls the handler on every turn in which messages can be read.
    @ReactorActor func attach(_ socket: Socket, _ handler: @escaping @ReactorActor () -> Void) -> WatchID {
        let id = add(zmq_pollitem_t(socket: socket.handle, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0)) { _ in handler() }
        sockets[id.number] = socket
        return id
    }

    /// Whether the handler is called, too, when a message can be sent.
    @ReactorActor func setWantsToSend(_ watch: WatchID, _ wants: Bool) {
        let events = Int16(ZMQ_POLLIN) | (wants ? Int16(ZMQ_POLLOUT) : 0)
        guard let source = sources[watch.number], source.item.events != events else { return }
        sources[watch.number]?.item.events = events
        itemsAreStale = true
    }

    /// Forgets the socket and closes it.
    @ReactorActor func detach(_ watch: WatchID) {
        remove(watch)
        sockets.removeValue(forKey: watch.number)?.close()
    }

    @ReactorActor private func add(_ item: zmq_pollitem_t, _ handler: @escaping @ReactorActor (Int16) -> Void) -> WatchID {
        lastSource += 1
        sources[lastSource] = Source(item: item, handler: handler)
        itemsAreStale = true
        return WatchID(number: lastSource)
    }

    @ReactorActor private func remove(_ watch: WatchID) {
        sources[watch.number] = nil
        itemsAreStale = true
    }

    // MARK: The loop

    /// The thread's own function.
    private func main() -> UnsafeMutableRawPointer? {
        pthread_setname_np(pthread_self(), "reactor")
        executor.adopt()
        ReactorActor.assumeIsolated { loop() }
        return nil
    }

    @ReactorActor private func loop() {
        while phase.withLock({ $0 }) == .running {
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
            poll(atMost: executor.isIdle ? untilNextTimer() : 0)
        }
        for socket in sockets.values { socket.close() }
        SocketContext.reactor.terminate()
        phase.withLock { $0 = .stopped }
    }

    /// Milliseconds to the next timer, rounded up: never early.
    @ReactorActor private func untilNextTimer() -> Int {
        guard let deadline = timers.earliest() else { return Int(Self.longestSleep.milliseconds) }
        let wait = min(max(deadline - Clock.boottime(), .zero), Self.longestSleep)
        return Int((wait.nanoseconds + 999_999) / 1_000_000)
    }

    @ReactorActor private func poll(atMost milliseconds: Int) {
        if itemsAreStale { rebuildItems() }
        var ready = items.withUnsafeMutableBufferPointer { zmq_poll($0.baseAddress, Int32($0.count), milliseconds) }
        guard ready > 0 else { return }
        if items[0].revents != 0 {
            executor.clearWakeup()
            ready -= 1
        }
        for index in items.indices.dropFirst() where ready > 0 && items[index].revents != 0 {
            ready -= 1
            // A handler may remove other sources: they are looked up again, not taken from the list.
            sources[owners[index]]?.handler(items[index].revents)
        }
    }

    @ReactorActor private func rebuildItems() {
        itemsAreStale = false
        owners = [0] + sources.keys.sorted()
        items = owners.map { owner in
            sources[owner]?.item ?? zmq_pollitem_t(socket: nil, fd: executor.wakeup, events: Int16(ZMQ_POLLIN), revents: 0)
        }
    }
}
