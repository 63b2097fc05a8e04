import LeaseFormat
import Messages

/// One renewal, or one try of it.
struct RenewalSample: Hashable, Sendable {
    var at: Instant
    /// From the first try to the end.
    var latency: Duration
    var ok: Bool
    /// It took 2 x io_timeout or longer: the next was due before.
    var isLate: Bool
}

/// What hosts tell each other through their sectors: a bit for each host that is to look, and one event.
extension Membership {
    /// How long a bit is set: everybody who is alive has renewed, and so read it, by then.
    private var callLasts: Duration { .seconds(6 * ioTimeout) }

    /// Asks hosts to look; written with the next renewal, which comes at once.
    mutating func call(_ hosts: [Int], at now: Instant) {
        for host in hosts where host != hostID && (1...geometry.maximumHosts).contains(host) { calls[host] = now + callLasts }
        if case .joined(.idle(let next)) = phase, next > now { phase = .joined(.idle(next: now)) }
    }

    /// Sends an event to one host. A sector has room for one: `false` while another is on its way.
    mutating func send(_ new: HostEvent, to target: Int, at now: Instant) -> Bool {
        expireCalls(at: now)
        guard event == nil || event == new else { return false }
        event = new
        call([target], at: now)
        return true
    }

    private mutating func expireCalls(at now: Instant) {
        calls = calls.filter { now < $0.value }
        if calls.isEmpty { event = nil }
    }

    /// The bits to write now.
    mutating func callers(at now: Instant) -> HostBitmap {
        expireCalls(at: now)
        var bitmap = HostBitmap()
        for host in calls.keys { bitmap[host] = true }
        return bitmap
    }

    /// Who asks us to look, and every event for this life of ours, once.
    mutating func listen(to area: [UInt8]) -> [Step] {
        var steps: [Step] = []
        var now: [Int: HostEvent?] = [:]
        for id in HostBitmap.callers(of: hostID, in: area, sectorSize: geometry.sectorSize) where id != hostID {
            guard let record = hosts[id]?.record, !record.isFree else { continue }
            let event = record.hostEvent.flatMap { $0.generation == 0 || $0.generation == self.record.generation ? $0 : nil }
            now[id] = .some(event)
            if let event, heard[id] != .some(event) { steps.append(.event(from: id, event)) }
            steps.append(.asked(by: id))
        }
        heard = now
        return steps
    }
}
