import LeaseFormat
import Messages

/// Tells an operator when a lockspace may need a repair, from what renewals and ballots see anyway.
///
/// | seen                                                        | told                 | over when                        |
/// |-------------------------------------------------------------|----------------------|----------------------------------|
/// | a sector that cannot be read, twice in turn                 | unreadableSector     | it can be read                   |
/// | a generation below one seen before                          | generationWentBack   | it is above                      |
/// | a name that came back after another one had been there      | twoNames             | the id is free, or of a later generation |
/// | a renewal of 2 x io_timeout and more, or two that failed    | slowRenewals         | three in turn below 1 x io_timeout |
/// | the same lease refused five times in ten minutes            | repeatedRefusals     | it is taken                      |
/// | sectors of a lease, or the index, that cannot be believed   | corruptLease         | it is taken                      |
struct LockspaceAnomalies: Sendable {
    private struct Key: Hashable, Sendable {
        var kind: LockspaceAnomaly.Kind
        var subject: String
    }

    private static let refusals = 5
    private static let window = Duration.seconds(600)

    let lockspace: String
    private var known: [Key: LockspaceAnomaly] = [:]
    private var news: [LockspaceAnomaly] = []
    private var unreadable: [Int: Int] = [:]
    /// The two names last seen on a host id, the present one last.
    private var names: [Int: [String]] = [:]
    private var highest: [Int: UInt64] = [:]
    private var slow = 0
    private var quick = 0
    private var refused: [String: [Instant]] = [:]

    init(lockspace: String) { self.lockspace = lockspace }

    /// What is seen now.
    var current: [LockspaceAnomaly] { known.values.sorted { ($0.kind.rawValue, $0.subject) < ($1.kind.rawValue, $1.subject) } }

    /// What began or ended since this was asked last.
    mutating func takeNews() -> [LockspaceAnomaly] {
        defer { news = [] }
        return news
    }

    // MARK: Sectors

    mutating func cannotRead(_ hostID: Int) {
        unreadable[hostID, default: 0] += 1
        guard unreadable[hostID] == 2 else { return }
        tell(
            .unreadableSector, "host/\(hostID)", "the sector of host id \(hostID) cannot be read as what it should be",
            "see `bulwark lockspace dump`; its host cannot join: drain and `bulwark lockspace reinitialize` writes it anew")
    }

    /// - Parameter before: what was read there last.
    mutating func saw(_ hostID: Int, _ seen: LeaderRecord, before: LeaderRecord?) {
        if unreadable.removeValue(forKey: hostID) != nil { end(.unreadableSector, "host/\(hostID)") }
        guard let before, before.name != seen.name || before.ownerGeneration != seen.ownerGeneration || before.isFree != seen.isFree else { return }
        let top = highest[hostID] ?? before.ownerGeneration
        highest[hostID] = max(top, seen.ownerGeneration)
        if seen.ownerGeneration < top {
            tell(
                .generationWentBack, "host/\(hostID)", "the generation of host id \(hostID) went from \(top) back to \(seen.ownerGeneration) (\(seen.name))",
                "proofs about earlier lives would cover this one: keep that host out, drain, and `bulwark lockspace reinitialize`")
        } else if seen.ownerGeneration > top {
            end(.generationWentBack, "host/\(hostID)")
        }
        let earlier = names[hostID] ?? [before.name]
        if seen.name != earlier.last, !seen.isFree, !before.isFree, earlier.contains(seen.name) {
            tell(
                .twoNames, "host/\(hostID)", "\(before.name) and \(seen.name) take turns on host id \(hostID)",
                "two machines have the same host id: give one of them another (host.id), then see who holds what with `bulwark lease list`")
        } else if seen.isFree || seen.ownerGeneration > top {
            end(.twoNames, "host/\(hostID)")
        }
        if seen.name != earlier.last { names[hostID] = [earlier.last ?? before.name, seen.name] }
    }

    // MARK: Renewals and ballots

    mutating func renewed(latency: Duration, ok: Bool, ioTimeout: Int64) {
        let isSlow = !ok || latency >= .seconds(2 * ioTimeout)
        slow = isSlow ? slow + 1 : 0
        quick = ok && latency < .seconds(ioTimeout) ? quick + 1 : 0
        if slow >= 2 || (ok && isSlow) {
            tell(
                .slowRenewals, "", "renewals fail, or take \(latency.milliseconds) ms: 2 x io_timeout is \(2 * ioTimeout) s, and after 8 x io_timeout everything held here is lost",
                "see to the storage of this domain; where it is always so slow, `bulwark lockspace reinitialize --io-timeout` raises what hosts allow for")
        } else if quick >= 3 {
            end(.slowRenewals, "")
        }
    }

    mutating func refused(_ lease: String, _ error: RequestError, at now: Instant) {
        switch error.code {
        case LeaseErrorCode.held.rawValue, LeaseErrorCode.lostBallot.rawValue:
            let recent = (refused[lease] ?? []).filter { now - $0 < Self.window } + [now]
            refused[lease] = recent.suffix(Self.refusals)
            guard recent.count >= Self.refusals else { return }
            tell(
                .repeatedRefusals, "lease/\(lease)", "lease \(lease) was refused \(recent.count) times within ten minutes: \(error.message)",
                "see who holds it with `bulwark lease show`, and whether that host lives; a host that is off needs a proof (`bulwark host confirm-off`)")
        case LeaseErrorCode.corrupt.rawValue, LeaseErrorCode.indexUpdating.rawValue:
            tell(.corruptLease, "lease/\(lease)", error.message, "`bulwark lease rebuild` repairs the index; a lease whose sectors are damaged is written anew by `bulwark lockspace reinitialize`")
        default: break
        }
    }

    mutating func took(_ lease: String) {
        refused[lease] = nil
        end(.repeatedRefusals, "lease/\(lease)")
        end(.corruptLease, "lease/\(lease)")
    }

    private mutating func tell(_ kind: LockspaceAnomaly.Kind, _ subject: String, _ what: String, _ advice: String) {
        let key = Key(kind: kind, subject: subject)
        let isNew = known[key] == nil
        let anomaly = LockspaceAnomaly(lockspace: lockspace, kind: kind, subject: subject, what: what, advice: advice)
        known[key] = anomaly
        if isNew { news.append(anomaly) }
    }

    private mutating func end(_ kind: LockspaceAnomaly.Kind, _ subject: String) {
        guard var anomaly = known.removeValue(forKey: Key(kind: kind, subject: subject)) else { return }
        anomaly.isOver = true
        news.append(anomaly)
    }
}

extension LeaseEngine {
    /// Tells what memberships noticed since the last time.
    mutating func tellAnomalies() -> Effects {
        memberships.keys.sorted().flatMap { lockspace in
            (memberships[lockspace]?.anomalies.takeNews() ?? []).map { .publish(Event("lockspace.anomaly", subject: lockspace, body: $0)) }
        }
    }
}
