import LeaseFormat
import Messages

/// Becoming a member: by the wait that sanlock prescribes, by this machine's own record, or by taking up what this boot wrote (S2).
extension Membership {
    mutating func onProbe(_ result: IOResult, at now: Instant) -> [Step] {
        switch sector(0, of: result, at: 0) {
        case .failure(let error): return giveUp(error, at: now)
        case .success(let first):
            geometry = first.geometry
            ioTimeout = Int64(first.ioTimeout == 0 ? 10 : first.ioTimeout)
            guard hostID <= geometry.maximumHosts else {
                return giveUp(RequestError(RequestErrorCode.invalid, "host id \(hostID) is above this lockspace's \(geometry.maximumHosts)"), at: now)
            }
            phase = .reading
            watched = now
            return [readOwn()]
        }
    }

    mutating func onOwnSector(_ result: IOResult, at now: Instant) -> [Step] {
        switch sector(0, of: result) {
        case .failure(let error): return giveUp(error, at: now)
        case .success(let own):
            if followsDaemon { return askDaemon(having: own) }
            if mayAdopt { return adopt(own, at: now) }
            if record.generationBefore == nil { record.generationBefore = own.ownerGeneration }
            if own.isFree || isOurs(own) { return intend(after: own, at: now) }
            let wait = Duration.seconds(8 * Int64(max(own.ioTimeout, 1))) + host.firing
            reason = "host id \(hostID) is marked as used by \(own.name) generation \(own.ownerGeneration): waiting \(wait.milliseconds / 1000) s to see whether it lives"
            phase = .waiting(until: now + wait, own)
            return []
        }
    }

    /// Whether the sector is provably this machine's own: the name alone can be copied with an image (S2).
    func isOurs(_ own: LeaderRecord) -> Bool {
        own.ownerID == UInt64(hostID) && own.name == host.name && record.hardwareID == host.hardwareID
            && (own.ownerGeneration == record.generation || own.ownerGeneration == record.intended) && record.isOfDaemon != true
    }

    mutating func adopt(_ own: LeaderRecord, at now: Instant) -> [Step] {
        mayAdopt = false
        let written = Instant(nanoseconds: Int64(clamping: min(own.timestamp, UInt64(Int64.max / 1_000_000_000))) * 1_000_000_000)
        guard own.ownerID == UInt64(hostID), own.name == host.name, own.ownerGeneration == record.generation, !own.isFree else {
            return lose("the sector no longer says \(host.name) generation \(record.generation)")
        }
        guard written <= now, now < written + lifetime else {
            return lose("the last renewal of generation \(record.generation) is older than \(lifetime.milliseconds / 1000) s")
        }
        expected = own
        verified = written
        reason = ""
        phase = .joined(.idle(next: now))
        return [.joined(again: true)] + tick(at: now)
    }

    mutating func onReread(_ result: IOResult, seen: LeaderRecord, at now: Instant) -> [Step] {
        switch sector(0, of: result) {
        case .failure(let error): return giveUp(error, at: now)
        case .success(let own):
            guard own == seen || own.isFree else {
                return giveUp(
                    RequestError(
                        LeaseErrorCode.hostIDBusy, "host id \(hostID) is in use by \(own.name); give this host another id",
                        details: ["owner": own.name, "generation": String(own.ownerGeneration)]), at: now)
            }
            return intend(after: own, at: now)
        }
    }

    mutating func intend(after own: LeaderRecord, at now: Instant) -> [Step] {
        let (next, isBeyond) = max(own.ownerGeneration, record.generation, record.intended ?? 0).addingReportingOverflow(1)
        guard !isBeyond else { return giveUp(RequestError(LeaseErrorCode.corrupt, "generation \(own.ownerGeneration) of host id \(hostID) has no successor"), at: now) }
        record.intended = next
        record.isOfDaemon = nil
        record.hardwareID = host.hardwareID
        record.bootID = host.bootID
        phase = .noting(own)
        return [.note(record)]
    }

    /// Counted from when the write had ended: others do not look for a host that has written later than they think it could.
    mutating func settle(_ new: LeaderRecord, submitted: Instant, at now: Instant) -> [Step] {
        phase = .settling(until: now + interval, new, submitted: submitted)
        return []
    }

    mutating func onVerify(_ result: IOResult, written: LeaderRecord, submitted: Instant, at now: Instant) -> [Step] {
        switch sector(0, of: result) {
        case .failure(let error): return giveUp(error, at: now)
        case .success(let own):
            guard own == written, now < submitted + lifetime else {
                return giveUp(RequestError(LeaseErrorCode.hostIDBusy, "\(own.name) wrote host id \(hostID) at the same time"), at: now)
            }
            record.generation = written.ownerGeneration
            record.intended = nil
            phase = .confirming(written, submitted: submitted)
            return [.note(record)]
        }
    }

    mutating func giveUp(_ error: RequestError, at now: Instant) -> [Step] {
        reason = error.message
        let isBusy = error.code == LeaseErrorCode.hostIDBusy.rawValue
        retryAt = now + (isBusy ? .seconds(30) : .seconds(1))
        phase = .idle
        return [.refused(error)]
    }
}
