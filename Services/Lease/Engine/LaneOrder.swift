public import Messages

/// The order of blocking work in lanes: one thread for each, first come, first served. Work that does not end in time is abandoned with its thread, and a new thread takes over the lane:
/// what hangs in one lane never delays another, and never delays its own lane for longer than its timeout.
///
/// A lane that has lost ``limit`` threads in this way gets no more: what comes then waits for one of them to end, and has timed out without having begun if none does.
/// Storage that hangs for days costs no more than storage that hangs for a minute.
///
/// A thread's place is its *seat*. Called, it takes the next work with ``take(_:at:)``, does it, and says so with ``finish(_:)``; work of several I/Os asks ``goOn(_:at:)`` between
/// them; ``wake(at:)`` is due at ``nextWake``.
public struct LaneOrder: Sendable {
    public typealias Seat = UInt64

    public enum Step: Hashable, Sendable {
        /// Start a thread with this seat.
        case start(Seat, lane: String)
        /// This seat's thread is to take its next work. Never while it has work, or has been called and has not come.
        case call(Seat)
        /// The result of the work that was just finished counts.
        case completed(IOToken)
        /// No result within its timeout; the work goes on, or never began: ``landed(_:)`` follows in either case.
        case timedOut(IOToken)
        /// Work that had timed out has ended, or will not begin.
        case landed(IOToken)
    }

    /// Threads that a lane may have lost to work that does not end.
    public static let limit = 4

    private struct Item: Sendable {
        var token: IOToken
        var timeout: Duration
        /// In a lane without a thread: until when it waits for one.
        var waitsUntil: Instant?
    }

    private struct Lane: Sendable {
        /// `nil`: it has lost too many threads.
        var seat: Seat?
        var queue: [Item] = []
        var current: (token: IOToken, timeout: Duration, deadline: Instant)?
        /// Threads that it has lost, of those that are still at it: seat and work.
        var lost: [Seat: IOToken] = [:]
    }

    private var lanes: [String: Lane] = [:]
    /// Lane of every thread, lost ones too.
    private var seats: [Seat: String] = [:]
    private var lastSeat: Seat = 0

    public init() {}

    /// When ``wake(at:)`` is due.
    public var nextWake: Instant? {
        var next = Instant(nanoseconds: .max)
        for lane in lanes.values {
            if let current = lane.current { next = min(next, current.deadline) }
            for item in lane.queue { if let until = item.waitsUntil { next = min(next, until) } }
        }
        return next.nanoseconds == .max ? nil : next
    }

    /// The timeout counts from when the work is taken; in a lane without a thread from now.
    public mutating func submit(lane name: String, token: IOToken, timeout: Duration, at now: Instant) -> [Step] {
        var steps = lanes[name] == nil ? man(name) : []
        guard let lane = lanes[name] else { return steps }
        let isIdle = lane.queue.isEmpty && lane.current == nil
        lanes[name]?.queue.append(Item(token: token, timeout: timeout, waitsUntil: lane.seat == nil ? now + timeout : nil))
        if isIdle, let seat = lane.seat { steps.append(.call(seat)) }
        return steps
    }

    /// A thread that was called comes for its work; `nil`: there is none for it any more.
    public mutating func take(_ seat: Seat, at now: Instant) -> IOToken? {
        guard let name = seats[seat], let lane = lanes[name], lane.seat == seat, lane.current == nil, let item = lane.queue.first else { return nil }
        lanes[name]?.queue.removeFirst()
        lanes[name]?.current = (item.token, item.timeout, now + item.timeout)
        return item.token
    }

    /// Within its work a thread comes to another I/O: whether it still has its lane, and then its timeout counts anew.
    public mutating func goOn(_ seat: Seat, at now: Instant) -> Bool {
        guard let name = seats[seat], let lane = lanes[name], lane.seat == seat, let current = lane.current else { return false }
        lanes[name]?.current?.deadline = now + current.timeout
        return true
    }

    /// A thread has done its work. It ends if it has lost its seat meanwhile, see ``owns(_:)``.
    public mutating func finish(_ seat: Seat) -> [Step] {
        guard let name = seats[seat], let lane = lanes[name] else { return [] }
        if lane.seat == seat {
            guard let done = lane.current else { return [] }
            lanes[name]?.current = nil
            return [.completed(done.token)] + (lane.queue.isEmpty ? [] : [.call(seat)])
        }
        seats[seat] = nil
        guard let token = lanes[name]?.lost.removeValue(forKey: seat) else { return [] }
        return [.landed(token)] + (lane.seat == nil ? man(name) : [])
    }

    /// The thread still has its lane; else it must end.
    public func owns(_ seat: Seat) -> Bool { seats[seat].flatMap { lanes[$0]?.seat } == seat }

    /// Gives every lane whose work is late to a new thread, and gives up what has waited for a thread for as long as it may take.
    public mutating func wake(at now: Instant) -> [Step] { lanes.keys.sorted().flatMap { giveUpWaiting($0, now) + abandonLate($0, now) } }

    private mutating func giveUpWaiting(_ name: String, _ now: Instant) -> [Step] {
        let isLate = { (item: Item) in item.waitsUntil.map { $0 <= now } ?? false }
        let late = lanes[name]?.queue.filter(isLate) ?? []
        lanes[name]?.queue.removeAll(where: isLate)
        return late.flatMap { [.timedOut($0.token), .landed($0.token)] }
    }

    private mutating func abandonLate(_ name: String, _ now: Instant) -> [Step] {
        guard let lane = lanes[name], let seat = lane.seat, let current = lane.current, current.deadline <= now else { return [] }
        lanes[name]?.current = nil
        lanes[name]?.seat = nil
        lanes[name]?.lost[seat] = current.token
        guard lane.lost.count + 1 >= Self.limit else { return [.timedOut(current.token)] + man(name) }
        lanes[name]?.queue = lane.queue.map { Item(token: $0.token, timeout: $0.timeout, waitsUntil: now + $0.timeout) }
        return [.timedOut(current.token)]
    }

    /// Gives a lane its thread.
    private mutating func man(_ name: String) -> [Step] {
        lastSeat += 1
        seats[lastSeat] = name
        var lane = lanes[name] ?? Lane()
        lane.seat = lastSeat
        for index in lane.queue.indices { lane.queue[index].waitsUntil = nil }
        lanes[name] = lane
        return [.start(lastSeat, lane: name)] + (lane.queue.isEmpty ? [] : [.call(lastSeat)])
    }
}
