import LeaseFormat
import Messages

/// This host's delta lease in one lockspace: join, renew, lose, leave.
///
/// | phase             | stimulus                          | next                                                             |
/// |-------------------|-----------------------------------|------------------------------------------------------------------|
/// | idle              | `begin`                           | probing                                                          |
/// | probing           | geometry read                     | reading                                                          |
/// | reading           | adopting: own record, time left   | joined, renews at once (S2)                                      |
/// |                   | adopting: anything else           | lost                                                             |
/// |                   | free, or ours by journal and hardware id | noting (S2: the only fast way in)                         |
/// |                   | held otherwise                    | waiting 8 x io_timeout + F                                       |
/// | waiting           | time over                         | rereading                                                        |
/// | rereading         | unchanged or free                 | noting                                                           |
/// |                   | changed                           | idle, refused `lockspace.host-id-busy`                           |
/// | noting            | intention durable                 | writing (generation + 1)                                         |
/// | writing           | written                           | settling 2 x io_timeout                                          |
/// | settling, verifying | unchanged                       | confirming; else idle, refused                                   |
/// | confirming        | generation durable                | joined                                                           |
/// | joined            | 2 x io_timeout passed             | reads (own record must be what was written), then writes         |
/// |                   | foreign record, or 8 x io_timeout after the submission of the last verified renewal | lost (S8)      |
/// |                   | `leave`                           | leaving: writes timestamp 0                                      |
/// | lost              | every guard reaped, `begin`       | probing                                                          |
struct Membership: Sendable {
    enum Phase: Sendable {
        case idle
        case probing, reading
        case waiting(until: Instant, LeaderRecord)
        case rereading(LeaderRecord)
        case noting(LeaderRecord)
        case writing(LeaderRecord, submitted: Instant)
        case settling(until: Instant, LeaderRecord, submitted: Instant)
        case verifying(LeaderRecord, submitted: Instant)
        case confirming(LeaderRecord, submitted: Instant)
        case joined(Renewal)
        case leaving
        case lost
    }

    enum Renewal: Sendable {
        case idle(next: Instant)
        case reading(submitted: Instant)
        case writing(LeaderRecord, submitted: Instant)
    }

    enum Step: Sendable {
        case io(VolumeOperation)
        case note(MembershipRecord)
        case joined(again: Bool)
        case refused(RequestError)
        case lost(String)
        case renewed(latency: Duration, ok: Bool)
        case left(RequestError?)
    }

    var record: MembershipRecord
    let host: HostIdentity
    private(set) var phase = Phase.idle
    private(set) var geometry = Geometry.standard
    private(set) var ioTimeout: Int64 = 10
    /// What the own sector must say.
    private var expected: LeaderRecord?
    /// Written, outcome unknown: the sector may say this as well.
    private var doubtful: [(record: LeaderRecord, submitted: Instant)] = []
    /// Submission of the last verified renewal.
    private(set) var verified: Instant?
    private(set) var hosts: [Int: HostObservation] = [:]
    /// The highest host id that was ever used, by the last read of the whole lockspace, and when that was submitted.
    private var whole: (highest: Int, at: Instant)?
    private(set) var reason = ""
    /// Not before this time is a failed join tried again.
    private(set) var retryAt: Instant?
    /// Just started: this boot's membership may still be ours (S2). A membership that was lost, left or taken up is not adopted again.
    private(set) var mayAdopt: Bool
    private var wantsToLeave = false
    private var scans = 0
    /// Rises with each I/O: results of abandoned ones are late news.
    private(set) var attempt: UInt64 = 0

    init(record: MembershipRecord, host: HostIdentity) {
        self.record = record
        self.host = host
        mayAdopt = record.wanted && record.generation > 0 && record.intended == nil
            && record.bootID == host.bootID && record.hardwareID == host.hardwareID
        if record.bootID != host.bootID { self.record.generationBefore = nil }
    }

    private var layout: DomainLayout { DomainLayout(root: record.path) }
    private var hostID: Int { host.hostID }
    private var interval: Duration { .seconds(2 * ioTimeout) }
    private var lifetime: Duration { .seconds(8 * ioTimeout) }

    /// The end of everything held through this membership, unless a renewal moves it; `nil` if there is no membership.
    var deadline: Instant? {
        guard case .joined = phase, let verified else { return nil }
        return verified + lifetime
    }

    var isJoined: Bool { if case .joined = phase { true } else { false } }
    var isIdle: Bool { if case .idle = phase { true } else { false } }
    var isLost: Bool { if case .lost = phase { true } else { false } }
    /// Neither a member nor on the way to be one.
    var isOut: Bool { isIdle || isLost }

    var state: LockspaceState {
        switch phase {
        case .idle: record.wanted ? .joining : .left
        case .joined: .joined
        case .leaving: .leaving
        case .lost: .lost
        default: .joining
        }
    }

    var nextWake: Instant? {
        switch phase {
        case .idle, .lost: record.wanted ? retryAt : nil
        case .waiting(let until, _), .settling(let until, _, _): until
        case .joined(.idle(let next)): min(next, deadline ?? next)
        case .joined: deadline
        default: nil
        }
    }

    // MARK: Stimuli

    /// An operator or agent wants it joined, from now on until it is left, and tried at once.
    mutating func want(at path: String) {
        record.wanted = true
        record.path = path
        if isOut { retryAt = nil }
    }

    /// Starts to join, or, after a restart of this process within one boot, to take up the membership it had.
    mutating func begin() -> [Step] {
        expected = nil
        doubtful = []
        verified = nil
        retryAt = nil
        wantsToLeave = false
        phase = .probing
        return [read(offset: 0, length: Geometry.probeLength)]
    }

    mutating func tick(at now: Instant) -> [Step] {
        switch phase {
        case .waiting(let until, let seen) where now >= until:
            phase = .rereading(seen)
            return [readOwn()]
        case .settling(let until, let written, let submitted) where now >= until:
            phase = .verifying(written, submitted: submitted)
            return [readOwn()]
        case .joined(let renewal):
            guard let deadline, now < deadline else { return lose("no renewal reached the disk for \(lifetime.milliseconds / 1000) s") }
            if case .idle(let next) = renewal, now >= next {
                phase = .joined(.reading(submitted: now))
                return [read(offset: 0, length: scanLength())]
            }
            return []
        default:
            return []
        }
    }

    mutating func onNoted(_ noted: MembershipRecord, at now: Instant) -> [Step] {
        switch phase {
        case .noting(let seen):
            guard let intended = noted.intended else { return [] }
            var new = LeaderRecord(lockspace: record.lockspace, ioTimeout: UInt16(ioTimeout), geometry: geometry)
            new.ownerID = UInt64(hostID)
            new.ownerGeneration = intended
            new.name = host.name
            new.timestamp = Self.seconds(now)
            new.ioTimeout = seen.ioTimeout
            phase = .writing(new, submitted: now)
            return [write(new, notAfter: now + interval)]
        case .confirming(let written, let submitted):
            expected = written
            verified = submitted
            reason = ""
            phase = .joined(.idle(next: now))
            return [.joined(again: false)] + tick(at: now)
        default:
            return []
        }
    }

    mutating func leave(at now: Instant) -> [Step] {
        switch phase {
        case .joined(.idle):
            guard var last = expected else { return [] }
            last.timestamp = 0
            phase = .leaving
            return [write(last, notAfter: now + interval)]
        case .joined:
            wantsToLeave = true
            return []
        case .leaving:
            return []
        default:
            mayAdopt = false
            phase = .idle
            return [.left(nil)]
        }
    }

    mutating func onResult(_ result: IOResult, at now: Instant) -> [Step] {
        switch phase {
        case .probing: onProbe(result, at: now)
        case .reading: onOwnSector(result, at: now)
        case .rereading(let seen): onReread(result, seen: seen, at: now)
        case .writing(let new, let submitted):
            if case .written = result {
                settle(new, submitted: submitted)
            } else {
                giveUp(Self.error(result, "write the host id's sector"), at: now)
            }
        case .verifying(let new, let submitted): onVerify(result, written: new, submitted: submitted, at: now)
        case .joined(.reading(let submitted)): onRenewalRead(result, submitted: submitted, at: now)
        case .joined(.writing(let new, let submitted)): onRenewalWritten(result, written: new, submitted: submitted, at: now)
        case .leaving:
            end(leaving: result)
        default: []
        }
    }

    // MARK: Joining

    private mutating func onProbe(_ result: IOResult, at now: Instant) -> [Step] {
        switch sector(0, of: result, at: 0) {
        case .failure(let error): return giveUp(error, at: now)
        case .success(let first):
            geometry = first.geometry
            ioTimeout = Int64(first.ioTimeout == 0 ? 10 : first.ioTimeout)
            guard hostID <= geometry.maximumHosts else {
                return giveUp(RequestError(RequestErrorCode.invalid, "host id \(hostID) is above this lockspace's \(geometry.maximumHosts)"), at: now)
            }
            phase = .reading
            return [readOwn()]
        }
    }

    private mutating func onOwnSector(_ result: IOResult, at now: Instant) -> [Step] {
        switch sector(0, of: result) {
        case .failure(let error): return giveUp(error, at: now)
        case .success(let own):
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
    private func isOurs(_ own: LeaderRecord) -> Bool {
        own.ownerID == UInt64(hostID) && own.name == host.name && record.hardwareID == host.hardwareID
            && (own.ownerGeneration == record.generation || own.ownerGeneration == record.intended)
    }

    private mutating func adopt(_ own: LeaderRecord, at now: Instant) -> [Step] {
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

    private mutating func onReread(_ result: IOResult, seen: LeaderRecord, at now: Instant) -> [Step] {
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

    private mutating func intend(after own: LeaderRecord, at now: Instant) -> [Step] {
        let (next, isBeyond) = max(own.ownerGeneration, record.generation, record.intended ?? 0).addingReportingOverflow(1)
        guard !isBeyond else { return giveUp(RequestError(LeaseErrorCode.corrupt, "generation \(own.ownerGeneration) of host id \(hostID) has no successor"), at: now) }
        record.intended = next
        record.hardwareID = host.hardwareID
        record.bootID = host.bootID
        phase = .noting(own)
        return [.note(record)]
    }

    private mutating func settle(_ new: LeaderRecord, submitted: Instant) -> [Step] {
        phase = .settling(until: submitted + interval, new, submitted: submitted)
        return []
    }

    private mutating func onVerify(_ result: IOResult, written: LeaderRecord, submitted: Instant, at now: Instant) -> [Step] {
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

    private mutating func giveUp(_ error: RequestError, at now: Instant) -> [Step] {
        reason = error.message
        let isBusy = error.code == LeaseErrorCode.hostIDBusy.rawValue
        retryAt = now + (isBusy ? .seconds(30) : .seconds(1))
        phase = .idle
        return [.refused(error)]
    }

    // MARK: Renewing

    private mutating func onRenewalRead(_ result: IOResult, submitted: Instant, at now: Instant) -> [Step] {
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
            guard !wantsToLeave else {
                phase = .joined(.idle(next: now))
                return leave(at: now)
            }
            var new = own
            new.timestamp = Self.seconds(now)
            phase = .joined(.writing(new, submitted: now))
            return [write(new, notAfter: deadline)]
        }
    }

    private mutating func onRenewalWritten(_ result: IOResult, written: LeaderRecord, submitted: Instant, at now: Instant) -> [Step] {
        guard case .written = result else {
            doubtful = doubtful.suffix(7) + [(written, submitted)]
            return renewalFailed(submitted: submitted, result, at: now)
        }
        guard let deadline, now < deadline else { return tick(at: now) }
        expected = written
        verified = submitted
        reason = ""
        phase = .joined(.idle(next: submitted + interval))
        return [.renewed(latency: now - submitted, ok: true)] + (wantsToLeave ? leave(at: now) : [])
    }

    private mutating func renewalFailed(submitted: Instant, _ result: IOResult, at now: Instant) -> [Step] {
        reason = "renewal: \(Self.error(result, "renew").message)"
        let pause: Duration = result == .timedOut ? .zero : .milliseconds(ioTimeout * 250)
        phase = .joined(.idle(next: now + pause))
        return [.renewed(latency: now - submitted, ok: false)] + tick(at: now)
    }

    private mutating func lose(_ why: String) -> [Step] {
        reason = why
        mayAdopt = false
        phase = .lost
        return [.lost(why)]
    }

    private mutating func end(leaving result: IOResult) -> [Step] {
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

    private var freshness: Duration { .seconds(min(ioTimeout, hosts.values.map { Int64(max($0.record.ioTimeout, 1)) }.min() ?? ioTimeout)) }

    /// Feeds the liveness of the other hosts from a read of the lockspace.
    mutating func observe(_ area: [UInt8], readAt: Instant, at now: Instant) {
        var highest = 0
        defer { if area.count >= geometry.maximumHosts * geometry.sectorSize { whole = (highest, readAt) } }
        for id in 1...geometry.maximumHosts {
            let start = Int(geometry.deltaOffset(host: id))
            guard start + geometry.sectorSize <= area.count else { break }
            let bytes = area[start..<(start + geometry.sectorSize)]
            if LeaderRecord.isNeverOwned(bytes) { continue }
            highest = id
            guard let seen = try? LeaderRecord(bytes), seen.kind == .delta, seen.lockspace == record.lockspace else {
                hosts[id] = nil
                continue
            }
            if hosts[id] != nil {
                hosts[id]?.see(seen, at: now)
            } else {
                hosts[id] = HostObservation(record: seen, firstSeen: now)
            }
        }
    }

    /// The used sectors and a few more; every sixteenth time the whole area, for hosts with higher ids.
    private mutating func scanLength() -> Int {
        scans += 1
        guard scans % 16 != 1 else { return geometry.maximumHosts * geometry.sectorSize }
        let highest = max(hostID, hosts.keys.max() ?? 0)
        return min((highest + 15) / 8 * 8, geometry.maximumHosts) * geometry.sectorSize
    }

    // MARK: I/O

    private mutating func readOwn() -> Step { read(offset: geometry.deltaOffset(host: hostID), length: geometry.sectorSize) }

    private mutating func read(offset: UInt64, length: Int) -> Step {
        attempt += 1
        return .io(.read(path: layout.ids, offset: offset, length: length))
    }

    private mutating func write(_ new: LeaderRecord, notAfter: Instant) -> Step {
        attempt += 1
        return .io(.write(path: layout.ids, offset: geometry.deltaOffset(host: hostID), bytes: new.sector, notAfter: notAfter, create: false))
    }

    /// The delta record at `offset` of what was read, which in the file begins at `start`: this host's own, if not told.
    private func sector(_ offset: Int, of result: IOResult, at start: UInt64? = nil) -> Result<LeaderRecord, RequestError> {
        guard case .data(let bytes) = result else { return .failure(Self.error(result, "read the lockspace")) }
        if let marker = ReinitializationMarker(bytes.dropFirst(offset)) { return .failure(marker.error) }
        do {
            let found = try LeaderRecord(bytes.dropFirst(offset))
            try found.verify(.delta, lockspace: record.lockspace)
            return .success(found)
        } catch {
            return .failure(RequestError(LeaseErrorCode.corrupt, error.sentence(file: layout.ids, start: start ?? geometry.deltaOffset(host: hostID))))
        }
    }

    static func error(_ result: IOResult, _ what: String) -> RequestError {
        let why = switch result {
        case .failed(let why), .missing(let why): why
        case .timedOut: "no answer in time"
        case .expired: "too late"
        case .data, .written, .sequence: "unexpected result"
        }
        return RequestError(LeaseErrorCode.io, "could not \(what): \(why)")
    }

    /// sanlock's timestamp: whole seconds of this machine's clock, never 0 (which means free).
    static func seconds(_ now: Instant) -> UInt64 { UInt64(max(1, now.nanoseconds / 1_000_000_000)) }
}
