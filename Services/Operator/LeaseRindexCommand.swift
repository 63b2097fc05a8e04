import ArgumentParser
import Bus
import Foundation
import LeaseFormat
import Messages

/// sanlock's own index of resources at a place in a volume.
struct RindexVolume {
    let place: VolumePlace
    var volume: DirectVolume { DirectVolume(path: place.path) }
    var words: String { "the resource index at \(place.offset) of \(place.path)" }

    /// - Throws: `RequestError` `volume.unreadable`; `lease.corrupt` if it is none.
    func index() throws(RequestError) -> ResourceIndex {
        let probe = try volume.read(place.offset, Geometry.probeLength)
        do {
            let length = try ResourceIndex.length(header: probe[...], offset: place.offset)
            return try ResourceIndex(try volume.read(place.offset, length)[...], offset: place.offset)
        } catch let error as FormatError {
            throw RequestError(LeaseErrorCode.corrupt, "\(words): \(error.sentence)")
        } catch let error as RequestError {
            throw error
        } catch {
            throw RequestError(LeaseErrorCode.corrupt, "\(words): \(error)")
        }
    }

    func notFound(_ resource: String) -> RequestError { RequestError(LeaseErrorCode.notFound, "\(words) has no lease \(resource)") }

    func refused(_ failure: ResourceIndex.Failure, _ resource: String) -> RequestError {
        switch failure {
        case .noSpace: RequestError(LeaseErrorCode.noSpace, "\(words) is full")
        case .exists(let entry): RequestError(LeaseErrorCode.exists, "\(words) has lease \(resource) already, in entry \(entry)")
        case .notFound: notFound(resource)
        case .unreadable(let error): RequestError(LeaseErrorCode.corrupt, "\(words): \(error.sentence); rebuild it")
        }
    }

    /// Entries that name a lease or cannot be read.
    func entries(_ index: ResourceIndex) -> [VolumeRecord] {
        (0..<index.capacity).compactMap { number in
            var fields: [String: JSONValue] = [
                "lockspace": .string(index.lockspace), "record": .signed(Int64(number)), "leaseOffset": .unsigned(index.leaseOffset(number)), "name": .string(""),
            ]
            switch index.entry(number) {
            case .free: return nil
            case .lease(let name):
                fields["name"] = .string(name)
                fields["status"] = .string("ok")
            case .unreadable(let error):
                fields["status"] = .string("corrupt")
                fields["reason"] = .string(error.sentence)
            }
            return VolumeRecord(offset: place.offset + UInt64(index.geometry.sectorSize + 64 * number), kind: .entry, fields: fields)
        }
    }

    /// The header, with `all` also the entries.
    func records(all: Bool) -> [VolumeRecord] {
        do throws(RequestError) {
            let index = try index()
            let fields: [String: JSONValue] = [
                "name": .string(index.lockspace), "lockspace": .string(index.lockspace), "status": .string("ok"), "capacity": .signed(Int64(index.capacity)),
                "alignment": .signed(Int64(index.geometry.alignment)), "sectorSize": .signed(Int64(index.geometry.sectorSize)),
            ]
            return [VolumeRecord(offset: place.offset, kind: .index, fields: fields, detail: "sanlock's, for \(index.capacity) leases")] + (all ? entries(index) : [])
        } catch {
            return [VolumeRecord(offset: place.offset, kind: .index, fields: ["name": .string(""), "status": .string("corrupt"), "reason": .string(error.message)], detail: error.message)]
        }
    }

    /// Nobody may change it meanwhile: no host is in its lockspace, and its own lease is free. What cannot be checked, or destroys something, needs a confirmation.
    func require(_ index: ResourceIndex, to action: String, destroys what: String? = nil, _ use: UseCheck, _ confirmation: Confirmation) throws {
        let safe = try use.require(nobodyIn: index.lockspace, of: place.path, to: action)
        let own = try AreaSurvey(of: volume, at: index.internalLeaseOffset, index.geometry.alignment)
        guard own.users.isEmpty || safe.notChecked.isEmpty else { throw own.inUse(action) }
        guard what != nil || !safe.notChecked.isEmpty else { return }
        try confirmation.require(action, meaning: what, name: index.lockspace, checked: safe.checked, notChecked: safe.notChecked + own.unreadable)
        // A confirmation takes time.
        let isKnown = try use.require(nobodyIn: index.lockspace, of: place.path, to: action).notChecked.isEmpty
        let again = try AreaSurvey(of: volume, at: index.internalLeaseOffset, index.geometry.alignment)
        guard again.users.isEmpty || isKnown else { throw again.inUse(action) }
    }
}

extension LeaseCommand {
    /// `bulwark lease rindex`: sanlock's index of resources, without any daemon.
    struct Rindex: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "sanlock's own index of resources, without any daemon: format, list, lookup, create, remove, rebuild.",
            subcommands: [Format.self, List.self, Lookup.self, Create.self, Remove.self, Rebuild.self])

        struct Format: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Write a new, empty index and its internal lease.")
            @Option(help: "FILE[:OFFSET]") var path: VolumePlace
            @Option(help: "Lockspace.") var lockspace: String
            @Option(help: "Leases that it has room for.") var entries = ResourceIndex.standardCapacity
            @OptionGroup var geometry: GeometryOptions
            @OptionGroup var use: UseCheck
            @OptionGroup var confirmation: Confirmation
            @OptionGroup var options: GlobalOptions

            func run() throws {
                try requireStorable(lockspace, "lockspace")
                let geometry = try geometry.geometry()
                try path.requireAligned(geometry)
                guard let index = ResourceIndex(lockspace: lockspace, offset: path.offset, capacity: entries, geometry: geometry) else {
                    throw ValidationError("an index has room for 1 to \(ResourceIndex.maximumCapacity(geometry)) leases")
                }
                let rindex = RindexVolume(place: path)
                let action = "format \(rindex.words) for lockspace \(lockspace)"
                let places = [path.offset, index.internalLeaseOffset]
                let there = try places.map { try rindex.volume.requireUnused($0, geometry.alignment, to: action) }
                let lost = there.compactMap(\.description)
                if let found = try? rindex.index(), found.lockspace != lockspace { throw OperatorError.otherLockspace(found.lockspace, action) }
                if !lost.isEmpty { try rindex.require(index, to: action, destroys: "\(lost.joined(separator: " and ")) is overwritten", use, confirmation) }
                for (place, found) in zip(places, there) { try rindex.volume.requireStill(found, place, geometry.alignment, to: action) }
                try rindex.volume.write(index.formatWrites)
                try options.show(.object(["name": .string(lockspace), "path": .string(path.path), "status": .string("ok")])) { "\(rindex.words) is empty, for lockspace \(lockspace)" }
            }
        }

        struct List: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Every entry that names a lease or cannot be read.")
            @Option(help: "FILE[:OFFSET]") var path: VolumePlace
            @OptionGroup var options: GlobalOptions

            func run() throws {
                let rindex = RindexVolume(place: path)
                let entries = rindex.entries(try rindex.index())
                try options.show(.array(entries.map(\.json))) {
                    var table = Table("ENTRY", "LEASE", "STATUS", "OFFSET", "DETAIL")
                    for entry in entries {
                        table.add(
                            entry.fields["record"]?.line ?? "-", entry.fields["name"]?.string ?? "-", entry.fields["status"]?.string ?? "-",
                            entry.fields["leaseOffset"]?.line ?? "-", entry.fields["reason"]?.string ?? "")
                    }
                    return table.text(empty: "no leases")
                }
            }
        }

        struct Lookup: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Where a lease is.")
            @Argument(help: "Resource.") var resource: String
            @Option(help: "FILE[:OFFSET]") var path: VolumePlace
            @OptionGroup var options: GlobalOptions

            func run() throws {
                let rindex = RindexVolume(place: path)
                let index = try rindex.index()
                guard let entry = index.lookup(resource) else { throw rindex.notFound(resource) }
                try options.show(.object(["name": .string(resource), "status": .string("ok"), "record": .signed(Int64(entry)), "leaseOffset": .unsigned(index.leaseOffset(entry))])) {
                    "\(resource) is at \(index.leaseOffset(entry)) of \(path.path)"
                }
            }
        }

        struct Create: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Make a lease and enter it.")
            @Argument(help: "Resource.") var resource: String
            @Option(help: "FILE[:OFFSET]") var path: VolumePlace
            @OptionGroup var use: UseCheck
            @OptionGroup var confirmation: Confirmation
            @OptionGroup var options: GlobalOptions

            func run() throws {
                try requireStorable(resource, "lease")
                let rindex = RindexVolume(place: path)
                var index = try rindex.index()
                let made: (entry: Int, writes: [VolumeWrite])
                do {
                    made = try index.create(resource, volumeSize: rindex.volume.limit)
                } catch {
                    throw rindex.refused(error, resource)
                }
                let action = "make lease \(resource) in \(rindex.words)"
                let there = try rindex.volume.requireUnused(index.leaseOffset(made.entry), index.geometry.alignment, to: action)
                try rindex.require(index, to: action, use, confirmation)
                try rindex.volume.requireStill(there, index.leaseOffset(made.entry), index.geometry.alignment, to: action)
                try rindex.volume.write(made.writes)
                try options.show(.object(["name": .string(resource), "status": .string("free"), "leaseOffset": .unsigned(index.leaseOffset(made.entry))])) {
                    "lease \(resource) is at \(index.leaseOffset(made.entry)) of \(path.path)"
                }
            }
        }

        struct Remove: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Remove a lease that nobody holds.")
            @Argument(help: "Resource.") var resource: String
            @Option(help: "FILE[:OFFSET]") var path: VolumePlace
            @OptionGroup var use: UseCheck
            @OptionGroup var confirmation: Confirmation
            @OptionGroup var options: GlobalOptions

            func run() throws {
                let rindex = RindexVolume(place: path)
                var index = try rindex.index()
                let gone: (entry: Int, writes: [VolumeWrite])
                do {
                    gone = try index.delete(resource, time: UInt64(ProcessInfo.processInfo.systemUptime))
                } catch {
                    throw rindex.refused(error, resource)
                }
                let action = "remove lease \(resource) from \(rindex.words)"
                let there = try rindex.volume.requireUnused(index.leaseOffset(gone.entry), index.geometry.alignment, to: action)
                try rindex.require(index, to: action, destroys: "its history ends", use, confirmation)
                try rindex.volume.requireStill(there, index.leaseOffset(gone.entry), index.geometry.alignment, to: action)
                try rindex.volume.write(gone.writes)
                try options.show(.object(["name": .string(resource), "status": .string("removed")])) { "\(rindex.words) has no lease \(resource) any more" }
            }
        }

        struct Rebuild: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Enter what the leases say themselves.", discussion: "What cannot be told of an area leaves its entry as it is, and is told.")
            @Option(help: "FILE[:OFFSET]") var path: VolumePlace
            @OptionGroup var use: UseCheck
            @OptionGroup var confirmation: Confirmation
            @OptionGroup var options: GlobalOptions

            func run() throws {
                let rindex = RindexVolume(place: path)
                var index = try rindex.index()
                let before = index
                let size = try rindex.volume.requireSize()
                var areas: [Int: IndexRebuild.Found] = [:]
                for entry in 0..<index.capacity where index.leaseOffset(entry) + UInt64(index.geometry.alignment) <= size {
                    areas[entry] = IndexRebuild.Found(sector: try rindex.volume.read(index.leaseOffset(entry), index.geometry.sectorSize)[...])
                }
                let (writes, doubtful) = index.rebuild { areas[$0] }
                let left = doubtful.map { "entry \($0) is left as it is: its area holds a damaged lease, or one of another lockspace" }
                if index != before {
                    try rindex.require(index, to: "rebuild \(rindex.words)", destroys: "\(before.leases.count) leases are entered now, \(index.leases.count) afterwards", use, confirmation)
                    try rindex.volume.write(writes)
                }
                try options.show(.object(["name": .string(index.lockspace), "status": .string("ok"), "leases": .signed(Int64(index.leases.count)), "left": .array(left.map { .string($0) })])) {
                    (["\(rindex.words) has \(index.leases.count) leases"] + left).joined(separator: "\n")
                }
            }
        }
    }
}
