import Bus
import CLinux
import LeaseFormat
import Messages

/// Makes the index of a volume and its leases agree again, without any service.
struct DirectRebuild {
    let path: String
    let use: UseCheck
    let confirmation: Confirmation

    /// - Throws: `RequestError`; what was written by then is readable, and the same command finishes it.
    func run(_ options: GlobalOptions) throws {
        let file = DirectVolume(path: path)
        let volume = try IndexVolume(file)
        let index = try volume.found()
        let action = "rebuild the lease index of \(path)"
        let safe = try use.require(nobodyIn: index.lockspace, of: path, to: action)
        let capacity = LeaseIndex.capacity(volumeSize: try file.requireSize(), geometry: volume.geometry)
        var slots: [IndexRebuild.Found] = []
        for number in 0..<capacity {
            slots.append(IndexRebuild.Found(sector: try file.read(index.leaseOffset(number), volume.geometry.sectorSize)[...]))
        }
        // Nobody can hold a lease without a host id; where that is not known, the operator decides.
        let rebuild = IndexRebuild(of: index, capacity: capacity, found: { slots[$0] }, accept: { _ in true })
        guard !rebuild.steps.isEmpty || index.isUpdating || volume.isTimeless else {
            return try options.show(Self.json(rebuild, index)) { "index and leases of \(path) agree already; nothing was written" }
        }
        let steps = rebuild.steps.map { "record \($0.record): \($0.sentence)" }
        let lost = safe.notChecked.isEmpty ? [] : rebuild.steps.compactMap { step in step.endangers.map { "whether somebody uses what stands in slot \(step.record): \($0.words)" } }
        try confirmation.require(
            action, meaning: steps.isEmpty ? "every record is kept" : steps.joined(separator: "; "), name: index.lockspace,
            checked: safe.checked + ["\(capacity) leases were compared with their records"], notChecked: safe.notChecked + lost)
        _ = try use.require(nobodyIn: index.lockspace, of: path, to: action)
        for step in rebuild.steps {
            for area in rebuild.writes(of: step) { try file.write(area.leaderLast(volume.geometry)) }
        }
        try file.write(rebuild.index.replacing(time: UInt64(cl_realtime() / 1_000_000_000)))
        try options.show(Self.json(rebuild, index)) { (["the lease index of \(path) is rebuilt: \(rebuild.index.leases.count) leases"] + steps).joined(separator: "\n") }
    }

    private static func json(_ rebuild: IndexRebuild, _ index: LeaseIndex) -> JSONValue {
        .object([
            "name": .string(index.lockspace), "status": .string("ok"), "leases": .signed(Int64(rebuild.index.leases.count)),
            "steps": .array(rebuild.steps.map { .object(["record": .signed(Int64($0.record)), "what": .string($0.sentence)]) }),
        ])
    }
}

extension IndexVolume {
    /// Its time cannot be read: only a rebuild makes it usable.
    var isTimeless: Bool { (try? LeaseIndex(bytes[...], geometry: geometry)) == nil }
}

extension IndexRebuild.Found {
    var words: String {
        switch self {
        case .nothing: "nothing"
        case .lease(let leader): "lease \(leader.name), held by host id \(leader.ownerID), generation \(leader.ownerGeneration)"
        case .unreadable(let error): error.sentence
        }
    }
}
