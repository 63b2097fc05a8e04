import CLinux
import Foundation
public import LeaseEngine
public import Messages

/// Runs blocking work in lanes, one thread for each, in the order that ``LaneOrder`` decides.
///
/// Unchecked: all mutable state is reached only with ``lock`` held.
public final class LaneThreads<Outcome: Sendable>: @unchecked Sendable {
    public enum Report: Sendable {
        case completed(IOToken, Outcome)
        /// No result within its timeout; the work goes on, or never began: ``landed(_:)`` follows in either case.
        case timedOut(IOToken)
        /// Work that had timed out has ended, or will not begin.
        case landed(IOToken)
    }

    private let lock = NSLock()
    private var order = LaneOrder()
    /// Asked by work of several I/Os before each further one: `false` if it was given up meanwhile and must not go on.
    public typealias GoOn = () -> Bool

    private var works: [IOToken: @Sendable (GoOn) -> Outcome] = [:]
    private var calls: [LaneOrder.Seat: DispatchSemaphore] = [:]
    /// The thread that may do work itself which it submits, and the place in which it will.
    private var stand: pthread_t?
    private var taken: LaneOrder.Seat?
    private let monitorCall = DispatchSemaphore(value: 0)
    /// When the monitor looks next; `nil`: when it is called.
    private var monitorLooks: Instant?
    private let report: @Sendable (Report) -> Void

    /// - Parameter report: called from any thread; must neither block nor, but for what is ``Report/completed(_:_:)``, call back into this object.
    public init(report: @escaping @Sendable (Report) -> Void) {
        self.report = report
        spawn("lanes") { [self] in monitor() }
    }

    /// The timeout counts from when the work begins, and anew whenever it asks to go on; in a lane without a thread from now.
    /// - Parameter orHere: the calling thread may do it in the place of the lane's, see ``standIn()``.
    public func submit(lane: String, token: IOToken, timeout: Duration, orHere: Bool = false, _ work: @escaping @Sendable (GoOn) -> Outcome) {
        call(lock.withLock {
            works[token] = work
            defer { callMonitor() }
            let steps = order.submit(lane: lane, token: token, timeout: timeout, at: Self.now)
            if orHere, taken == nil, stand == pthread_self(), case .call(let seat)? = steps.last {
                taken = seat
                return carryOut(steps.dropLast())
            }
            return carryOut(steps)
        })
    }

    /// Makes the calling thread one that does work itself which it has submitted, as ``next()`` gives it: at any time one lane's, whose own thread sleeps on. What does not end is
    /// abandoned with this thread as with any.
    public func standIn() { lock.withLock { stand = pthread_self() } }

    /// What the calling thread is to do next.
    public func next() -> (() -> Void)? {
        let seat = lock.withLock {
            defer { taken = nil }
            return taken
        }
        return seat.map { seat in { [self] in _ = turn(seat) } }
    }

    private static var now: Instant { Instant(nanoseconds: cl_boottime()) }

    /// With the lock held, so that reports come in the order of what they tell.
    ///
    /// - Returns: whom to call once it is not: they need it at once.
    private func carryOut(_ steps: some Sequence<LaneOrder.Step>) -> [DispatchSemaphore] {
        var called: [DispatchSemaphore] = []
        for step in steps {
            switch step {
            case .start(let seat, let lane):
                let call = DispatchSemaphore(value: 0)
                calls[seat] = call
                spawn(lane) { [self] in serve(seat, call) }
            case .call(let seat): if let call = calls[seat] { called.append(call) }
            // The only report of its work: told by who has done it.
            case .completed: break
            case .timedOut(let token): report(.timedOut(token))
            case .landed(let token):
                works[token] = nil
                report(.landed(token))
            }
        }
        return called
    }

    private func call(_ seats: [DispatchSemaphore]) { for seat in seats { seat.signal() } }

    private func spawn(_ name: String, _ body: @escaping @Sendable () -> Void) {
        let thread = Thread(block: body)
        thread.name = name
        // Enough for an engine: what a report brings about may be done here.
        thread.stackSize = 4 << 20
        thread.start()
    }

    private func serve(_ seat: LaneOrder.Seat, _ call: DispatchSemaphore) {
        repeat { call.wait() } while turn(seat)
    }

    /// Does the next work of a lane.
    /// - Returns: whether the lane still belongs to this place.
    private func turn(_ seat: LaneOrder.Seat) -> Bool {
        guard let work = begin(seat) else { return lock.withLock { order.owns(seat) } }
        let outcome = work { [self] in lock.withLock { order.goOn(seat, at: Self.now) } }
        return end(seat, outcome)
    }

    private func begin(_ seat: LaneOrder.Seat) -> (@Sendable (GoOn) -> Outcome)? {
        lock.withLock {
            let token = order.take(seat, at: Self.now)
            callMonitor()
            return token.flatMap { works.removeValue(forKey: $0) }
        }
    }

    private func end(_ seat: LaneOrder.Seat, _ outcome: Outcome) -> Bool {
        let (steps, called, owns) = lock.withLock {
            let steps = order.finish(seat)
            var called = carryOut(steps)
            let owns = order.owns(seat)
            // Its thread ends, too, if it was another that did the work.
            if !owns, let call = calls.removeValue(forKey: seat) { called.append(call) }
            return (steps, called, owns)
        }
        for case .completed(let token) in steps { report(.completed(token, outcome)) }
        call(called)
        return owns
    }

    /// If something is due before it looks. With the lock held.
    ///
    /// It keeps its time when that has ended meanwhile: lanes that are busy with short work call it once in a timeout, not with each work.
    private func callMonitor() {
        guard let next = order.nextWake, next < monitorLooks ?? Instant(nanoseconds: .max) else { return }
        monitorLooks = next
        monitorCall.signal()
    }

    private func monitor() {
        while true {
            if let next = look() {
                _ = monitorCall.wait(timeout: .now() + .nanoseconds(Int(max(1_000_000, (next - Self.now).nanoseconds))))
            } else {
                monitorCall.wait()
            }
        }
    }

    /// Returns when to look again.
    private func look() -> Instant? {
        let (called, next) = lock.withLock {
            let now = Self.now
            let called = carryOut(order.wake(at: now))
            if let looks = monitorLooks, looks <= now { monitorLooks = nil }
            monitorLooks = [monitorLooks, order.nextWake].compactMap(\.self).min()
            return (called, monitorLooks)
        }
        call(called)
        return next
    }
}
