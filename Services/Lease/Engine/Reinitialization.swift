import LeaseFormat
import Messages

/// What must survive the process while a lockspace is written anew.
public struct ReinitializationOrder: Codable, Hashable, Sendable {
    var request: RequestID
    var repair: LockspaceRepair
    /// What shall be there again: a backup; the same as ``before`` unless one is restored.
    var source: String
    /// What was there when it began, as a backup.
    var before: String
    /// Wall-clock seconds.
    var time: UInt64

    var isRestore: Bool { source != before }
}

/// Writes a lockspace anew, or back from a backup, after a crash at any point again.
///
/// | phase      | what                                                              | next                                                |
/// |------------|-------------------------------------------------------------------|-----------------------------------------------------|
/// | source     | restore: the backup is read and verified                          | surveying                                           |
/// | surveying  | everything is read                                                | something in use: waiting; else assessed            |
/// | waiting    | 2 x the largest io_timeout                                        | looking again                                       |
/// | looking    | the host ids once more                                            | assessed: obstacles → refused; `dryRun` → reported; else saving |
/// | saving     | the backup is written and read again                              | noting                                              |
/// | noting     | the order is durable                                              | claiming                                            |
/// | claiming   | a marker over the first host id's sector, then over all           | settling 2 x io_timeout                             |
/// | settling   | all markers are still there                                       | writing; else somebody joined meanwhile: put back, refused |
/// | writing    | each part: the first marker is still ours → written → read again  | the first host id's sector, the last, ends it       |
/// | reporting  | the end is durable                                                | done                                                |
///
/// From the first marker on to the last write nobody can join, and everybody can tell why. What was there is in the backup: whatever is left by a crash is read from there
/// and written again from the beginning (``resume(_:host:)``), never guessed from what is on the way.
struct Reinitialization: Sendable {
    enum Step: Sendable {
        case read(path: String, offset: UInt64, length: Int)
        case write(path: String, offset: UInt64, bytes: [UInt8], create: Bool)
        case pause(until: Instant)
        /// Make it durable, then ``onNoted(at:)``.
        case note(ReinitializationOrder)
        /// Make it durable that nothing is left to do, then ``onNoted(at:)``.
        case forget
        case done(LockspaceAssessment)
        case refused(RequestError)
    }

    enum Phase: Sendable {
        case source, sourceBody
        case surveying
        case waiting(until: Instant), looking
        case saving, verifyingBackup
        case noting
        case checkingClaim
        case resuming, resumingBackup, resumingBody, resumingSource, resumingSourceBody, checkingResume
        case claiming(first: Bool)
        case settling(until: Instant), settled
        case puttingBack([ReinitializationPlan.Write], LockspaceError)
        case checkingMarker, writing, verifying
        case reporting
        case withdrawing(LockspaceError)
    }

    typealias LockspaceError = RequestError

    private(set) var order: ReinitializationOrder
    let host: String
    let proofs: [AcceptedProof]
    private(set) var phase = Phase.surveying
    private var reader: LockspaceReader
    /// What is there, or was when it began.
    private var floor: LockspaceContents?
    private var image: LockspaceImage
    private var source: LockspaceContents?
    private var surveyed = Instant(nanoseconds: 0)
    private var report: LockspaceAssessment?
    private var writes: [ReinitializationPlan.Write] = []
    private var backup: [UInt8] = []

    private var layout: DomainLayout { DomainLayout(root: order.repair.path) }
    private var marker: ReinitializationMarker {
        ReinitializationMarker(lockspace: order.repair.lockspace, request: order.request, host: host, backup: order.before)
    }
    var hasBegunToWrite: Bool {
        switch phase {
        case .claiming, .settling, .settled, .puttingBack, .checkingMarker, .writing, .verifying, .reporting, .resuming, .resumingBackup, .resumingBody, .resumingSource, .resumingSourceBody, .checkingResume: true
        default: false
        }
    }
    /// I/O may take as long as the hosts of this lockspace allow it to.
    var ioTimeout: Int64 {
        let longest = max(floor?.ioTimeout ?? 0, source?.ioTimeout ?? 0)
        return longest == 0 ? 10 : Int64(longest)
    }

    init(_ order: ReinitializationOrder, host: String, proofs: [AcceptedProof]) {
        self.order = order
        self.host = host
        self.proofs = proofs
        reader = LockspaceReader(lockspace: order.repair.lockspace)
        image = reader.image
    }

    mutating func begin() -> Step {
        guard marker.isStorable else { return .refused(RequestError(RequestErrorCode.invalid, "the names of request and backup are too long to be written to the host ids")) }
        guard order.isRestore else { return survey(fallback: nil) }
        phase = .source
        return .read(path: order.source, offset: 0, length: LockspaceImage.headerSize)
    }

    /// Goes on with what an earlier life of this process, or an attempt whose storage failed, began.
    mutating func resume() -> Step {
        phase = .resuming
        return .read(path: layout.ids, offset: 0, length: Geometry.probeLength)
    }

    private mutating func survey(fallback: Geometry?) -> Step {
        reader = LockspaceReader(lockspace: order.repair.lockspace, fallback: fallback)
        phase = .surveying
        return carryOut(reader.begin(), at: surveyed)
    }

    // MARK: Stimuli

    /// - Parameter bytes: `nil` if the file is missing or ends before.
    mutating func onRead(_ bytes: [UInt8]?, at now: Instant) -> Step {
        switch phase {
        case .source: return readBackup(bytes, order.source, next: .sourceBody)
        case .sourceBody:
            switch parsed(bytes, order.source) {
            case .failure(let error): return .refused(error)
            case .success(let (_, contents)):
                source = contents
                return survey(fallback: contents.geometry)
            }
        case .surveying:
            surveyed = now
            return carryOut(reader.onRead(bytes), at: now)
        case .looking: return onSecondLook(bytes, at: now)
        case .verifyingBackup:
            guard bytes == backup else { return .refused(RequestError(LockspaceErrorCode.badBackup, "the backup \(order.before) did not read back as it was written; nothing was changed")) }
            backup = []
            phase = .noting
            return .note(order)
        case .checkingClaim: return onCheckedClaim(bytes)
        case .settled: return onSettled(bytes)
        case .checkingMarker:
            guard let bytes, bytes.starts(with: marker.sector) else { return .refused(taken(bytes)) }
            guard let next = writes.first else { return .refused(unfinished("an unexpected answer")) }
            phase = .writing
            return .write(path: next.volume.path(in: layout), offset: next.offset, bytes: next.bytes, create: true)
        case .verifying:
            guard let last = writes.first, bytes == last.bytes else { return .refused(unfinished("a part did not read back as it was written")) }
            writes.removeFirst()
            guard !writes.isEmpty else {
                phase = .reporting
                return .forget
            }
            return checkMarker()
        case .resuming: return onResume(bytes)
        case .resumingBackup: return readBackup(bytes, order.before, next: .resumingBody)
        case .resumingBody: return onBackupRead(bytes)
        case .checkingResume: return onCheckedResume(bytes)
        case .resumingSource: return readBackup(bytes, order.source, next: .resumingSourceBody)
        case .resumingSourceBody:
            switch parsed(bytes, order.source) {
            case .failure(let error): return .refused(error)
            case .success(let (_, contents)):
                source = contents
                return resumeFromBackup()
            }
        default: return .refused(unfinished("an unexpected answer"))
        }
    }

    mutating func onWritten(at now: Instant) -> Step {
        switch phase {
        case .saving:
            phase = .verifyingBackup
            return .read(path: order.before, offset: 0, length: backup.count)
        case .claiming(first: true):
            phase = .claiming(first: false)
            let rest = idsLength - Geometry.probeLength
            return .write(path: layout.ids, offset: UInt64(Geometry.probeLength), bytes: markers(rest), create: true)
        case .claiming:
            let until = now + .seconds(2 * ioTimeout)
            phase = .settling(until: until)
            return .pause(until: until)
        case .puttingBack(let rest, let error): return putBack(Array(rest.dropFirst()), error)
        case .writing:
            phase = .verifying
            guard let last = writes.first else { return .refused(unfinished("an unexpected answer")) }
            return .read(path: last.volume.path(in: layout), offset: last.offset, length: last.bytes.count)
        default: return .refused(unfinished("an unexpected answer"))
        }
    }

    mutating func onWake(at now: Instant) -> Step? {
        switch phase {
        case .waiting(let until) where now >= until:
            phase = .looking
            return .read(path: layout.ids, offset: 0, length: surveyedLength)
        case .settling(let until) where now >= until:
            phase = .settled
            return .read(path: layout.ids, offset: 0, length: idsLength)
        default: return nil
        }
    }

    mutating func onNoted(at now: Instant) -> Step? {
        switch phase {
        case .noting: return checkClaim()
        case .withdrawing(let error): return .refused(error)
        case .reporting: return finishedReport.map { .done($0) }
        default: return nil
        }
    }

    /// What it did, once everything is written.
    var finishedReport: LockspaceAssessment? {
        guard case .reporting = phase else { return nil }
        var done = report ?? assessmentOfResumed
        done.isDone = true
        done.backup = order.before
        return done
    }

    // MARK: Assessment

    private mutating func carryOut(_ step: LockspaceReader.Step, at now: Instant) -> Step {
        switch step {
        case .read(let volume, let offset, let length): return .read(path: volume.path(in: layout), offset: offset, length: length)
        case .refused(let error): return .refused(error)
        case .done:
            image = reader.image
            let contents = LockspaceContents(image, geometry: reader.geometry ?? .standard)
            floor = contents
            let plan = plan(contents)
            guard plan.needsAnotherLook else { return decide(plan) }
            phase = .waiting(until: now + plan.patience)
            return .pause(until: now + plan.patience)
        }
    }

    private mutating func onSecondLook(_ bytes: [UInt8]?, at now: Instant) -> Step {
        guard let floor, let bytes else { return .refused(RequestError(LeaseErrorCode.io, "the host ids could not be read a second time")) }
        var second = LockspaceImage(lockspace: order.repair.lockspace)
        second.add(.ids, 0, bytes)
        return decide(plan(floor, again: LockspaceContents(second, geometry: floor.geometry).slots, apart: now - surveyed))
    }

    private func plan(_ contents: LockspaceContents, again: [Int: LockspaceContents.Slot]? = nil, apart: Duration = .zero) -> ReinitializationPlan {
        ReinitializationPlan(repair: order.repair, contents: contents, again: again, apart: apart, proofs: proofs, backup: source)
    }

    private mutating func decide(_ plan: ReinitializationPlan) -> Step {
        do throws(RequestError) {
            writes = try plan.writes(time: order.time)
            var assessment = try plan.assessment(writes)
            if let source {
                assessment.notes.append("the content comes from the backup \(order.source), \(source.leases.count) leases")
                let lost = plan.contents.leases.filter { lease in !source.leases.contains { $0.resource == lease.resource } }.map(\.resource)
                if !lost.isEmpty { assessment.notes.append("leases that the backup does not know, and that will be gone: \(lost.joined(separator: ", "))") }
            }
            report = assessment
            guard !order.repair.dryRun else { return .done(assessment) }
            let obstacles = assessment.obstacles.filter { !$0.canBeForced || !order.repair.force }
            guard obstacles.isEmpty else {
                return .refused(RequestError(
                    LockspaceErrorCode.inUse, "\(order.repair.lockspace) is not written: \(obstacles.map(\.why).joined(separator: "; "))",
                    details: ["forcible": obstacles.allSatisfy(\.canBeForced) ? "with --force and a typed confirmation" : "no: something lives"]))
            }
            var saved = image
            saved.host = host
            saved.time = order.time
            backup = saved.backup
            phase = .saving
            return .write(path: order.before, offset: 0, bytes: backup, create: true)
        } catch {
            return .refused(error)
        }
    }

    private var assessmentOfResumed: LockspaceAssessment {
        let then = floor.flatMap { try? plan($0).target() }.map { ReinitializationPlan.words($0.geometry, $0.ioTimeout) } ?? ""
        return LockspaceAssessment(
            lockspace: order.repair.lockspace, path: order.repair.path, now: floor.map { ReinitializationPlan.words($0.geometry, $0.ioTimeout) } ?? "", then: then,
            notes: ["it had begun earlier and was resumed"], backup: order.before)
    }

    // MARK: Claim

    private var idsLength: Int {
        let geometries = [floor?.geometry, source?.geometry, floor.flatMap { try? plan($0).target().geometry }].compactMap { $0 }
        return geometries.map { $0.maximumHosts * $0.sectorSize }.max() ?? LockspaceReader.commonLength
    }

    private var surveyedLength: Int { max(LockspaceReader.commonLength, floor.map { $0.geometry.maximumHosts * $0.geometry.sectorSize } ?? 0) }

    private func markers(_ length: Int) -> [UInt8] {
        let sector = marker.sector
        var bytes = [UInt8]()
        bytes.reserveCapacity(length)
        while bytes.count < length { bytes += sector }
        return bytes
    }

    /// What was surveyed must still be there: the backup and its note took their time.
    private mutating func checkClaim() -> Step {
        phase = .checkingClaim
        return .read(path: layout.ids, offset: 0, length: surveyedLength)
    }

    private mutating func onCheckedClaim(_ bytes: [UInt8]?) -> Step {
        let before = image.read(.ids, 0, surveyedLength)
        guard (bytes ?? [UInt8](repeating: 0, count: surveyedLength)) == before else {
            return withdraw(RequestError(LockspaceErrorCode.inUse, "a host id of \(order.repair.lockspace) changed while the backup was written: something lives there; nothing was changed"))
        }
        return claim()
    }

    private mutating func withdraw(_ error: RequestError) -> Step {
        phase = .withdrawing(error)
        return .forget
    }

    private mutating func claim() -> Step {
        do throws(RequestError) {
            guard let floor else { throw unfinished("nothing was surveyed") }
            if writes.isEmpty { writes = try plan(floor).writes(time: order.time) }
        } catch {
            return .refused(error)
        }
        phase = .claiming(first: true)
        return .write(path: layout.ids, offset: 0, bytes: markers(Geometry.probeLength), create: true)
    }

    /// Whoever was about to join when the markers were written has written its sector by now.
    private mutating func onSettled(_ bytes: [UInt8]?) -> Step {
        guard let bytes else { return .refused(unfinished("the markers could not be read")) }
        guard bytes != markers(bytes.count) else { return checkMarker() }
        let sector = marker.sector
        let changed = stride(from: 0, to: bytes.count, by: sector.count).filter { !bytes[$0..<($0 + sector.count)].elementsEqual(sector) }
        if let other = ReinitializationMarker(bytes[...]), other != marker { return .refused(taken(bytes)) }
        // Everything but what was written meanwhile is put back, the first sector last.
        let before = image.read(.ids, 0, bytes.count)
        var back = before
        for position in changed { back.replaceSubrange(position..<(position + sector.count), with: bytes[position..<(position + sector.count)]) }
        let error = RequestError(
            LockspaceErrorCode.inUse, "somebody joined \(order.repair.lockspace) while it was claimed (\(changed.count) sectors from byte \(changed[0]) of the host ids); it was put back as it was")
        let rest = ReinitializationPlan.Write(volume: .ids, offset: UInt64(Geometry.probeLength), bytes: Array(back[Geometry.probeLength...]))
        let first = ReinitializationPlan.Write(volume: .ids, offset: 0, bytes: Array(back[..<Geometry.probeLength]))
        return putBack([rest, first], error)
    }

    private mutating func putBack(_ writes: [ReinitializationPlan.Write], _ error: RequestError) -> Step {
        guard let next = writes.first else { return withdraw(error) }
        phase = .puttingBack(writes, error)
        return .write(path: layout.ids, offset: next.offset, bytes: next.bytes, create: false)
    }

    private mutating func checkMarker() -> Step {
        phase = .checkingMarker
        return .read(path: layout.ids, offset: 0, length: Geometry.probeLength)
    }

    // MARK: Resuming

    private mutating func onResume(_ bytes: [UInt8]?) -> Step {
        // A volume that is not there says nothing: the storage may not be connected yet.
        guard let bytes else { return .refused(unfinished("the host ids at \(layout.ids) are not there")) }
        guard ReinitializationMarker(bytes[...]) == marker else {
            // It had not begun to write, or it is over: what is there now may be in use.
            return withdraw(RequestError(LockspaceErrorCode.unfinished, "the reinitialisation of \(order.repair.lockspace) that was to be resumed is not on its way there; ask for it anew"))
        }
        guard order.isRestore else { return resumeFromBackup() }
        phase = .resumingSource
        return .read(path: order.source, offset: 0, length: LockspaceImage.headerSize)
    }

    private mutating func resumeFromBackup() -> Step {
        phase = .resumingBackup
        return .read(path: order.before, offset: 0, length: LockspaceImage.headerSize)
    }

    private mutating func onBackupRead(_ bytes: [UInt8]?) -> Step {
        switch parsed(bytes, order.before, fallback: source?.geometry) {
        case .failure(let error): return .refused(error)
        case .success(let (found, contents)):
            image = found
            floor = contents
            phase = .checkingResume
            return .read(path: layout.ids, offset: 0, length: surveyedLength)
        }
    }

    /// Nothing but what was there, the markers and what shall be there may be there now.
    private mutating func onCheckedResume(_ bytes: [UInt8]?) -> Step {
        guard let floor, let found = bytes else { return .refused(unfinished("the host ids could not be read")) }
        let before = image.read(.ids, 0, found.count)
        var after = [UInt8](repeating: 0, count: max(found.count, idsLength))
        for write in (try? plan(floor).writes(time: order.time)) ?? [] where write.volume == .ids {
            after.replaceSubrange(Int(write.offset)..<(Int(write.offset) + write.bytes.count), with: write.bytes)
        }
        let sector = marker.sector
        for position in stride(from: 0, to: found.count, by: sector.count) {
            let range = position..<(position + sector.count)
            guard found[range] == sector[...] || found[range] == before[range] || found[range] == after[range] else {
                return .refused(RequestError(LockspaceErrorCode.inUse, "somebody has written byte \(position) of the host ids of \(order.repair.lockspace) meanwhile; see who lives there before it is resumed or restored"))
            }
        }
        return claim()
    }

    private mutating func readBackup(_ header: [UInt8]?, _ path: String, next: Phase) -> Step {
        do throws(RequestError) {
            guard let header else { throw RequestError(LockspaceErrorCode.badBackup, "there is no backup \(path) on \(host)") }
            let length = try LockspaceImage.length(ofBackup: header)
            phase = next
            return .read(path: path, offset: 0, length: length)
        } catch {
            return .refused(error)
        }
    }

    private func parsed(_ bytes: [UInt8]?, _ path: String, fallback: Geometry? = nil) -> Result<(LockspaceImage, LockspaceContents), RequestError> {
        do throws(RequestError) {
            let image = try LockspaceImage(backup: bytes ?? [])
            guard image.lockspace == order.repair.lockspace else {
                throw RequestError(LockspaceErrorCode.badBackup, "\(path) is a backup of lockspace \(image.lockspace), not \(order.repair.lockspace)")
            }
            guard let geometry = try LockspaceContents.geometry(in: image) ?? fallback else { throw RequestError(LockspaceErrorCode.badBackup, "no host id in \(path) can be read") }
            return .success((image, LockspaceContents(image, geometry: geometry)))
        } catch {
            return .failure(error)
        }
    }

    // MARK: Errors

    /// Somebody else writes the lockspace anew, or it is over.
    private func taken(_ bytes: [UInt8]?) -> RequestError {
        if let bytes, let other = ReinitializationMarker(bytes[...]) { return other.error }
        return unfinished("its marker is gone")
    }

    func unfinished(_ why: String) -> RequestError {
        RequestError(
            LockspaceErrorCode.unfinished, "\(order.repair.lockspace) is being written anew and this did not finish: \(why); resume it (bulwark lockspace reinitialize --resume), or restore \(order.before)",
            details: ["request": order.request, "host": host, "backup": order.before])
    }
}
