import Bus
import LeaseFormat
import Messages

/// oVirt's index of leases in a volume, with what it says of each record.
struct IndexVolume {
    let volume: DirectVolume
    let geometry: Geometry
    let bytes: [UInt8]

    /// Looks for the index where each area size puts it.
    /// - Throws: `RequestError` `volume.unreadable` if there is none.
    init(_ volume: DirectVolume) throws(RequestError) {
        let size = try volume.requireSize()
        for alignment in [1, 2, 4, 8].map({ $0 << 20 }) where size >= UInt64(alignment + LeaseIndex.length) {
            if let found = try IndexVolume(volume, at: UInt64(alignment)) {
                self = found
                return
            }
        }
        throw OperatorError.badVolume.error("\(volume.path) has no index of leases in its second area; `bulwark lease index format` makes one")
    }

    /// - Returns: `nil` if the area does not begin with the magic of an index.
    init?(_ volume: DirectVolume, at offset: UInt64) throws(RequestError) {
        let bytes = try volume.readWhatIsThere(offset, (LeaseIndex.length + 511) / 512 * 512)
        guard bytes.starts(with: [0x12, 0x15, 0x20, 0x16]), let geometry = try Self.geometry(volume, alignment: Int(offset)) else { return nil }
        self.volume = volume
        self.geometry = geometry
        self.bytes = bytes
    }

    /// The leases tell the size of sectors; without any, the one that goes with the areas' size.
    private static func geometry(_ volume: DirectVolume, alignment: Int) throws(RequestError) -> Geometry? {
        for slot in 3..<19 {
            let probe = try volume.readWhatIsThere(UInt64(slot * alignment), Geometry.probeLength)
            if let leader = try? LeaderRecord(probe[...]), leader.geometry.alignment == alignment { return leader.geometry }
        }
        return Geometry(sectorSize: alignment == 1 << 20 ? 512 : 4096, alignment: alignment)
    }

    /// The index as it may be used.
    /// - Throws: `RequestError` `lease.index-updating` or `lease.corrupt`.
    func index() throws(RequestError) -> LeaseIndex {
        do {
            return try LeaseIndex(bytes[...], geometry: geometry)
        } catch {
            let code: LeaseErrorCode = error == .updating ? .indexUpdating : .corrupt
            throw RequestError(code, "the lease index of \(volume.path): \(error.sentence); `bulwark lease rebuild` repairs it")
        }
    }

    /// The index as it is found, also one whose update did not finish.
    func found() throws(RequestError) -> LeaseIndex {
        do {
            return try LeaseIndex(rebuilding: bytes[...], geometry: geometry)
        } catch {
            throw RequestError(LeaseErrorCode.corrupt, "the lease index of \(volume.path): \(error.sentence); only `bulwark lease index format` can replace it")
        }
    }

    private func place(_ record: Int) -> UInt64 { LeaseIndex.offset(geometry) + 512 + 64 * UInt64(record) }

    /// The header, and every record that names a lease or cannot be read.
    func records() -> [VolumeRecord] {
        let index: LeaseIndex
        do {
            index = try LeaseIndex(rebuilding: bytes[...], geometry: geometry)
        } catch {
            return [VolumeRecord(
                offset: LeaseIndex.offset(geometry), kind: .index, fields: ["name": .string(""), "status": .string("corrupt"), "reason": .string(error.sentence)],
                detail: error.sentence)]
        }
        var header: [String: JSONValue] = [
            "name": .string(index.lockspace), "lockspace": .string(index.lockspace), "status": .string(index.isUpdating ? "updating" : "ok"),
            "alignment": .signed(Int64(geometry.alignment)), "sectorSize": .signed(Int64(geometry.sectorSize)),
        ]
        if let time = index.time { header["time"] = .unsigned(time) }
        return [VolumeRecord(offset: LeaseIndex.offset(geometry), kind: .index, fields: header, detail: index.isUpdating ? "an update did not finish: rebuild it" : "")]
            + entries(index)
    }

    /// The records that name a lease or cannot be read, in their order.
    func entries(_ index: LeaseIndex) -> [VolumeRecord] {
        (0..<LeaseIndex.capacity).compactMap { number in
            var fields: [String: JSONValue] = ["lockspace": .string(index.lockspace), "record": .signed(Int64(number)), "leaseOffset": .unsigned(index.leaseOffset(number))]
            let (name, status, detail): (String, String, String)
            switch index.record(number) {
            case .free: return nil
            case .lease(let found): (name, status, detail) = (found, "ok", "lease at \(index.leaseOffset(number))")
            case .unfinished(let found): (name, status, detail) = (found, "updating", "its making or removal did not finish")
            case .unreadable(let error): (name, status, detail) = ("", "corrupt", error.sentence)
            }
            fields["name"] = .string(name)
            fields["status"] = .string(status)
            if status != "ok" { fields["reason"] = .string(detail) }
            return VolumeRecord(offset: place(number), kind: .entry, fields: fields, detail: detail)
        }
    }
}
