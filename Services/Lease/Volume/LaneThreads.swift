import CLinux
import Foundation
public import Messages

/// Runs blocking work in lanes, one thread for each, in order. Work that does not end in time is abandoned with its thread, and a new thread takes over the lane:
/// what hangs in one lane never delays another, and never delays its own lane for longer than its timeout.
///
/// A lane that has lost ``limit`` threads in this way gets no more: what comes then waits for one of them to end, and has timed out without having begun if none does.
/// Storage that hangs for days costs no more than storage that hangs for a minute.
///
/// Unchecked: all mutable state is reached only with ``lock`` held.
public final class LaneThreads<Outcome: Sendable>: @unchecked Sendable {
    public enum Report: Sendable {
        case completed(UInt64, Outcome)
        /// No result within its timeout; the work goes on, or never began: ``landed(_:)`` follows in either case.
        case timedOut(UInt64)
        /// Work that had timed out has ended, or will not begin.
        case landed(UInt64)
    }

    private struct Item {
        var token: UInt64
        var timeout: Duration
        var work: @Sendable () -> Outcome
    }

    /// Threads that a lane may have lost to work that does not end.
    public static var limit: Int { 4 }

    /// One thread's place; its fields are guarded by the owner's lock.
    private final class Lane {
        let name: String
        var queue: [Item] = []
        /// Without a thread: until when each of the queue waits for one.
        var waiting: [Int64]?
        var current: (item: Item, deadline: Int64)?
        var isAbandoned = false
        let wakeUp = DispatchSemaphore(value: 0)
        init(_ name: String) { self.name = name }
    }

    private let lock = NSLock()
    private var lanes: [String: Lane] = [:]
    /// Threads that each lane has lost, of those that are still at it.
    private var lost: [String: Int] = [:]
    private let monitorWakeUp = DispatchSemaphore(value: 0)
    private let report: @Sendable (Report) -> Void

    /// - Parameter report: called from any thread; must neither block nor call back into this object.
    public init(report: @escaping @Sendable (Report) -> Void) {
        self.report = report
        spawn("lanes") { [self] in monitor() }
    }

    /// The timeout counts from when the work begins; in a lane without a thread from now.
    public func submit(lane name: String, token: UInt64, timeout: Duration, _ work: @escaping @Sendable () -> Outcome) {
        lock.lock()
        defer { lock.unlock() }
        let lane = lanes[name] ?? started(name)
        append(Item(token: token, timeout: timeout, work: work), to: lane)
    }

    /// With the lock held.
    private func started(_ name: String) -> Lane {
        let lane = Lane(name)
        lanes[name] = lane
        if lost[name] ?? 0 < Self.limit { man(lane) } else { lane.waiting = [] }
        return lane
    }

    /// With the lock held: gives a lane its thread.
    private func man(_ lane: Lane) {
        lane.waiting = nil
        let place = Place(lane)
        spawn(lane.name) { [self] in serve(place) }
    }

    /// With the lock held.
    private func append(_ item: Item, to lane: Lane) {
        lane.queue.append(item)
        if lane.waiting == nil {
            lane.wakeUp.signal()
        } else {
            lane.waiting?.append(cl_boottime() + item.timeout.nanoseconds)
            monitorWakeUp.signal()
        }
    }

    /// Hands a lane to its thread. Unchecked for the same reason as the pool itself: the lane's fields are touched with its lock held only.
    private struct Place: @unchecked Sendable {
        let lane: Lane
        init(_ lane: Lane) { self.lane = lane }
    }

    private func spawn(_ name: String, _ body: @escaping @Sendable () -> Void) {
        let thread = Thread(block: body)
        thread.name = name
        thread.stackSize = 512 << 10
        thread.start()
    }

    private func serve(_ place: Place) {
        let lane = place.lane
        while true {
            lane.wakeUp.wait()
            guard let item = begin(lane) else { continue }
            let outcome = item.work()
            guard end(lane) else { return report(.landed(item.token)) }
            report(.completed(item.token, outcome))
        }
    }

    private func begin(_ lane: Lane) -> Item? {
        lock.lock()
        defer { lock.unlock() }
        guard !lane.queue.isEmpty else { return nil }
        let item = lane.queue.removeFirst()
        lane.current = (item, cl_boottime() + item.timeout.nanoseconds)
        monitorWakeUp.signal()
        return item
    }

    /// Whether the lane still belongs to this thread; a thread that was lost makes room for another.
    private func end(_ lane: Lane) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        lane.current = nil
        guard lane.isAbandoned else { return true }
        lost[lane.name] = lost[lane.name].flatMap { $0 > 1 ? $0 - 1 : nil }
        if let heir = lanes[lane.name], heir.waiting != nil {
            man(heir)
            for _ in heir.queue { heir.wakeUp.signal() }
        }
        return false
    }

    private func monitor() {
        while true {
            if let next = abandonLate() {
                _ = monitorWakeUp.wait(timeout: .now() + .nanoseconds(Int(max(1_000_000, next - cl_boottime()))))
            } else {
                monitorWakeUp.wait()
            }
        }
    }

    /// Gives every lane whose work is late to a new thread; returns when to look again.
    private func abandonLate() -> Int64? {
        lock.lock()
        defer { lock.unlock() }
        var next: Int64?
        let now = cl_boottime()
        for (name, lane) in lanes {
            if let first = giveUpWaiting(in: lane, at: now) { next = min(next ?? first, first) }
            guard let (item, deadline) = lane.current else { continue }
            guard now >= deadline else {
                next = min(next ?? deadline, deadline)
                continue
            }
            lane.isAbandoned = true
            lost[name, default: 0] += 1
            // Under the lock: the thread that is given up can say that it landed only after this.
            report(.timedOut(item.token))
            let successor = started(name)
            for item in lane.queue { append(item, to: successor) }
            lane.queue = []
        }
        return next
    }

    /// With the lock held: reports what has waited for a thread for as long as it may take; returns when the next has.
    private func giveUpWaiting(in lane: Lane, at now: Int64) -> Int64? {
        guard let waiting = lane.waiting else { return nil }
        for (item, _) in zip(lane.queue, waiting).filter({ $0.1 <= now }) {
            report(.timedOut(item.token))
            report(.landed(item.token))
        }
        lane.queue = zip(lane.queue, waiting).filter { $0.1 > now }.map(\.0)
        lane.waiting = waiting.filter { $0 > now }
        return lane.waiting?.min()
    }
}
