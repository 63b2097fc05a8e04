import LeaseFormat
import Messages

/// Frees the host id of a host that is gone, and with it every lease it held here: an operator's repair for foreign daemons that no proof covers (S1).
///
/// | phase     | found                                                        | next                                        |
/// |-----------|--------------------------------------------------------------|---------------------------------------------|
/// | surveying | another life than the named one, or one that may live        | refused                                     |
/// |           | `dryRun`                                                     | what it would affect                        |
/// | comparing | the sector is still what this host saw all the time          | freeing; else refused                       |
/// | freeing   | written                                                      | settling 1 x io_timeout                     |
/// | settling  | the sector is still what was written                         | done; else refused: its owner came back     |
struct VoidWork: Sendable {
    enum Phase: Sendable { case surveying, comparing(LeaderRecord), freeing(LeaderRecord), settling(LeaderRecord), verifying(LeaderRecord) }
    let id: RequestID
    let body: LeaseVoid
    var reader: LockspaceReader
    var phase = Phase.surveying
    var view: LeaseVoidView?
    var hasBegun = false
}

extension LeaseEngine {
    mutating func onVoid(_ id: RequestID, _ body: LeaseVoid) -> Effects {
        do throws(RequestError) {
            _ = try voidable(body)
        } catch {
            return [.reply(to: id, .refused(error))]
        }
        _ = start(.void(VoidWork(id: id, body: body, reader: LockspaceReader(lockspace: body.lockspace))))
        return []
    }

    /// The life that is meant, as this host has watched it; only one that was silent for its own dead time may be voided.
    private func voidable(_ body: LeaseVoid) throws(RequestError) -> (membership: Membership, seen: HostObservation) {
        guard let membership = memberships[body.lockspace], membership.isJoined else {
            throw RequestError(LeaseErrorCode.notJoined, "\(host.name) has not joined lockspace \(body.lockspace): only a member can see who lives there")
        }
        guard body.hostID != host.hostID else { throw RequestError(RequestErrorCode.invalid, "host id \(body.hostID) is \(host.name) itself") }
        guard let seen = membership.hosts[body.hostID] else { throw RequestError(RequestErrorCode.notFound, "nobody has used host id \(body.hostID) of \(body.lockspace)") }
        guard !seen.record.isFree else { throw RequestError(RequestErrorCode.conflict, "host id \(body.hostID) of \(body.lockspace) is free already; its leases are void") }
        guard seen.record.ownerGeneration == body.generation else {
            throw RequestError(
                LeaseErrorCode.generationMismatch, "host id \(body.hostID) of \(body.lockspace) is at generation \(seen.record.ownerGeneration) (\(seen.record.name)), not \(body.generation)")
        }
        guard seen.state(firing: host.firing, at: now) == .dead else {
            let quiet = (now - seen.unchangedSince).milliseconds / 1000
            let needed = 8 * Int64(max(seen.record.ioTimeout, 1)) + host.firing.milliseconds / 1000
            throw RequestError(
                LockspaceErrorCode.inUse,
                "\(seen.record.name) (host id \(body.hostID)) may live: \(host.name) has seen its sector unchanged for \(quiet) s, and it counts as dead after \(needed) s",
                details: ["unchangedFor": "\(quiet) s", "needed": "\(needed) s"])
        }
        return (membership, seen)
    }

    mutating func stepVoid(_ id: UInt64, _ work: VoidWork) -> Effects {
        var work = work
        guard work.hasBegun else {
            work.hasBegun = true
            return carryOut(work.reader.begin(), id, work)
        }
        guard case .settling(let freed) = work.phase, let membership = memberships[work.body.lockspace] else { return [] }
        work.phase = .verifying(freed)
        jobs[id]?.work = .void(work)
        return readSector(id, work, membership)
    }

    mutating func onVoidResult(_ id: UInt64, _ work: VoidWork, _ result: IOResult) -> Effects {
        var work = work
        let body = work.body
        switch (work.phase, result) {
        case (.surveying, .data(let bytes)): return carryOut(work.reader.onRead(bytes), id, work)
        case (.surveying, .missing): return carryOut(work.reader.onRead(nil), id, work)
        case (.comparing(let known), .data(let bytes)):
            do throws(RequestError) {
                let (membership, seen) = try voidable(body)
                guard let found = try? LeaderRecord(bytes[...]), found == known, found == seen.record, let deadline = membership.deadline else {
                    throw RequestError(LockspaceErrorCode.inUse, "the sector of host id \(body.hostID) has changed: \(known.name) may live; nothing was written")
                }
                var freed = found
                freed.timestamp = 0
                work.phase = .freeing(freed)
                jobs[id]?.work = .void(work)
                let notAfter = min(deadline, now + .seconds(membership.ioTimeout))
                return io(
                    id, .write(path: DomainLayout(root: membership.record.path).ids, offset: membership.geometry.deltaOffset(host: body.hostID), bytes: freed.sector, notAfter: notAfter, create: false),
                    lockspace: body.lockspace, lease: .everything(of: body.lockspace))
            } catch {
                return end(id, work, .refused(error))
            }
        case (.freeing(let freed), .written):
            work.phase = .settling(freed)
            jobs[id]?.work = .void(work)
            jobs[id]?.wakeAt = now + .seconds(memberships[body.lockspace]?.ioTimeout ?? 10)
            return []
        case (.verifying(let freed), .data(let bytes)):
            guard let found = try? LeaderRecord(bytes[...]), found == freed, var view = work.view else {
                return end(id, work, .refused(RequestError(LockspaceErrorCode.inUse, "host id \(body.hostID) was written again after it was freed: \(freed.name) lives; see who runs what there")))
            }
            view.state = .free
            view.isDone = true
            return [
                .decide(Decision(
                    "lockspace/\(body.lockspace)", "host id \(body.hostID) voided", why: body.why,
                    evidence: [
                        "who": body.who, "host": view.name, "generation": String(view.generation), "unchangedFor": "\(view.unchangedFor.milliseconds / 1000) s",
                        "leases": view.leases.joined(separator: ", "),
                    ])),
            ] + end(id, work, .success(view))
        default: return end(id, work, .refused(Membership.error(result, "void host id \(body.hostID) of \(body.lockspace)")))
        }
    }

    private mutating func carryOut(_ step: LockspaceReader.Step, _ id: UInt64, _ work: VoidWork) -> Effects {
        var work = work
        let body = work.body
        jobs[id]?.work = .void(work)
        do throws(RequestError) {
            let (membership, seen) = try voidable(body)
            switch step {
            case .read(let volume, let offset, let length):
                return io(id, .read(path: volume.path(in: DomainLayout(root: membership.record.path)), offset: offset, length: length), lockspace: body.lockspace, timeout: .seconds(30))
            case .refused(let error): throw error
            case .done:
                let contents = LockspaceContents(work.reader.image, geometry: work.reader.geometry ?? .standard)
                let leases = Self.leases(of: body.hostID, body.generation, in: contents)
                let view = LeaseVoidView(
                    lockspace: body.lockspace, hostID: body.hostID, name: seen.record.name, generation: body.generation, state: .dead, unchangedFor: now - seen.unchangedSince, leases: leases,
                    isDone: false)
                guard !body.dryRun else { return end(id, work, .success(view)) }
                guard body.spm || !leases.contains(DomainLayout.sdm) else {
                    throw RequestError(RequestErrorCode.conflict, "\(seen.record.name) holds SDM: another host would become SPM; say --spm if that is meant", details: ["leases": leases.joined(separator: ", ")])
                }
                work.view = view
                work.phase = .comparing(seen.record)
                jobs[id]?.work = .void(work)
                return readSector(id, work, membership)
            }
        } catch {
            return end(id, work, .refused(error))
        }
    }

    /// What a life holds, exclusively or shared.
    static func leases(of hostID: Int, _ generation: UInt64, in contents: LockspaceContents) -> [String] {
        contents.leases.filter { lease in
            let owns = lease.leader.map { !$0.isFree && $0.ownerID == UInt64(hostID) && $0.ownerGeneration == generation } ?? false
            return owns || lease.shared[hostID] == generation
        }.map(\.resource)
    }

    private mutating func readSector(_ id: UInt64, _ work: VoidWork, _ membership: Membership) -> Effects {
        io(
            id, .read(path: DomainLayout(root: membership.record.path).ids, offset: membership.geometry.deltaOffset(host: work.body.hostID), length: membership.geometry.sectorSize),
            lockspace: work.body.lockspace)
    }

    private mutating func end(_ id: UInt64, _ work: VoidWork, _ reply: Reply) -> Effects {
        jobs[id] = nil
        return [.reply(to: work.id, reply)]
    }
}
