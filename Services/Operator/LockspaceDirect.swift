import ArgumentParser
import Bus
import LeaseFormat
import Messages

/// Sector size and area size of a volume, as options.
struct GeometryOptions: ParsableArguments {
    @Option(help: "Bytes of a sector: 512 or 4096.") var sector = 512
    @Option(help: "Size of an area: 1M, 2M, 4M or 8M (default: 1M; with sectors of 4096 bytes any of them).") var align = ByteCount(1 << 20)

    /// - Throws: `ValidationError` for a pair that sanlock does not know.
    func geometry() throws -> Geometry {
        guard align.value <= 8 << 20, let geometry = Geometry(sectorSize: sector, alignment: Int(align.value)) else {
            throw ValidationError("sectors of 512 bytes go with areas of 1M, sectors of 4096 bytes with areas of 1M, 2M, 4M or 8M")
        }
        return geometry
    }
}

extension VolumePlace {
    /// - Throws: `ValidationError` if areas do not begin there.
    func requireAligned(_ geometry: Geometry) throws {
        guard offset % UInt64(geometry.alignment) == 0 else { throw ValidationError("the offset \(offset) is no multiple of the area size \(geometry.alignment)") }
    }
}

/// A name that a volume can hold.
func requireStorable(_ name: String, _ what: String) throws {
    guard Names.isStorable(name) else { throw ValidationError("a \(what)'s name has 1 to \(Names.length) bytes") }
}

extension LockspaceCommand {
    struct Init: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a new lockspace into a file or device, without any service.",
            discussion: """
                Refused while a host has a host id there. What else the area holds is overwritten only if confirmed.
                `bulwark domain create` makes a domain with its lockspace; this is for volumes that other programs use.
                """)
        @Option(help: "FILE[:OFFSET]") var path: VolumePlace
        @Option(help: "Lockspace.") var name: String
        @Option(help: "Seconds within which storage answers; recorded for every host id.") var ioTimeout: UInt16 = 10
        @OptionGroup var geometry: GeometryOptions
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            try requireStorable(name, "lockspace")
            guard (1...600).contains(ioTimeout) else { throw ValidationError("an io-timeout is 1 to 600 seconds") }
            let geometry = try geometry.geometry()
            try path.requireAligned(geometry)
            let volume = DirectVolume(path: path.path)
            let action = "initialise lockspace \(name) at \(path.offset) of \(path.path)"
            let found = try volume.requireUnused(path.offset, geometry.alignment, to: action)
            if let what = found.description {
                try confirmation.require(
                    action, meaning: "\(what) is overwritten, and every generation counted there", name: name,
                    checked: found.content.isLockspace ? ["every host id that can be read is free"] : [], notChecked: found.unreadable)
            }
            try volume.requireStill(found, path.offset, geometry.alignment, to: action)
            // Without the magic of its first sector it is no lockspace: an initialisation that does not finish leaves none.
            try volume.write(path.offset, Images.uncommitted(lockspace: name, ioTimeout: ioTimeout, geometry: geometry))
            try volume.write(path.offset, LeaderRecord(lockspace: name, ioTimeout: ioTimeout, geometry: geometry).sector)
            try options.show(.object(["name": .string(name), "path": .string(path.path), "offset": .unsigned(path.offset), "status": .string("free")])) {
                "lockspace \(name) is at \(path.offset) of \(path.path): \(geometry.maximumHosts) host ids, io timeout \(ioTimeout) s"
            }
        }
    }

    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "What a volume holds, read from a file or device without any service.",
            discussion: "Lockspaces and leases alike. --json prints every field. Changes nothing and needs no confirmation.")
        @Option(help: "FILE[:OFFSET[:SIZE]]") var path: VolumePlace
        @Flag(help: "Unused host ids, ballots, requests and bitmaps, too.") var all = false
        @OptionGroup var options: GlobalOptions

        func run() throws { try VolumeDump(path).show(options, all: all) }
    }
}

extension AreaSurvey {
    func inUse(_ action: String) -> RequestError {
        OperatorError.volumeInUse.error("refused to \(action): \(users.prefix(5).joined(separator: "; "))\(users.count > 5 ? " and \(users.count - 5) more" : ""); nothing was written")
    }
}

extension AreaSurvey.Content {
    var isLockspace: Bool { if case .lockspace = self { true } else { false } }
}
