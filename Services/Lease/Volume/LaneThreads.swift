import CLinux
import Foundation
public import Messages

/// Runs blocking work in lanes, one thread for each, in order. Work that does not end in time is abandoned with its thread, and a new thread takes over the lane:
/// what hangs in one lane never delays another, and never delays its own lane for longer than its timeout.
///
/// Unchecked: all mutable state is reached only with ``lock`` held.
public final class LaneThreads<Outcome: Sendable>: @unchecked Sendable {
    public enum Report: Sendable {
        case completed(UInt64, Outcome)
        /// No result within its timeout; the work goes on.
        case timedOut(UInt64)
        /// Work that had timed out has ended.
        case landed(UInt64)
    }

    private struct Item {
        var token: UInt64
        var timeout: Duration
        var work: @Sendable () -> Outcome
    }

    /// One thread's place; its fields are guarded by the owner's lock.
    private final class Lane {
        var queue: [Item] = []
        var current: (item: Item, deadline: Int64)?
        var isAbandoned = false
        let wakeUp = DispatchSemaphore(value: 0)
    }

    private let lock = NSLock()
    private var lanes: [String: Lane] = [:]
    private let monitorWakeUp = DispatchSemaphore(value: 0)
    private let report: @Sendable (Report) -> Void

    /// - Parameter report: called from any thread; must neither block nor call back into this object.
    public init(report: @escaping @Sendable (Report) -> Void) {
        self.report = report
        spawn("lanes") { [self] in monitor() }
    }

    /// The timeout counts from when the work begins.
    public func submit(lane name: String, token: UInt64, timeout: Duration, _ work: @escaping @Sendable () -> Outcome) {
        lock.lock()
        defer { lock.unlock() }
        let lane = lanes[name] ?? started(name)
        lane.queue.append(Item(token: token, timeout: timeout, work: work))
        lane.wakeUp.signal()
    }

    /// With the lock held.
    private func started(_ name: String) -> Lane {
        let lane = Lane()
        lanes[name] = lane
        let place = Place(lane)
        spawn(name) { [self] in serve(place) }
        return lane
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

    /// Whether the lane still belongs to this thread.
    private func end(_ lane: Lane) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        lane.current = nil
        return !lane.isAbandoned
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
            guard let (item, deadline) = lane.current else { continue }
            guard now >= deadline else {
                next = min(next ?? deadline, deadline)
                continue
            }
            lane.isAbandoned = true
            // Under the lock: the thread that is given up can say that it landed only after this.
            report(.timedOut(item.token))
            let successor = started(name)
            successor.queue = lane.queue
            lane.queue = []
            for _ in successor.queue { successor.wakeUp.signal() }
        }
        return next
    }
}
