import LeaseFormat
import Messages

/// Reads the leases of one holder again, one after the other.
struct VerifyWork: Sendable {
    let connection: UInt64
    let holder: Holder
    let number: String
    /// Of its leases: those before were found to be its own.
    var index = 0
    var offset: UInt64?
}

/// Whether a holder's leases are its own, as the disk says after the question. A renewal says less: that this host is a member, whatever became of the leases.
extension LeaseEngine {
    mutating func onVerify(_ connection: UInt64, _ holder: Holder, _ number: String) -> Effects {
        let work = VerifyWork(connection: connection, holder: holder, number: number)
        let id = start(.verify(work))
        return stepVerify(id, work)
    }

    mutating func stepVerify(_ id: UInt64, _ work: VerifyWork) -> Effects {
        guard let grant = grants[work.holder], grant.state == .granted, !isConverting(work.holder), let deadline = deadline(of: grant), now < deadline else {
            return unverified(id, work, RequestError(LeaseErrorCode.lost, "\(work.holder) holds nothing now that could be read"))
        }
        guard work.index < grant.leases.count, let membership = memberships[grant.leases[work.index].name.lockspace] else {
            jobs[id] = nil
            return [granted(grant, work.connection, deadline, as: "verified", also: [("number", work.number)])]
        }
        let lease = grant.leases[work.index]
        let place = places[lease.name].map { LeaseIndex.leaseOffset($0, geometry: membership.geometry) }
        guard let offset = work.offset ?? fixedOffset(lease.name, membership) ?? place else { return readIndex(id, membership) }
        var work = work
        work.offset = offset
        jobs[id]?.work = .verify(work)
        let unit = membership.geometry.sectorSize
        // Who shares is named in its own block, who owns in the leader.
        let length = lease.mode == .shared ? membership.geometry.blockOffset(host: host.hostID) + unit : unit
        return io(id, .read(path: path(of: lease.name, in: membership), offset: offset, length: length), lockspace: lease.name.lockspace)
    }

    mutating func onVerifyResult(_ id: UInt64, _ work: VerifyWork, _ result: IOResult) -> Effects {
        guard let grant = grants[work.holder], work.index < grant.leases.count, let membership = memberships[grant.leases[work.index].name.lockspace] else {
            return stepVerify(id, work)
        }
        let lease = grant.leases[work.index]
        var work = work
        guard work.offset != nil else {
            switch index(in: result, of: lease.name.lockspace) {
            case .failure(let error): return unverified(id, work, error)
            case .success(let index):
                guard let slot = index.lookup(lease.name.resource) else { return unverified(id, work, notFound(lease.name)) }
                work.offset = index.leaseOffset(slot)
                return stepVerify(id, work)
            }
        }
        guard case .data(let bytes) = result else { return unverified(id, work, Membership.error(result, "read lease \(lease.name.resource) again")) }
        switch owner(of: lease, in: bytes, membership.geometry) {
        case .holder:
            work.index += 1
            work.offset = nil
            jobs[id]?.work = .verify(work)
            return stepVerify(id, work)
        case .unknown(let why):
            // Where it was found before it is not any more, or not readable: the index is asked next time.
            places[lease.name] = nil
            return unverified(id, work, RequestError(LeaseErrorCode.corrupt, "lease \(lease.name.resource), read again, does not say whose it is: \(why)"))
        case .other(let why):
            jobs[id] = nil
            let message = "lease \(lease.name.resource), read again, is not its own any more: \(why)"
            return [.publish(event("lease.lost", grant, lease, reason: message)), .perform(.tell(connection: work.connection, GuardMessage("lost", [("message", message)])))]
        }
    }

    private enum Owner {
        case holder
        case unknown(String)
        case other(String)
    }

    private func owner(of lease: GuardLease, in bytes: [UInt8], _ geometry: Geometry) -> Owner {
        guard let leader = try? LeaderRecord(bytes[...]), leader.kind == .paxos, leader.lockspace == lease.name.lockspace, leader.name == lease.name.resource else {
            return .unknown("its leader record is not readable")
        }
        let found = leader.isFree ? "free, version \(leader.lver)" : "of host id \(leader.ownerID), generation \(leader.ownerGeneration), version \(leader.lver)"
        if lease.mode == .shared {
            let start = geometry.blockOffset(host: host.hostID)
            guard start + geometry.sectorSize <= bytes.count, let block = try? BallotBlock(bytes[start..<(start + geometry.sectorSize)]) else { return .unknown("its own ballot block is not readable") }
            return block.sharedGeneration == lease.generation ? .holder : .other("its own ballot block does not share it; the leader says \(found)")
        }
        if leader.ownerID == UInt64(host.hostID), leader.ownerGeneration == lease.generation, leader.lver == lease.lver, !leader.isFree { return .holder }
        // A late write of another host has put an older leader over ours: that nobody took it is not seen here.
        return leader.lver < lease.lver ? .unknown("its leader went back, \(found)") : .other(found)
    }

    private mutating func unverified(_ id: UInt64, _ work: VerifyWork, _ error: RequestError) -> Effects {
        jobs[id] = nil
        return [.perform(.tell(connection: work.connection, GuardMessage("unverified", [("number", work.number), ("code", error.code), ("message", error.message)])))]
    }
}
