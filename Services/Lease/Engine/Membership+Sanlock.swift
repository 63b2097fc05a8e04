import LeaseFormat
import Messages

/// This host's place in a lockspace when a sanlock daemon keeps it: nothing is written here, the own sector tells what the daemon does.
///
/// | phase             | stimulus                             | next                                                               |
/// |-------------------|--------------------------------------|--------------------------------------------------------------------|
/// | reading           | own sector; adopting                 | asking whether the daemon is in it: not so → lost (S2)             |
/// |                   | own sector; else                     | asking it to join                                                  |
/// | asking            | it is in                             | watching                                                           |
/// | watching          | the own sector changed               | confirming; adopting: joined                                       |
/// |                   | adopting: another generation         | lost                                                               |
/// | joined            | the own sector changed               | later deadline                                                     |
/// |                   | another owner, generation or free, or no change in time | lost                                            |
/// |                   | `leave`                              | leaving: the daemon is asked                                       |
///
/// The deadline counts from the submission of the last read that did *not* show the renewal: it reached the disk after that, so nobody counts from earlier (S8).
extension Membership {
    var followsDaemon: Bool { host.sanlock != nil }

    private var place: SanlockLockspace { SanlockLockspace(name: record.lockspace, hostID: hostID, ids: layout.ids) }
    private var look: Duration { .milliseconds(ioTimeout * 500) }

    /// How long the daemon may take: to join, until an earlier user of the host id is dead and a bit.
    var daemonPatience: Duration { .seconds(20 * ioTimeout) + host.firing }

    mutating func askDaemon(having own: LeaderRecord) -> [Step] {
        expected = own
        attempt += 1
        phase = .asking
        return [.daemon(mayAdopt ? .has(place) : .add(place, ioTimeout: ioTimeout))]
    }

    mutating func onDaemon(_ result: Int32, at now: Instant) -> [Step] {
        switch phase {
        case .asking where mayAdopt:
            guard result == 0 else { return lose("sanlock is not in the lockspace any more (\(result), \(SanlockCode.sentence(result)))") }
            return watch(since: now, at: now)
        case .asking:
            if wantsToLeave, result != 0, result != SanlockCode.exists { return end(leaving: .written) }
            guard result == 0 || result == SanlockCode.exists, let before = expected?.ownerGeneration else {
                return giveUp(SanlockCode.error(result, "host id \(hostID) cannot join \(record.lockspace)"), at: now)
            }
            // If the daemon was in already, it joined in this boot.
            if record.generationBefore == nil { record.generationBefore = result == 0 ? before : before - min(before, 1) }
            return watch(since: now, at: now)
        case .leaving:
            if result == SanlockCode.busy {
                phase = verified.map { now < $0 + lifetime } ?? false ? .joined(.idle(next: now)) : .lost
                wantsToLeave = false
                return [.stayed(SanlockCode.error(result, "\(record.lockspace) cannot be left"))]
            }
            return end(leaving: result == 0 || result == SanlockCode.noSuchFile ? .written : .failed(SanlockCode.sentence(result)))
        default:
            return []
        }
    }

    private mutating func watch(since: Instant, at now: Instant) -> [Step] {
        phase = .watching(.reading(submitted: now), since: since)
        return [readOwn()]
    }

    mutating func tickWatch(_ renewal: Renewal, since: Instant, at now: Instant) -> [Step] {
        guard case .idle(let next) = renewal, now >= next else { return [] }
        return watch(since: since, at: now)
    }

    mutating func onWatched(_ result: IOResult, submitted: Instant, since: Instant, at now: Instant) -> [Step] {
        switch sector(0, of: result) {
        case .failure(let error):
            return giveUp(error, at: now)
        case .success(let own):
            guard own.ownerID == UInt64(hostID), !own.isFree, !mayAdopt || own.ownerGeneration == record.generation else {
                let why = "sanlock is in the lockspace, but \(layout.ids) does not say so for host id \(hostID): \(own.name), generation \(own.ownerGeneration)"
                return mayAdopt ? lose(why) : giveUp(RequestError(LeaseErrorCode.hostIDBusy, why), at: now)
            }
            let last = watched
            watched = submitted
            guard own.timestamp != expected?.timestamp, let last, now < last + .seconds(4 * ioTimeout) else {
                guard now < since + lifetime else { return giveUp(RequestError(LeaseErrorCode.io, "sanlock is in the lockspace, but does not renew host id \(hostID)"), at: now) }
                expected = own
                phase = .watching(.idle(next: now + look), since: since)
                return []
            }
            return seeJoined(own, renewedAfter: last, at: now)
        }
    }

    private mutating func seeJoined(_ own: LeaderRecord, renewedAfter last: Instant, at now: Instant) -> [Step] {
        expected = own
        guard mayAdopt else {
            record.generation = own.ownerGeneration
            record.intended = nil
            record.hardwareID = host.hardwareID
            record.bootID = host.bootID
            record.isOfDaemon = true
            phase = .confirming(own, submitted: last)
            return [.note(record)]
        }
        mayAdopt = false
        verified = last
        reason = ""
        phase = .joined(.idle(next: now))
        return [.joined(again: true)] + tick(at: now)
    }

    /// A look at the lockspace while the daemon keeps this host in it.
    mutating func onLooked(_ result: IOResult, submitted: Instant, at now: Instant) -> [Step] {
        guard let deadline, now < deadline else { return tick(at: now) }
        guard case .data(let area) = result else { return renewalFailed(submitted: submitted, result, at: now) }
        switch sector(Int(geometry.deltaOffset(host: hostID)), of: result) {
        case .failure(let error):
            return lose(error.message)
        case .success(let own):
            guard let expected, own.ownerID == UInt64(hostID), own.ownerGeneration == expected.ownerGeneration, own.name == expected.name, !own.isFree else {
                return lose("sanlock left the lockspace or lost it: the sector of host id \(hostID) says \(own.name), generation \(own.ownerGeneration)\(own.isFree ? ", free" : "")")
            }
            observe(area, readAt: submitted, at: now)
            noteDelay(now - submitted, at: now)
            phase = .joined(.idle(next: submitted + look))
            let last = watched ?? submitted
            watched = submitted
            var steps: [Step] = []
            if own.timestamp != expected.timestamp {
                // From one change to the next: what storage and daemon took of it cannot be told apart.
                let gap = last - (verified ?? last)
                verified = max(verified ?? last, last)
                reason = ""
                steps = [renewed(since: gap >= .seconds(4 * ioTimeout) ? now - gap : submitted, ok: true, at: now)]
            }
            self.expected = own
            return steps + (wantsToLeave ? leave(at: now) : [])
        }
    }

    /// Out of the daemon's lockspace, wherever this one stands; the daemon may be in it without us.
    mutating func leaveDaemon() -> [Step] {
        guard case .asking = phase else {
            mayAdopt = false
            attempt += 1
            phase = .leaving
            return [.daemon(.remove(place))]
        }
        wantsToLeave = true
        return []
    }
}
