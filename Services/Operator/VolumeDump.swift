import Bus
import LeaseFormat
import Messages

/// Everything that a volume says, area after area, as records with all their fields.
struct VolumeDump {
    private let place: VolumePlace
    private let volume: DirectVolume
    private let only: LeaderRecord.Kind?

    /// - Parameter only: leave out areas of other kinds.
    init(_ place: VolumePlace, only: LeaderRecord.Kind? = nil) {
        self.place = place
        volume = DirectVolume(path: place.path)
        self.only = only
    }

    func show(_ options: GlobalOptions, all: Bool) throws {
        let records = try records(all: all)
        try options.show(.array(records.map(\.json))) {
            var table = Table("OFFSET", "KIND", "LOCKSPACE", "NAME", "STATUS", "OWNER", "GENERATION", "LVER", "TIMESTAMP", "DETAIL")
            for record in records {
                let cell = { (key: String) in record.fields[key].map { $0.string ?? $0.line } ?? "-" }
                table.add(
                    String(record.offset), record.kind.rawValue, cell("lockspace"), cell("name"), cell("status"), cell("ownerID"), cell("ownerGeneration"), cell("lver"),
                    cell("timestamp"), record.detail)
            }
            return table.text(empty: "nothing of a lockspace or lease from \(place.offset) on in \(place.path)")
        }
    }

    /// - Parameter all: unused host ids, ballot blocks, requests and index records, too.
    /// - Throws: `RequestError` `volume.unreadable`.
    func records(all: Bool) throws(RequestError) -> [VolumeRecord] {
        let size = try volume.requireSize()
        let end = min(size, place.size.map { place.offset + $0 } ?? size)
        var alignment = Geometry.standard.alignment
        var records: [VolumeRecord] = []
        var offset = place.offset
        while offset < end {
            let probe = try volume.readWhatIsThere(offset, Int(min(UInt64(Geometry.probeLength), end - offset)))
            guard probe.count >= 512 else { break }
            do {
                let leader = try LeaderRecord(probe[...])
                alignment = leader.geometry.alignment
                let area = try? volume.readWhatIsThere(offset, Int(min(UInt64(alignment), end - offset)))
                switch leader.kind {
                case .delta where only != .paxos: records += hosts(area ?? probe, at: offset, leader, all: all)
                case .paxos where only != .delta, .cleared where only != .delta: records += lease(area ?? probe, at: offset, leader, all: all)
                default: break
                }
            } catch {
                if only == nil { records += try other(probe, at: offset, error, all: all) }
            }
            offset += UInt64(alignment)
        }
        return records
    }

    private func hosts(_ area: [UInt8], at offset: UInt64, _ first: LeaderRecord, all: Bool) -> [VolumeRecord] {
        let sector = first.geometry.sectorSize
        return (1...first.geometry.maximumHosts).compactMap { host -> VolumeRecord? in
            let start = Int(first.geometry.deltaOffset(host: host))
            guard start + sector <= area.count else { return nil }
            let bytes = area[start..<(start + sector)]
            let place = offset + UInt64(start)
            do throws(FormatError) {
                let record = try LeaderRecord(bytes)
                guard all || record.ownerID != 0 || !record.isFree else { return nil }
                var fields = VolumeRecord.fields(record, bytes)
                fields["hostID"] = .signed(Int64(host))
                fields["status"] = .string(record.isFree ? "free" : "in use")
                let asked = HostBitmap(sector: bytes)
                let named = (1...record.geometry.maximumHosts).filter { asked[$0] }
                if !named.isEmpty { fields["asksHosts"] = .array(named.map { .signed(Int64($0)) }) }
                return VolumeRecord(offset: place, kind: .host, fields: fields, detail: named.isEmpty ? "" : "asks host \(named.map(String.init).joined(separator: ", "))")
            } catch {
                return VolumeRecord(corrupt: .host, at: place, ["hostID": .signed(Int64(host)), "lockspace": .string(first.lockspace)], error)
            }
        }
    }

    private func lease(_ area: [UInt8], at offset: UInt64, _ leader: LeaderRecord, all: Bool) -> [VolumeRecord] {
        let sector = leader.geometry.sectorSize
        var blocks: [VolumeRecord] = []
        var isShared = false
        var corrupt = 0
        for host in 1...leader.geometry.maximumHosts {
            let start = leader.geometry.blockOffset(host: host)
            guard start + sector <= area.count else { break }
            let place = offset + UInt64(start)
            do {
                let block = try BallotBlock(area[start..<(start + sector)])
                isShared = isShared || block.sharedGeneration != nil
                if block != BallotBlock() { blocks.append(VolumeRecord(block, host: host, at: place, leader)) }
            } catch {
                corrupt += 1
                blocks.append(VolumeRecord(corrupt: .ballot, at: place, ["hostID": .signed(Int64(host)), "lockspace": .string(leader.lockspace)], error))
            }
        }
        var fields = VolumeRecord.fields(leader, area[...])
        let isRemoved = leader.kind == .cleared || leader.name.isEmpty
        fields["status"] = .string(isRemoved ? "removed" : !leader.isFree ? "exclusive" : isShared ? "shared" : "free")
        var records = [VolumeRecord(offset: offset, kind: .lease, fields: fields, detail: corrupt == 0 ? "" : "\(corrupt) ballot blocks are corrupt")]
        guard all else { return records }
        if sector + 24 <= area.count, let request = try? RequestRecord(area[sector...]), request != RequestRecord() {
            records.append(VolumeRecord(request, at: offset + UInt64(sector), leader))
        }
        return records + blocks
    }

    /// An area that begins with none of sanlock's leaders.
    private func other(_ probe: [UInt8], at offset: UInt64, _ error: FormatError, all: Bool) throws(RequestError) -> [VolumeRecord] {
        guard probe.contains(where: { $0 != 0 }) else { return [] }
        if let index = try IndexVolume(volume, at: offset) { return all ? index.records() : Array(index.records().prefix(1)) }
        if probe.starts(with: [0x18, 0x20, 0x04, 0x01]) { return RindexVolume(place: VolumePlace(path: place.path, offset: offset)).records(all: all) }
        let magic = probe.prefix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        if LeaderRecord.Kind(rawValue: magic) != nil { return [VolumeRecord(corrupt: .lease, at: offset, [:], error)] }
        if magic == 0, case .unfinishedLockspace(let name) = AreaSurvey(probe + (try volume.readWhatIsThere(offset + UInt64(probe.count), 4608))).content {
            return [VolumeRecord(
                offset: offset, kind: .host, fields: ["name": .string(name), "status": .string("unfinished")],
                detail: "the initialisation of lockspace \(name) did not finish: initialise it again")]
        }
        return []
    }
}

/// One record of a volume.
struct VolumeRecord {
    enum Kind: String {
        /// A host's sector in a lockspace.
        case host
        case lease, request, ballot, index, entry
    }

    var offset: UInt64
    var kind: Kind
    var fields: [String: JSONValue]
    /// For people.
    var detail = ""

    init(offset: UInt64, kind: Kind, fields: [String: JSONValue], detail: String = "") {
        self.offset = offset
        self.kind = kind
        self.fields = fields
        self.detail = detail
    }

    init(corrupt kind: Kind, at offset: UInt64, _ fields: [String: JSONValue], _ error: FormatError) {
        self.init(
            offset: offset, kind: kind, fields: fields.merging(["name": fields["name"] ?? .string(""), "status": .string("corrupt"), "reason": .string(error.sentence)]) { $1 },
            detail: error.sentence)
    }

    init(_ block: BallotBlock, host: Int, at offset: UInt64, _ leader: LeaderRecord) {
        let status = block.sharedGeneration != nil ? "shared" : block.isReleased ? "released" : block.owner == 0 ? "entered" : "proposed"
        var fields: [String: JSONValue] = [
            "name": .string(leader.name), "lockspace": .string(leader.lockspace), "hostID": .signed(Int64(host)), "status": .string(status), "mbal": .unsigned(block.mbal),
            "bal": .unsigned(block.bal), "ownerID": .unsigned(block.owner), "ownerGeneration": .unsigned(block.ownerGeneration), "timestamp": .unsigned(block.ownerTimestamp),
            "lver": .unsigned(block.lver), "released": .bool(block.isReleased),
        ]
        if let shared = block.sharedGeneration { fields["sharedGeneration"] = .unsigned(shared) }
        self.init(offset: offset, kind: .ballot, fields: fields, detail: "host id \(host), mbal \(block.mbal), bal \(block.bal)" + (block.sharedGeneration.map { ", shared by generation \($0)" } ?? ""))
    }

    init(_ request: RequestRecord, at offset: UInt64, _ leader: LeaderRecord) {
        self.init(
            offset: offset, kind: .request,
            fields: [
                "name": .string(leader.name), "lockspace": .string(leader.lockspace), "status": .string("\(request.mode)"), "lver": .unsigned(request.lver),
                "forceMode": .unsigned(UInt64(request.mode.rawValue)),
            ], detail: "asked to give it up")
    }

    /// Every field of a leader record, by its name.
    static func fields(_ record: LeaderRecord, _ sector: ArraySlice<UInt8>) -> [String: JSONValue] {
        let checksum = sector.dropFirst(168).prefix(4).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return [
            "magic": .string("0x" + String(record.kind.rawValue, radix: 16)), "lockspace": .string(record.lockspace), "name": .string(record.name),
            "sectorSize": .signed(Int64(record.geometry.sectorSize)), "alignment": .signed(Int64(record.geometry.alignment)), "hosts": .unsigned(record.hosts),
            "maximumHosts": .unsigned(record.maximumHosts), "ownerID": .unsigned(record.ownerID), "ownerGeneration": .unsigned(record.ownerGeneration),
            "lver": .unsigned(record.lver), "timestamp": .unsigned(record.timestamp), "checksum": .string("0x" + String(checksum, radix: 16)),
            "ioTimeout": .unsigned(UInt64(record.ioTimeout)), "writeID": .unsigned(record.writeID), "writeGeneration": .unsigned(record.writeGeneration),
            "writeTimestamp": .unsigned(record.writeTimestamp), "shortHold": .bool(record.isShortHold),
        ]
    }

    var json: JSONValue { .object(fields.merging(["offset": .unsigned(offset), "kind": .string(kind.rawValue)]) { $1 }) }
}
