import Bus
import LeaseFormat
import Messages

/// The leases of an xleases volume, read and changed without any service.
struct VolumeLeases {
    let path: String

    private func leases(_ volume: IndexVolume, _ index: LeaseIndex) throws -> [VolumeRecord] {
        try volume.entries(index).map { entry in
            guard entry.fields["status"] == .string("ok"), let name = entry.fields["name"]?.string, let record = index.lookup(name) else { return entry }
            let place = VolumePlace(path: path, offset: index.leaseOffset(record), size: UInt64(volume.geometry.alignment))
            guard let found = try VolumeDump(place, only: .paxos).records(all: false).first, found.fields["name"] == .string(name) else {
                var entry = entry
                entry.fields["status"] = .string("corrupt")
                entry.fields["reason"] = .string("its slot at \(place.offset) does not hold it")
                return entry
            }
            return found
        }
    }

    func list(_ options: GlobalOptions) throws {
        let volume = try IndexVolume(DirectVolume(path: path))
        let records = try leases(volume, try volume.found())
        try options.show(.array(records.map(\.json))) {
            var table = Table("LEASE", "STATUS", "OWNER", "GENERATION", "LVER", "PLACE", "DETAIL")
            for record in records {
                let cell = { (key: String) in record.fields[key].map { $0.string ?? $0.line } ?? "-" }
                table.add(
                    cell("name"), cell("status"), cell("ownerID"), cell("ownerGeneration"), cell("lver"), "\(path):\(record.fields["leaseOffset"]?.line ?? String(record.offset))",
                    record.fields["reason"]?.string ?? "")
            }
            return table.text(empty: "no leases")
        }
    }

    func show(_ resource: String, _ options: GlobalOptions) throws {
        let volume = try IndexVolume(DirectVolume(path: path))
        let index = try volume.index()
        guard let record = try leases(volume, index).first(where: { $0.fields["name"] == .string(resource) }) else { throw notFound(resource) }
        try options.show(record.json) { record.json.outline() }
    }

    private func notFound(_ resource: String) -> RequestError { RequestError(LeaseErrorCode.notFound, "the index of \(path) has no lease \(resource)") }

    func create(_ resource: String, _ use: UseCheck, _ confirmation: Confirmation, _ options: GlobalOptions) throws {
        try requireStorable(resource, "lease")
        let volume = try IndexVolume(DirectVolume(path: path))
        var index = try volume.index()
        guard index.lookup(resource) == nil else { return try options.show(json(resource, "exists")) { "\(path) has the lease \(resource) already" } }
        let action = "enter lease \(resource) in the index of \(path)"
        let safe = try use.require(nobodyIn: index.lockspace, of: path, to: action)
        let slot: Int
        do {
            slot = try index.slot(for: resource, volumeSize: volume.volume.limit)
        } catch {
            throw RequestError(error == .noSpace ? LeaseErrorCode.noSpace : .corrupt, "the lease index of \(path): \(error.sentence)")
        }
        let place = index.leaseOffset(slot)
        let there = try AreaSurvey(of: volume.volume, at: place, volume.geometry.alignment)
        // Where nobody has a host id, a hold is what a host that is gone left behind.
        guard there.users.isEmpty || safe.notChecked.isEmpty else { throw there.inUse(action) }
        let lost: String? = switch there.content {
        case .nothing, .removedLease, .lease(index.lockspace, resource): nil
        default: there.description
        }
        if lost != nil || !safe.notChecked.isEmpty {
            try confirmation.require(
                action, meaning: lost.map { "\($0) is overwritten, at \(place)" }, name: resource, checked: safe.checked, notChecked: safe.notChecked + there.unreadable)
            _ = try use.require(nobodyIn: index.lockspace, of: path, to: action)
            guard try AreaSurvey(of: volume.volume, at: place, volume.geometry.alignment) == there else {
                throw OperatorError.volumeInUse.error("refused to \(action): what stands at \(place) changed meanwhile; nothing was written")
            }
        }
        let image = Images.resource(resource, lockspace: index.lockspace, geometry: volume.geometry)
        try volume.volume.write(VolumeWrite(offset: index.leaseOffset(slot), bytes: image).leaderLast(volume.geometry))
        let (offset, block) = index.enter(resource, at: slot)
        try volume.volume.write(offset, block)
        try options.show(json(resource, "free")) { "lease \(resource) is at \(index.leaseOffset(slot)) of \(path)" }
    }

    func remove(_ resource: String, _ use: UseCheck, _ confirmation: Confirmation, _ options: GlobalOptions) throws {
        let volume = try IndexVolume(DirectVolume(path: path))
        var index = try volume.index()
        guard let record = index.lookup(resource) else { return try options.show(json(resource, "removed")) { "\(path) has no lease \(resource)" } }
        let action = "remove lease \(resource) from \(path)"
        let safe = try use.require(nobodyIn: index.lockspace, of: path, to: action)
        let found = try AreaSurvey(of: volume.volume, at: index.leaseOffset(record), volume.geometry.alignment)
        // Where nobody has a host id, a hold is what a host that is gone left behind.
        guard found.users.isEmpty || safe.notChecked.isEmpty else { throw found.inUse(action) }
        try confirmation.require(
            action, meaning: "a guest with this disk does not start until the lease is made again", name: resource, checked: safe.checked + ["nobody uses it"],
            notChecked: safe.notChecked + found.unreadable)
        _ = try use.require(nobodyIn: index.lockspace, of: path, to: action)
        guard try AreaSurvey(of: volume.volume, at: index.leaseOffset(record), volume.geometry.alignment) == found else {
            throw OperatorError.volumeInUse.error("refused to \(action): somebody changed it meanwhile; nothing was written")
        }
        let (offset, block) = index.remove(at: record)
        try volume.volume.write(offset, block)
        try volume.volume.write(index.leaseOffset(record), Images.blank(geometry: volume.geometry))
        try options.show(json(resource, "removed")) { "\(path) has no lease \(resource) any more" }
    }

    private func json(_ resource: String, _ status: String) -> JSONValue { .object(["name": .string(resource), "status": .string(status), "path": .string(path)]) }
}
