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
        /// sanlock's engine: the daemon was asked, and has joined.
        case asking
        case watching(Renewal, since: Instant)
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
        case renewed(RenewalSample)
        /// A host's bit for us is set: it may have asked for leases that we hold.
        case asked(by: Int)
        case event(from: Int, HostEvent)
        case left(RequestError?)
        /// It cannot leave now, and is still a member.
        case stayed(RequestError)
        case daemon(SanlockCall)
    }

    var record: MembershipRecord
    let host: HostIdentity
    var phase = Phase.idle
    var geometry = Geometry.standard
    var ioTimeout: Int64 = 10
    /// What the own sector must say.
    var expected: LeaderRecord?
    /// Written, outcome unknown: the sector may say this as well.
    var doubtful: [(record: LeaderRecord, submitted: Instant)] = []
    /// Submission of the last verified renewal.
    var verified: Instant?
    /// Submission of the last read of the own sector that a sanlock daemon renews.
    var watched: Instant?
    var hosts: [Int: HostObservation] = [:]
    /// The highest host id that was ever used, by the last read of the whole lockspace, and when that was submitted.
    var whole: (highest: Int, at: Instant)?
    /// Hosts whose sectors were used and could not be read.
    var unread: Set<Int> = []
    /// The used sectors, as they were read last.
    var lastArea: [UInt8] = []
    /// Of all sectors, used or not; seconds.
    var shortestTimeout: Int64?
    var reason = ""
    /// Not before this time is a failed join tried again.
    var retryAt: Instant?
    /// Just started: this boot's membership may still be ours (S2). A membership that was lost, left or taken up is not adopted again.
    var mayAdopt: Bool
    var wantsToLeave = false
    /// The first try of the renewal that is due, since the last that succeeded.
    var renewalBegan: Instant?
    /// The last renewals, oldest first.
    var renewals: [RenewalSample] = []
    /// When a renewal last failed, or was not answered promptly.
    var troubled: Instant?
    /// Whom our sector asks to look, and until when.
    var calls: [Int: Instant] = [:]
    /// The event in our sector, while it lasts.
    var event: HostEvent?
    /// Hosts whose bit for us was set when they were last read, with their event.
    var heard: [Int: HostEvent?] = [:]
    var scans = 0
    var anomalies: LockspaceAnomalies
    /// Rises with each I/O: results of abandoned ones are late news.
    var attempt: UInt64 = 0

    init(record: MembershipRecord, host: HostIdentity) {
        self.record = record
        self.host = host
        anomalies = LockspaceAnomalies(lockspace: record.lockspace)
        mayAdopt = record.wanted && record.generation > 0 && record.intended == nil
            && record.bootID == host.bootID && record.hardwareID == host.hardwareID && (record.isOfDaemon ?? false) == (host.sanlock != nil)
        if record.bootID != host.bootID { self.record.generationBefore = nil }
    }

    var layout: DomainLayout { DomainLayout(root: record.path) }
    var hostID: Int { host.hostID }
    var interval: Duration { .seconds(2 * ioTimeout) }
    var lifetime: Duration { .seconds(8 * ioTimeout) }

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
        case .watching(.idle(let next), _): next
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
                renewalBegan = renewalBegan ?? now
                return [read(offset: 0, length: scanLength())]
            }
            return []
        case .watching(let renewal, let since):
            return tickWatch(renewal, since: since, at: now)
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
        case .joined(.idle) where followsDaemon:
            return leaveDaemon()
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
            if followsDaemon { return leaveDaemon() }
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
                settle(new, submitted: submitted, at: now)
            } else {
                giveUp(Self.error(result, "write the host id's sector"), at: now)
            }
        case .verifying(let new, let submitted): onVerify(result, written: new, submitted: submitted, at: now)
        case .watching(.reading(let submitted), let since): onWatched(result, submitted: submitted, since: since, at: now)
        case .joined(.reading(let submitted)) where followsDaemon: onLooked(result, submitted: submitted, at: now)
        case .joined(.reading(let submitted)): onRenewalRead(result, submitted: submitted, at: now)
        case .joined(.writing(let new, let submitted)): onRenewalWritten(result, written: new, submitted: submitted, at: now)
        case .leaving:
            end(leaving: result)
        default: []
        }
    }

    // MARK: I/O

    mutating func readOwn() -> Step { read(offset: geometry.deltaOffset(host: hostID), length: geometry.sectorSize) }

    mutating func read(offset: UInt64, length: Int) -> Step {
        attempt += 1
        return .io(.read(path: layout.ids, offset: offset, length: length))
    }

    mutating func write(_ new: LeaderRecord, calling bitmap: HostBitmap = HostBitmap(), notAfter: Instant) -> Step {
        attempt += 1
        return .io(.write(path: layout.ids, offset: geometry.deltaOffset(host: hostID), bytes: new.sector(bitmap: bitmap), notAfter: notAfter, create: false))
    }

    /// The delta record at `offset` of what was read, which in the file begins at `start`: this host's own, if not told.
    func sector(_ offset: Int, of result: IOResult, at start: UInt64? = nil) -> Result<LeaderRecord, RequestError> {
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
        if case .sequence(let sequence) = result, case .failed(let error)? = sequence.end { return error }
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
