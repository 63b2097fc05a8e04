import LeaseFormat
import Messages

/// Staying a member, seeing the others, and the end of it.
extension Membership {
    mutating func onRenewalRead(_ result: IOResult, submitted: Instant, at now: Instant) -> [Step] {
        guard let deadline, now < deadline else { return tick(at: now) }
        guard case .data(let area) = result else { return renewalFailed(submitted: submitted, result, at: now) }
        switch sector(Int(geometry.deltaOffset(host: hostID)), of: result) {
        case .failure(let error):
            return lose(error.message)
        case .success(let own):
            if own != expected {
                guard let landed = doubtful.first(where: { $0.record == own }) else {
                    return lose("the sector of host id \(hostID) was overwritten by \(own.name) generation \(own.ownerGeneration)")
                }
                expected = own
                verified = max(verified ?? landed.submitted, landed.submitted)
            }
            observe(area, readAt: submitted, at: now)
            noteDelay(now - submitted, at: now)
            guard !wantsToLeave else {
                phase = .joined(.idle(next: now))
                return leave(at: now)
            }
            var new = own
            new.timestamp = Self.seconds(now)
            let bitmap = callers(at: now)
            new.hostEvent = event
            phase = .joined(.writing(new, submitted: now))
            return [write(new, calling: bitmap, notAfter: deadline)] + listen(to: area)
        }
    }

    mutating func onRenewalWritten(_ result: IOResult, written: LeaderRecord, submitted: Instant, at now: Instant) -> [Step] {
        guard case .written = result else {
            doubtful = doubtful.suffix(7) + [(written, submitted)]
            return renewalFailed(submitted: submitted, result, at: now)
        }
        guard let deadline, now < deadline else { return tick(at: now) }
        expected = written
        verified = submitted
        reason = ""
        phase = .joined(.idle(next: submitted + interval))
        noteDelay(now - submitted, at: now)
        return [renewed(since: renewalBegan ?? submitted, ok: true, at: now)] + (wantsToLeave ? leave(at: now) : [])
    }

    mutating func renewalFailed(submitted: Instant, _ result: IOResult, at now: Instant) -> [Step] {
        reason = "renewal: \(Self.error(result, "renew").message)"
        let pause: Duration = result == .timedOut ? .zero : .milliseconds(ioTimeout * 250)
        phase = .joined(.idle(next: now + pause))
        troubled = now
        return [renewed(since: submitted, ok: false, at: now)] + tick(at: now)
    }

    mutating func renewed(since began: Instant, ok: Bool, at now: Instant) -> Step {
        let sample = RenewalSample(at: now, latency: now - began, ok: ok, isLate: now - began >= interval)
        renewals = renewals.suffix(31) + [sample]
        if ok { renewalBegan = nil }
        return .renewed(sample)
    }

    /// Storage that takes longer may hold back what others have sent.
    static let promptly = Duration.milliseconds(250)

    mutating func noteDelay(_ delay: Duration, at now: Instant) {
        if delay > Self.promptly { troubled = now }
    }

    /// A renewal was not answered promptly lately, or the one under way is not.
    func isTroubled(within time: Duration, at now: Instant) -> Bool {
        if let troubled, now < troubled + time { return true }
        switch phase {
        case .joined(.reading(let submitted)), .joined(.writing(_, let submitted)): return now > submitted + Self.promptly
        default: return false
        }
    }

    mutating func lose(_ why: String) -> [Step] {
        reason = why
        mayAdopt = false
        phase = .lost
        return [.lost(why)]
    }

    mutating func end(leaving result: IOResult) -> [Step] {
        phase = .idle
        verified = nil
        guard case .written = result else { return [.left(Self.error(result, "free the host id"))] }
        return [.left(nil)]
    }

    /// The highest host id whose block can matter to a ballot, and until when: a host that the last look did not see cannot take part yet. Between its first write
    /// and its first ballot lie 2 x io_timeout, of which this leaves the half. `nil`: any can.
    var slots: (highest: Int, until: Instant)? { whole.map { (max($0.highest, hostID), $0.at + freshness) } }

    /// The lockspace is worth another look before the last one is too old for ballots.
    func wantsLook(at now: Instant) -> Bool { isJoined && whole.map { now >= $0.at + .milliseconds(freshness.milliseconds / 2) } ?? true }

    var freshness: Duration { .seconds(min(ioTimeout, shortestTimeout ?? ioTimeout)) }

    /// Feeds the liveness of the other hosts from a read of the lockspace.
    mutating func observe(_ area: [UInt8], readAt: Instant, at now: Instant) {
        var highest = 0
        // Whoever joins waits for twice what its own sector says, also in one that nobody has used yet.
        var shortest: Int64?
        defer {
            let isWhole = area.count >= geometry.maximumHosts * geometry.sectorSize
            if isWhole { whole = (highest, readAt) }
            shortestTimeout = isWhole ? shortest : [shortest, shortestTimeout].compactMap(\.self).min()
            // The array as it is, unless most of it says nothing.
            let used = highest * geometry.sectorSize
            lastArea = area.count <= 2 * used ? area : Array(area.prefix(used))
        }
        // Most hosts have not renewed since: what was read and understood before need not be taken apart again.
        let news = AreaNews(of: area, since: lastArea, geometry: geometry, again: unread)
        highest = news.highest
        shortest = news.shortestTimeout.map(Int64.init)
        for id in news.hosts {
            let start = Int(geometry.deltaOffset(host: id))
            let bytes = area[start..<(start + geometry.sectorSize)]
            guard let seen = hosts[id]?.record.renewed(in: area, since: lastArea, at: start) ?? (try? LeaderRecord(bytes)), seen.kind == .delta, seen.lockspace == record.lockspace else {
                hosts[id] = nil
                unread.insert(id)
                anomalies.cannotRead(id)
                continue
            }
            unread.remove(id)
            anomalies.saw(id, seen, before: hosts[id]?.record)
            if hosts.index(forKey: id) != nil {
                hosts[id]?.see(seen, at: now)
            } else {
                hosts[id] = HostObservation(record: seen, firstSeen: now)
            }
        }
    }

    /// The used sectors and a few more; every sixteenth time the whole area, for hosts with higher ids.
    mutating func scanLength() -> Int {
        scans += 1
        guard scans % 16 != 1 else { return geometry.maximumHosts * geometry.sectorSize }
        let highest = max(hostID, hosts.keys.max() ?? 0)
        return min((highest + 15) / 8 * 8, geometry.maximumHosts) * geometry.sectorSize
    }
}
