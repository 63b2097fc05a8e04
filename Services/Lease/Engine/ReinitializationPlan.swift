import LeaseFormat
import Messages

/// Whether a lockspace may be written anew, and with what; decided from two looks at its host ids, its leases, and what hosts and managers say.
///
/// | a host id                              | evidence                                           | judged       |
/// |----------------------------------------|----------------------------------------------------|--------------|
/// | changed between the looks              | any                                                | live: refused, also with force |
/// | free, or marked by a reinitialisation  |                                                    | free         |
/// | in use, unchanged over the second look | the host of that name says that it has left        | left         |
/// |                                        | a proof covers id and generation                   | proven gone  |
/// |                                        | none                                               | silent: refused without force |
/// | unreadable, unchanged as above         | the host with that id says that it has left        | left         |
/// |                                        | none                                               | unreadable: refused without force |
///
/// A lease is held by whoever its leader, or a shared hold, names with the generation of that host id's life, unless that host is free, has left or is proven gone.
struct ReinitializationPlan: Sendable {
    let repair: LockspaceRepair
    let contents: LockspaceContents
    /// The host ids as they were read again.
    let again: [Int: LockspaceContents.Slot]?
    /// From the first look to the second.
    let apart: Duration
    let proofs: [AcceptedProof]
    /// What shall be there again; `nil`: what is there.
    let backup: LockspaceContents?

    private var source: LockspaceContents { backup ?? contents }

    /// Whether a second look is needed: something is in use, or unreadable, and nothing proves that it is over. Who said that it has left may have been opened and joined since.
    var needsAnotherLook: Bool { contents.slots.contains { ["left", "silent", "unreadable"].contains(judge($0.key, $0.value).state) } }

    /// How long to wait for it.
    var patience: Duration { .seconds(2 * Int64(max(contents.ioTimeout, 1))) }

    /// What shall be.
    func target() throws(RequestError) -> (geometry: Geometry, ioTimeout: UInt16) {
        let ioTimeout = repair.ioTimeout ?? Int(source.ioTimeout == 0 ? 10 : source.ioTimeout)
        guard (1...600).contains(ioTimeout) else { throw RequestError(RequestErrorCode.invalid, "ioTimeout is 1 to 600 seconds") }
        guard let geometry = Geometry(sectorSize: repair.sectorSize ?? source.geometry.sectorSize, alignment: repair.alignment ?? source.geometry.alignment) else {
            throw RequestError(RequestErrorCode.invalid, "sector and alignment size are 512 and 1 MiB, or 4096 and 1, 2, 4 or 8 MiB")
        }
        return (geometry, UInt16(ioTimeout))
    }

    func assessment(_ writes: [Write]) throws(RequestError) -> LockspaceAssessment {
        let target = try target()
        var result = LockspaceAssessment(
            lockspace: repair.lockspace, path: repair.path, now: Self.words(contents.geometry, contents.ioTimeout), then: Self.words(target.geometry, target.ioTimeout))
        let known = Set(repair.facts.registered.keys).union(contents.leases.flatMap(\.generations.keys))
        var strangers: [Int] = []
        for (id, slot) in contents.slots.sorted(by: { $0.key < $1.key }) {
            let judged = judge(id, slot)
            if judged.state == "unreadable", !known.contains(id) {
                strangers.append(id)
                continue
            }
            result.slots.append(judged)
            if let obstacle = obstacle(judged) { result.obstacles.append(obstacle) }
        }
        if let first = strangers.first, let last = strangers.last {
            result.obstacles.append(LockspaceObstacle(
                "hosts/\(first)-\(last)", "the sectors of \(strangers.count) host ids that no registered host has cannot be read: a host that is not registered may use one", age: age,
                canBeForced: true))
        }
        for id in known.union(contents.slots.keys).sorted() where id > target.geometry.maximumHosts && id != 0 {
            result.obstacles.append(LockspaceObstacle("host/\(id)", "the new size has only \(target.geometry.maximumHosts) host ids, and \(id) is in use"))
        }
        for lease in contents.leases {
            let (judged, obstacles) = judge(lease)
            result.leases.append(judged)
            result.obstacles += obstacles
        }
        result.obstacles += repair.facts.underWay.map { LockspaceObstacle("task", $0, canBeForced: true) }
        result.obstacles += repair.facts.silent.map { LockspaceObstacle("service/\($0)", "\($0) does not answer: what it has under way is not known", canBeForced: true) }
        if let problem = contents.indexProblem { result.notes.append(problem) }
        for (id, host) in repair.facts.registered.sorted(by: { $0.key < $1.key }) where !repair.facts.departures.contains(where: { $0.hostID == id }) {
            result.notes.append("\(host) (host id \(id)) did not say that it has left")
        }
        result.writes = writes.count
        result.bytes = writes.reduce(0) { $0 + $1.bytes.count }
        return result
    }

    // MARK: Judgement

    private var age: Duration? { again == nil ? nil : apart }

    private func judge(_ id: Int, _ slot: LockspaceContents.Slot) -> LockspaceAssessment.Slot {
        let departure = repair.facts.departures.first { $0.hostID == id }
        var judged = LockspaceAssessment.Slot(hostID: id, name: contents.name(of: id), generation: contents.generation(of: id), state: "free", evidence: "its sector says so")
        if let again, again[id] != slot {
            judged.state = "live"
            judged.evidence = "its sector changed within \(Self.words(apart))"
            judged.age = apart
            return judged
        }
        switch slot {
        case .marked(let marker): judged.evidence = "closed by the reinitialisation that \(marker.host) began"
        case .record(let record) where record.isFree: break
        case .record(let record):
            if let departure, departure.host == record.name {
                judged.state = "left"
                judged.evidence = "\(departure.host) says that it has left (boot \(departure.bootID))"
                judged.age = departure.age
            } else if let proof = proofs.first(where: { $0.proof.covers(lockspace: repair.lockspace, hostID: id, generation: record.ownerGeneration) }) {
                judged.state = "proven gone"
                judged.evidence = "proof \(proof.proof.id): \(proof.proof.statement)"
                judged.age = proof.age
            } else {
                judged.state = "silent"
                judged.evidence = age.map { "its sector did not change for \(Self.words($0)), which proves nothing" } ?? "its sector was read once"
                if let departure { judged.evidence += "; \(departure.host), which has left, is registered with this host id" }
                judged.age = age
            }
        case .unreadable(let why):
            if let departure {
                judged.state = "left"
                judged.evidence = "\(departure.host) says that it has left (boot \(departure.bootID)); the sector: \(why)"
                judged.age = departure.age
            } else {
                judged.state = "unreadable"
                judged.evidence = why
                judged.age = age
            }
        }
        return judged
    }

    private func obstacle(_ slot: LockspaceAssessment.Slot) -> LockspaceObstacle? {
        let who = slot.name.isEmpty ? "host id \(slot.hostID)" : "host id \(slot.hostID) (\(slot.name), generation \(slot.generation))"
        return switch slot.state {
        case "live": LockspaceObstacle("host/\(slot.hostID)", "\(who) lives: \(slot.evidence)", age: slot.age)
        case "silent": LockspaceObstacle("host/\(slot.hostID)", "nothing proves that \(who) is gone: \(slot.evidence)", age: slot.age, canBeForced: true)
        case "unreadable": LockspaceObstacle("host/\(slot.hostID)", "the sector of \(who) cannot be read (\(slot.evidence)), and its host did not say that it has left", age: slot.age, canBeForced: true)
        default: nil
        }
    }

    private func judge(_ lease: LockspaceContents.Lease) -> (LockspaceAssessment.Lease, [LockspaceObstacle]) {
        var judged = LockspaceAssessment.Lease(resource: lease.resource, place: contents.place(of: lease), lver: lease.lver, state: "free", evidence: "")
        var holders = lease.shared.map { (id: $0.key, generation: $0.value, how: "shared") }
        if let leader = lease.leader {
            if !leader.isFree { holders.append((Int(clamping: leader.ownerID), leader.ownerGeneration, "exclusive")) }
        } else {
            judged.state = "unreadable"
            judged.evidence = lease.problem ?? ""
        }
        var obstacles: [LockspaceObstacle] = []
        for holder in holders.sorted(by: { $0.id < $1.id }) {
            let what = "\(holder.how) by host id \(holder.id) generation \(holder.generation)"
            if let why = reasonThatItIsOver(holder.id, holder.generation) {
                if judged.state == "free" { judged.state = "void" }
                judged.evidence = "\(what): \(why)"
            } else {
                judged.state = "held"
                judged.evidence = what
                obstacles.append(LockspaceObstacle("lease/\(lease.resource)", "lease \(lease.resource) is held \(what), and nothing proves that its holder is gone", age: age, canBeForced: true))
            }
        }
        return (judged, obstacles)
    }

    private func reasonThatItIsOver(_ id: Int, _ generation: UInt64) -> String? {
        if proofs.contains(where: { $0.proof.covers(lockspace: repair.lockspace, hostID: id, generation: generation) }) { return "proven gone" }
        let departure = repair.facts.departures.first { $0.hostID == id }
        switch contents.slots[id] {
        case .record(let record) where record.isFree || record.ownerGeneration > generation: return "that life is over"
        case .record(let record): return departure?.host == record.name ? "\(record.name) has left" : nil
        case .unreadable, nil: return departure.map { "\($0.host) has left" }
        case .marked: return "closed when the reinitialisation began"
        }
    }

    static func words(_ geometry: Geometry, _ ioTimeout: UInt16) -> String {
        "\(geometry.sectorSize)-byte sectors, \(geometry.alignment >> 20) MiB areas, io_timeout \(ioTimeout) s"
    }

    static func words(_ duration: Duration) -> String { "\(duration.milliseconds / 1000) s" }

    // MARK: Writes

    struct Write: Hashable, Sendable {
        var volume: LockspaceImage.Volume
        var offset: UInt64
        var bytes: [UInt8]
    }

    /// Everything but the markers, in order; the last one is the commit: the first host id's sector.
    ///
    /// Every host id is free and every lease is, but no generation and no version goes back: both name lives and terms that proofs and journals speak of.
    /// - Parameter time: wall-clock seconds for people, written to the index.
    func writes(time: UInt64) throws(RequestError) -> [Write] {
        let (geometry, ioTimeout) = try target()
        var writes: [Write] = []
        if geometry != source.geometry || geometry != contents.geometry {
            // What lay at the old places must not be taken for a lease by anybody.
            for old in [contents, source] where old.geometry != geometry {
                let empty = [UInt8](repeating: 0, count: old.geometry.sectorSize)
                for lease in old.leases {
                    writes.append(Write(volume: lease.slot == nil ? .leases : .xleases, offset: UInt64((lease.slot.map { 3 + $0 } ?? 1) * old.geometry.alignment), bytes: empty))
                }
                writes.append(Write(volume: .xleases, offset: LeaseIndex.offset(old.geometry), bytes: empty))
            }
        }
        writes.append(Write(volume: .xleases, offset: LeaseIndex.offset(geometry), bytes: LeaseIndex(lockspace: repair.lockspace, time: time, updating: true, geometry: geometry).image))
        var index = LeaseIndex(lockspace: repair.lockspace, time: time, geometry: geometry)
        for lease in source.leases {
            let below = contents.leases.first { $0.resource == lease.resource }?.lver ?? 0
            let area = area(of: lease, lver: max(lease.lver, below), geometry)
            guard let slot = lease.slot else {
                writes.append(Write(volume: .leases, offset: UInt64(geometry.alignment), bytes: area))
                continue
            }
            _ = index.enter(lease.resource, at: slot)
            writes.append(Write(volume: .xleases, offset: index.leaseOffset(slot), bytes: area))
        }
        let unit = geometry.sectorSize
        writes.append(Write(volume: .xleases, offset: LeaseIndex.offset(geometry) + UInt64(unit), bytes: Array(index.image[unit...])))
        writes.append(Write(volume: .xleases, offset: LeaseIndex.offset(geometry), bytes: index.header))
        let ids = ids(geometry, ioTimeout)
        writes.append(Write(volume: .ids, offset: UInt64(unit), bytes: Array(ids[unit...])))
        writes.append(Write(volume: .ids, offset: 0, bytes: Array(ids[..<unit])))
        return writes
    }

    private func area(of lease: LockspaceContents.Lease, lver: UInt64, _ geometry: Geometry) -> [UInt8] {
        var leader = LeaderRecord(lockspace: repair.lockspace, resource: lease.resource, hosts: geometry == source.geometry ? lease.leader?.hosts : nil, geometry: geometry)
        leader.lver = lver
        leader.ownerID = lease.leader?.ownerID ?? 0
        leader.ownerGeneration = lease.leader?.ownerGeneration ?? 0
        var area = Images.resource(lease.resource, lockspace: repair.lockspace, geometry: geometry)
        area.replaceSubrange(..<geometry.sectorSize, with: leader.sector)
        return area
    }

    /// The whole area of host ids, as long as the larger of what was and what shall be.
    private func ids(_ geometry: Geometry, _ ioTimeout: UInt16) -> [UInt8] {
        var area = [UInt8]()
        let unused = LeaderRecord(lockspace: repair.lockspace, ioTimeout: ioTimeout, geometry: geometry)
        let empty = unused.sector
        for id in 1...geometry.maximumHosts {
            let generation = max(source.generation(of: id), contents.generation(of: id))
            guard generation > 0 else {
                area += empty
                continue
            }
            var record = unused
            record.ownerID = UInt64(id)
            record.ownerGeneration = generation
            record.name = contents.name(of: id).isEmpty ? source.name(of: id) : contents.name(of: id)
            area += record.sector
        }
        let length = [geometry, source.geometry, contents.geometry].map { $0.maximumHosts * $0.sectorSize }.max() ?? area.count
        return area + [UInt8](repeating: 0, count: length - area.count)
    }
}
