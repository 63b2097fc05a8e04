import LeaseFormat
import Messages

/// What must survive the process about repairs to one lockspace on this host.
public struct MaintenanceRecord: Codable, Hashable, Sendable {
    struct Closure: Codable, Hashable, Sendable {
        var who: String
        var why: String
        /// This host was a member, and becomes one again when it is opened.
        var rejoins: Bool
    }

    struct Finished: Codable, Hashable, Sendable {
        var request: RequestID
        var assessment: LockspaceAssessment
    }

    var lockspace: String
    /// An operator drained it: nothing joins and nothing is acquired.
    var closed: Closure?
    /// It is being written anew, or may be: this process goes on with it when it starts.
    var order: ReinitializationOrder?
    /// The last one, for those who ask again with the same id.
    var finished: Finished?
    /// Scheduled backups written so far; names the next one's file.
    var backups: UInt64 = 0
}

/// Writes a lockspace anew, or back.
struct RepairWork: Sendable {
    var waiters: [RequestID]
    var machine: Reinitialization
    var resumes = false
    /// Nobody asked: it is tried every ``LeaseEngine/resumeInterval``.
    var isRetry = false
    var hasBegun = false
    var lockspace: String { machine.order.repair.lockspace }
}

struct BackupWork: Sendable {
    enum Phase: Sendable { case reading, writing, verifying }
    /// `nil`: the schedule.
    let id: RequestID?
    let lockspace: String
    let path: String
    let file: String
    let time: UInt64
    var reader: LockspaceReader
    var phase = Phase.reading
    var bytes: [UInt8] = []
    var hasBegun = false
}

extension LeaseEngine {
    // MARK: Drain

    mutating func onDrain(_ id: RequestID, _ body: LockspaceDrain) -> Effects {
        guard Names.isStorable(body.lockspace) else { return [.reply(to: id, .refused(RequestError(RequestErrorCode.invalid, "a lockspace has a name of at most 48 bytes")))] }
        guard !body.onlyLook else { return [.reply(to: id, .success(drainView(body.lockspace)))] }
        var record = maintenance[body.lockspace] ?? MaintenanceRecord(lockspace: body.lockspace)
        var effects = Effects()
        if body.open {
            if let order = record.order {
                return [.reply(to: id, .refused(ReinitializationMarker(lockspace: body.lockspace, request: order.request, host: host.name, backup: order.before).error))]
            }
            guard let closed = record.closed else { return [.reply(to: id, .success(drainView(body.lockspace)))] }
            record.closed = nil
            if closed.rejoins, let membership = memberships[body.lockspace] { memberships[body.lockspace]?.want(at: membership.record.path) }
            effects.append(.decide(Decision("lockspace/\(body.lockspace)", "opened", why: body.why, evidence: ["who": body.who])))
        } else if record.closed == nil {
            record.closed = MaintenanceRecord.Closure(who: body.who, why: body.why, rejoins: memberships[body.lockspace]?.record.wanted ?? false)
            effects.append(.decide(Decision("lockspace/\(body.lockspace)", "drained", why: body.why, evidence: ["who": body.who])))
        } else {
            return [.reply(to: id, .success(drainView(body.lockspace)))]
        }
        drainWaiters[body.lockspace, default: []].append(id)
        return effects + [keep(record)]
    }

    func drainView(_ lockspace: String) -> LockspaceDrainView {
        let membership = memberships[lockspace]
        return LockspaceDrainView(
            lockspace: lockspace, host: host.name, hostID: host.hostID, bootID: host.bootID, path: membership?.record.path, isClosed: maintenance[lockspace]?.closed != nil,
            state: membership?.state ?? .left, holders: sortedGrants.filter { $0.leases.contains { $0.name.lockspace == lockspace } }.map(\.holder.description))
    }

    /// Why nothing may join, or take leases, here.
    func closure(_ lockspace: String) -> RequestError? {
        maintenance[lockspace]?.closed.map {
            RequestError(LockspaceErrorCode.closed, "lockspace \(lockspace) was drained on \(host.name) by \($0.who): \($0.why)", details: ["open": "bulwark lockspace drain --open \(lockspace)"])
        }
    }

    /// In memory at once: the next request must see it.
    private mutating func keep(_ record: MaintenanceRecord) -> Effect<LeaseAction> {
        maintenance[record.lockspace] = record
        maintenanceNotes[record.lockspace, default: 0] += 1
        return .perform(.note(.maintenance(record)))
    }

    mutating func onMaintenanceNoted(_ record: MaintenanceRecord) -> Effects {
        let lockspace = record.lockspace
        if let outstanding = maintenanceNotes[lockspace], outstanding > 0 {
            maintenanceNotes[lockspace] = outstanding - 1
        } else {
            maintenance[lockspace] = record
        }
        var effects: Effects = (drainWaiters.removeValue(forKey: lockspace) ?? []).map { .reply(to: $0, .success(drainView(lockspace))) }
        for id in jobs.keys.sorted() {
            guard case .repair(var work)? = jobs[id]?.work, work.lockspace == lockspace, let step = work.machine.onNoted(at: now) else { continue }
            effects += carryOut(step, id, work)
        }
        return effects
    }

    /// Leaves what is drained once nobody holds anything there, and writes backups when they are due.
    mutating func tickMaintenance() -> Effects {
        var effects = Effects()
        for lockspace in maintenance.keys.sorted() where maintenance[lockspace]?.closed != nil {
            guard let membership = memberships[lockspace], membership.record.wanted, membership.state != .leaving,
                !grants.values.contains(where: { $0.leases.contains { $0.name.lockspace == lockspace } })
            else { continue }
            effects += withMembership(lockspace) { membership, now in membership.leave(at: now) }
        }
        retryRepairs()
        return effects + startDueBackups()
    }

    static let resumeInterval = Duration.seconds(30)

    /// What could not go on, because its storage was not there or something was still under way, does once that is over.
    private mutating func retryRepairs() {
        guard maintenance.values.contains(where: { $0.order != nil }) else { return nextResume = nil }
        guard let due = nextResume else { return nextResume = now + Self.resumeInterval }
        guard due <= now else { return }
        nextResume = now + Self.resumeInterval
        resumeRepairs(isRetry: true)
    }

    // MARK: Reinitialise, restore

    mutating func onRepair(_ id: RequestID, _ body: LockspaceRepair, _ proofs: [AcceptedProof], restores: Bool, time: UInt64) -> Effects {
        func refuse(_ error: RequestError) -> Effects { [.reply(to: id, .refused(error))] }
        guard Names.isStorable(body.lockspace), body.path.hasPrefix("/"), body.backup.map({ $0.hasPrefix("/") }) ?? true, id.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "-" }) else {
            return refuse(RequestError(RequestErrorCode.invalid, "a lockspace has a name of at most 48 bytes; paths are absolute; the request's id has letters, digits and dashes"))
        }
        let record = maintenance[body.lockspace] ?? MaintenanceRecord(lockspace: body.lockspace)
        if let finished = record.finished, finished.request == id { return [.reply(to: id, .success(finished.assessment))] }
        guard !body.dryRun || !body.resume else { return refuse(RequestError(RequestErrorCode.invalid, "what is resumed writes: it cannot only be assessed")) }
        for job in jobs.keys.sorted() {
            guard case .repair(var work)? = jobs[job]?.work, work.lockspace == body.lockspace else { continue }
            let order = work.machine.order
            guard order.request == id && (order.repair.dryRun || !body.dryRun) || body.resume && !order.repair.dryRun else {
                return refuse(RequestError(RequestErrorCode.conflict, "\(body.lockspace) is being assessed or written anew already (request \(work.machine.order.request))"))
            }
            work.waiters.append(id)
            jobs[job]?.work = .repair(work)
            return []
        }
        if !body.dryRun, let obstacle = obstacle(toWriting: body.lockspace) { return refuse(obstacle) }
        if let order = record.order, body.resume || order.request == id {
            guard !body.dryRun else { return refuse(ReinitializationMarker(lockspace: body.lockspace, request: order.request, host: host.name, backup: order.before).error) }
            _ = start(.repair(RepairWork(waiters: [id], machine: Reinitialization(order, host: host.name, proofs: []), resumes: true)))
            return []
        }
        if body.resume { return refuse(RequestError(RequestErrorCode.notFound, "\(host.name) has begun nothing on \(body.lockspace) that is not finished")) }
        guard let before = restores ? backupFile(body.lockspace, "before-\(id)") : body.backup ?? backupFile(body.lockspace, "before-\(id)") else { return refuse(noPlace) }
        guard !restores || body.backup != nil else { return refuse(RequestError(RequestErrorCode.invalid, "lockspace.restore names its backup")) }
        let order = ReinitializationOrder(request: id, repair: body, source: restores ? body.backup ?? before : before, before: before, time: time)
        _ = start(.repair(RepairWork(waiters: [id], machine: Reinitialization(order, host: host.name, proofs: proofs))))
        return []
    }

    private var noPlace: RequestError { RequestError(RequestErrorCode.invalid, "name a file for the backup, or configure lease.backup.directory") }

    func backupFile(_ lockspace: String, _ which: String) -> String? {
        guard let directory = host.backups?.directory, !directory.isEmpty else { return nil }
        return "\(directory)/\(lockspace.replacing("/", with: "_"))-\(host.name)-\(which).backup"
    }

    private func obstacle(toWriting lockspace: String) -> RequestError? {
        guard maintenance[lockspace]?.closed != nil else {
            return RequestError(RequestErrorCode.conflict, "\(lockspace) is not drained on \(host.name); bulwark lockspace drain comes first")
        }
        let view = drainView(lockspace)
        guard view.hasLeft else {
            return RequestError(RequestErrorCode.conflict, "\(host.name) has not left \(lockspace) yet: \(view.state.rawValue), \(view.holders.isEmpty ? "no leases" : view.holders.joined(separator: ", "))")
        }
        guard !unlanded.values.contains(where: { $0.lockspace == lockspace }), !tokens.values.contains(where: { $0.mayWrite(lockspace) }) else {
            return RequestError(LeaseErrorCode.io, "an earlier write to \(lockspace) has not ended yet; ask again when its storage answers")
        }
        return nil
    }

    /// What had begun goes on, after a start and later.
    mutating func resumeRepairs(isRetry: Bool = false) {
        for lockspace in maintenance.keys.sorted() {
            guard let order = maintenance[lockspace]?.order, obstacle(toWriting: lockspace) == nil,
                !jobs.values.contains(where: { if case .repair(let work) = $0.work { work.lockspace == lockspace } else { false } })
            else { continue }
            let id = start(.repair(RepairWork(waiters: [], machine: Reinitialization(order, host: host.name, proofs: []), resumes: true, isRetry: isRetry)))
            jobs[id]?.wakeAt = now
        }
    }

    mutating func stepRepair(_ id: UInt64, _ work: RepairWork) -> Effects {
        var work = work
        guard work.hasBegun else {
            work.hasBegun = true
            let step = work.resumes ? work.machine.resume() : work.machine.begin()
            return carryOut(step, id, work)
        }
        guard let step = work.machine.onWake(at: now) else { return [] }
        return carryOut(step, id, work)
    }

    mutating func onRepairResult(_ id: UInt64, _ work: RepairWork, _ result: IOResult) -> Effects {
        var work = work
        let step: Reinitialization.Step
        switch result {
        case .data(let bytes): step = work.machine.onRead(bytes, at: now)
        case .missing: step = work.machine.onRead(nil, at: now)
        case .written: step = work.machine.onWritten(at: now)
        default:
            let error = Membership.error(result, "repair lockspace \(work.lockspace)")
            step = .refused(work.machine.hasBegunToWrite ? work.machine.unfinished(error.message) : error)
        }
        return carryOut(step, id, work)
    }

    private mutating func carryOut(_ step: Reinitialization.Step, _ id: UInt64, _ work: RepairWork) -> Effects {
        jobs[id]?.work = .repair(work)
        let lockspace = work.lockspace
        var record = maintenance[lockspace] ?? MaintenanceRecord(lockspace: lockspace)
        switch step {
        case .read(let path, let offset, let length):
            return io(id, .read(path: path, offset: offset, length: length), lockspace: lockspace, timeout: .seconds(30))
        case .write(let path, let offset, let bytes, let create):
            let notAfter = now + .seconds(work.machine.ioTimeout)
            return io(
                id, .write(path: path, offset: offset, bytes: bytes, notAfter: notAfter, create: create), lockspace: lockspace, lease: .everything(of: lockspace),
                timeout: .seconds(30))
        case .pause(let until):
            jobs[id]?.wakeAt = until
            return []
        case .note(let order):
            // Since it was asked for it may have been opened again.
            if let obstacle = obstacle(toWriting: lockspace) { return carryOut(.refused(obstacle), id, work) }
            record.order = order
            return [keep(record)]
        case .forget:
            record.order = nil
            if let report = work.machine.finishedReport { record.finished = MaintenanceRecord.Finished(request: work.machine.order.request, assessment: report) }
            return [keep(record)]
        case .done(let report):
            jobs[id] = nil
            let order = work.machine.order
            let replies: Effects = work.waiters.map { .reply(to: $0, .success(report)) }
            guard report.isDone else { return replies }
            return [
                .decide(Decision(
                    "lockspace/\(lockspace)", order.isRestore ? "restored" : "reinitialised", why: order.repair.why,
                    evidence: [
                        "who": order.repair.who, "forced": String(order.repair.force), "backup": order.before, "source": order.source, "request": order.request, "then": report.then,
                        "overruled": report.obstacles.map(\.why).joined(separator: "; "),
                    ])),
            ] + replies
        case .refused(let error):
            jobs[id] = nil
            if work.isRetry, work.waiters.isEmpty, record.order != nil { return [] }
            return [.decide(Decision("lockspace/\(lockspace)", "not written anew", why: error.message, evidence: ["who": work.machine.order.repair.who, "request": work.machine.order.request]))]
                + work.waiters.map { .reply(to: $0, .refused(error)) }
        }
    }

    // MARK: Backups

    mutating func onBackup(_ id: RequestID, _ body: LockspaceBackup, time: UInt64) -> Effects {
        func refuse(_ error: RequestError) -> Effects { [.reply(to: id, .refused(error))] }
        guard let path = body.path ?? memberships[body.lockspace]?.record.path else {
            return refuse(RequestError(LeaseErrorCode.notJoined, "\(host.name) does not know where lockspace \(body.lockspace) is; name its directory"))
        }
        guard let file = body.file ?? backupFile(body.lockspace, "asked") else { return refuse(noPlace) }
        guard file.hasPrefix("/"), path.hasPrefix("/") else { return refuse(RequestError(RequestErrorCode.invalid, "paths are absolute")) }
        _ = start(.backup(BackupWork(id: id, lockspace: body.lockspace, path: path, file: file, time: time, reader: LockspaceReader(lockspace: body.lockspace))))
        return []
    }

    /// One host writes them: the one with the lowest host id that lives, as this one sees it.
    private mutating func startDueBackups() -> Effects {
        guard let policy = host.backups, let every = policy.every, !policy.directory.isEmpty else { return [] }
        for lockspace in memberships.keys.sorted() {
            guard let membership = memberships[lockspace], membership.isJoined else {
                nextBackups[lockspace] = nil
                continue
            }
            guard let due = nextBackups[lockspace] else {
                nextBackups[lockspace] = now + min(every, .seconds(60))
                continue
            }
            guard due <= now else { continue }
            nextBackups[lockspace] = now + every
            // One that takes longer than the time between two is not overtaken: both would write the same file.
            let isUnderWay = jobs.values.contains { if case .backup(let work) = $0.work { work.id == nil && work.lockspace == lockspace } else { false } }
            guard !isUnderWay else { continue }
            guard Self.isLowest(host.hostID, among: membership.hosts, firing: host.firing, at: now) else { continue }
            let number = (maintenance[lockspace]?.backups ?? 0) % UInt64(max(policy.keep, 1))
            guard let file = backupFile(lockspace, String(number)) else { continue }
            _ = start(.backup(BackupWork(id: nil, lockspace: lockspace, path: membership.record.path, file: file, time: 0, reader: LockspaceReader(lockspace: lockspace))))
        }
        return []
    }

    static func isLowest(_ hostID: Int, among hosts: [Int: HostObservation], firing: Duration, at now: Instant) -> Bool {
        // Whoever was seen only once may live.
        !hosts.contains { $0.key < hostID && [.live, .unknown].contains($0.value.state(firing: firing, at: now)) }
    }

    mutating func stepBackup(_ id: UInt64, _ work: BackupWork) -> Effects {
        guard !work.hasBegun else { return [] }
        var work = work
        work.hasBegun = true
        return carryOut(work.reader.begin(), id, work)
    }

    mutating func onBackupResult(_ id: UInt64, _ work: BackupWork, _ result: IOResult) -> Effects {
        var work = work
        switch (work.phase, result) {
        case (.reading, .data(let bytes)): return carryOut(work.reader.onRead(bytes), id, work)
        case (.reading, .missing): return carryOut(work.reader.onRead(nil), id, work)
        case (.writing, .written):
            work.phase = .verifying
            jobs[id]?.work = .backup(work)
            return io(id, .read(path: work.file, offset: 0, length: work.bytes.count), lockspace: work.lockspace, timeout: .seconds(30))
        case (.verifying, .data(let bytes)):
            guard bytes == work.bytes else { return end(id, work, .refused(RequestError(LockspaceErrorCode.badBackup, "\(work.file) did not read back as it was written"))) }
            let contents = LockspaceContents(work.reader.image, geometry: work.reader.geometry ?? .standard)
            var unreadable = contents.leases.compactMap { lease in lease.problem.map { "lease \(lease.resource): \($0)" } } + [contents.indexProblem].compactMap { $0 }
            for (hostID, slot) in contents.slots.sorted(by: { $0.key < $1.key }) { if case .unreadable(let why) = slot { unreadable.append("host id \(hostID): \(why)") } }
            let view = LockspaceBackupView(lockspace: work.lockspace, file: work.file, bytes: bytes.count, leases: contents.leases.count, unreadable: unreadable)
            var effects = end(id, work, .success(view))
            if work.id == nil {
                var record = maintenance[work.lockspace] ?? MaintenanceRecord(lockspace: work.lockspace)
                record.backups += 1
                effects.append(keep(record))
            }
            return effects
        default: return end(id, work, .refused(Membership.error(result, "back up lockspace \(work.lockspace) to \(work.file)")))
        }
    }

    private mutating func carryOut(_ step: LockspaceReader.Step, _ id: UInt64, _ work: BackupWork) -> Effects {
        var work = work
        switch step {
        case .read(let volume, let offset, let length):
            jobs[id]?.work = .backup(work)
            return io(id, .read(path: volume.path(in: DomainLayout(root: work.path)), offset: offset, length: length), lockspace: work.lockspace, timeout: .seconds(30))
        case .refused(let error): return end(id, work, .refused(error))
        case .done:
            var image = work.reader.image
            image.host = host.name
            image.time = work.time
            work.bytes = image.backup
            work.phase = .writing
            jobs[id]?.work = .backup(work)
            return io(id, .write(path: work.file, offset: 0, bytes: work.bytes, notAfter: now + .seconds(30), create: true), lockspace: work.lockspace, timeout: .seconds(30))
        }
    }

    private mutating func end(_ id: UInt64, _ work: BackupWork, _ reply: Reply) -> Effects {
        jobs[id] = nil
        if let asked = work.id { return [.reply(to: asked, reply)] }
        guard case .refused(let error) = reply else { return [] }
        return [.decide(Decision("lockspace/\(work.lockspace)", "not backed up", why: error.message))]
    }
}

extension LeaseName {
    /// Stands for a lockspace's host ids, and for all of it, among the leases that are being written.
    static func everything(of lockspace: String) -> LeaseName { LeaseName(lockspace: lockspace, resource: "*") }
}

extension LeaseEngine.TokenOwner {
    /// Whether it may be a write to this lockspace that is under way, or that timed out and has not landed.
    func mayWrite(_ lockspace: String) -> Bool {
        switch self {
        case .membership(let name, _): name == lockspace
        case .job(_, _, let lease, _): lease?.lockspace == lockspace
        case .request: false
        }
    }
}
