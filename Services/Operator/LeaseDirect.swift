import ArgumentParser
import Bus
import LeaseFormat
import Messages

extension LeaseCommand {
    struct Init: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a new, free lease into a file or device, without any service.",
            discussion: """
                Refused while a host holds the lease that is there. What else the area holds is overwritten only if confirmed.
                A disk's lease in a domain is made by `bulwark lease create`.
                """)
        @Option(help: "FILE[:OFFSET]") var path: VolumePlace
        @Option(help: "Lockspace.") var lockspace: String
        @Option(help: "Name of the lease.") var resource: String
        @Option(help: "Host ids that take part in ballots, from 1 on (default: all); fewer make ballots cheaper for sanlock.") var hosts: Int?
        @OptionGroup var geometry: GeometryOptions
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            try requireStorable(lockspace, "lockspace")
            try requireStorable(resource, "lease")
            let geometry = try geometry.geometry()
            try path.requireAligned(geometry)
            let hosts = hosts ?? geometry.maximumHosts
            guard (1...geometry.maximumHosts).contains(hosts) else { throw ValidationError("of \(geometry.maximumHosts) host ids, 1 to all take part") }
            let volume = DirectVolume(path: path.path)
            let action = "initialise lease \(resource) of lockspace \(lockspace) at \(path.offset) of \(path.path)"
            let found = try volume.requireUnused(path.offset, geometry.alignment, to: action)
            if let what = found.description {
                try confirmation.require(
                    action, meaning: "\(what) is overwritten, and every version counted there", name: resource,
                    checked: found.content.isLease ? ["nobody holds it, as far as its blocks can be read"] : [],
                    notChecked: found.unreadable + ["whether a host is about to take it"])
            }
            let image = Images.resource(resource, lockspace: lockspace, hosts: UInt64(hosts), geometry: geometry)
            try volume.requireStill(found, path.offset, geometry.alignment, to: action)
            try volume.write(VolumeWrite(offset: path.offset, bytes: image).leaderLast(geometry))
            try options.show(
                .object(["name": .string(resource), "lockspace": .string(lockspace), "path": .string(path.path), "offset": .unsigned(path.offset), "status": .string("free")])
            ) { "lease \(resource) of lockspace \(lockspace) is at \(path.offset) of \(path.path), for \(hosts) host ids" }
        }
    }

    struct Dump: ParsableCommand {
        static let configuration = LockspaceCommand.Dump.configuration
        @Option(help: "FILE[:OFFSET[:SIZE]]") var path: VolumePlace
        @Flag(help: "Ballots, requests, index records and unused host ids, too.") var all = false
        @OptionGroup var options: GlobalOptions

        func run() throws { try VolumeDump(path).show(options, all: all) }
    }
}

extension AreaSurvey.Content {
    var isLease: Bool { if case .lease = self { true } else { false } }
}
