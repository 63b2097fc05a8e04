import ArgumentParser
import Bus
import CLinux
import Foundation
import LeaseFormat
import Messages

/// Whether somebody could be using the leases of a volume: the host ids of its lockspace tell.
struct UseCheck: ParsableArguments {
    @Option(help: "Lockspace of these leases, FILE[:OFFSET] (default: the file ids beside the volume).") var ids: VolumePlace?

    /// - Returns: what was checked and what could not be.
    /// - Throws: `RequestError` `lockspace.in-use` while a host has a host id there.
    func require(nobodyIn lockspace: String, of volume: String, to action: String) throws -> (checked: [String], notChecked: [String]) {
        let beside = VolumePlace(path: URL(fileURLWithPath: volume).deletingLastPathComponent().appendingPathComponent("ids").path)
        let place = ids ?? beside
        let file = DirectVolume(path: place.path)
        let unknown = "whether a host uses lockspace \(lockspace)"
        guard ids != nil || FileManager.default.fileExists(atPath: place.path) else { return ([], ["\(unknown): there is no file ids beside the volume; name it with --ids"]) }
        // Whatever lockspace it is: who names the wrong one does not get past the hosts that are there.
        let survey = try file.requireUnused(place.offset, Geometry.standard.alignment, to: action)
        guard case .lockspace(let found) = survey.content else { return ([], ["\(unknown): \(place.path) holds no lockspace at \(place.offset)"] + survey.unreadable) }
        guard found == lockspace else { return ([], ["\(unknown): \(place.path) holds the lockspace \(found)"] + survey.unreadable) }
        return (["no host has a host id in lockspace \(lockspace)"], survey.unreadable)
    }
}

extension LeaseCommand {
    /// `bulwark lease index`: oVirt's index in an xleases volume, without any service.
    struct Index: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The index of an xleases volume, without any service: format, lookup, list, rebuild.",
            subcommands: [Format.self, Lookup.self, List.self, Rebuild.self])

        struct Format: ParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Write a new, empty index.",
                discussion: "Refused while a host has a host id in its lockspace. An index that is there is replaced only if confirmed: its leases are forgotten.")
            @Option(help: "xleases volume.") var path: String
            @Option(help: "Lockspace.") var lockspace: String
            @OptionGroup var geometry: GeometryOptions
            @OptionGroup var use: UseCheck
            @OptionGroup var confirmation: Confirmation
            @OptionGroup var options: GlobalOptions

            func run() throws {
                try requireStorable(lockspace, "lockspace")
                let geometry = try geometry.geometry()
                let volume = DirectVolume(path: path)
                let action = "format the lease index of \(path) for lockspace \(lockspace)"
                let there = try volume.readWhatIsThere(LeaseIndex.offset(geometry), geometry.alignment)
                let found = try volume.requireUnused(LeaseIndex.offset(geometry), geometry.alignment, to: action)
                if let what = found.description {
                    let safe = try use.require(nobodyIn: lockspace, of: path, to: action)
                    let index = try? LeaseIndex(rebuilding: there[...], geometry: geometry)
                    if let index, index.lockspace != lockspace { throw OperatorError.otherLockspace(index.lockspace, action) }
                    let count = index?.leases.count
                    try confirmation.require(
                        action, meaning: "\(what) is overwritten" + (count.map { ", its \($0) leases are forgotten" } ?? ""), name: lockspace, checked: safe.checked,
                        notChecked: found.unreadable + safe.notChecked)
                    _ = try use.require(nobodyIn: lockspace, of: path, to: action)
                }
                try volume.requireStill(found, LeaseIndex.offset(geometry), geometry.alignment, to: action)
                let time = UInt64(cl_realtime() / 1_000_000_000)
                try volume.write(LeaseIndex(lockspace: lockspace, time: time, geometry: geometry).replacing(time: time))
                try options.show(.object(["name": .string(lockspace), "path": .string(path), "status": .string("ok")])) { "\(path) has an empty index of lockspace \(lockspace)" }
            }
        }

        struct Lookup: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Where a lease is.")
            @Argument(help: "Resource.") var resource: String
            @Option(help: "xleases volume.") var path: String
            @OptionGroup var options: GlobalOptions

            func run() throws {
                let volume = try IndexVolume(DirectVolume(path: path))
                let index = try volume.index()
                guard let record = index.lookup(resource) else { throw RequestError(LeaseErrorCode.notFound, "the index of \(path) has no lease \(resource)") }
                guard let entry = volume.entries(index).first(where: { $0.fields["record"] == .signed(Int64(record)) }) else { return }
                try options.show(entry.json) { "\(resource) is at \(index.leaseOffset(record)) of \(path)" }
            }
        }

        struct List: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Every record that names a lease or cannot be read.")
            @Option(help: "xleases volume.") var path: String
            @OptionGroup var options: GlobalOptions

            func run() throws {
                let volume = try IndexVolume(DirectVolume(path: path))
                let index = try volume.found()
                let entries = volume.entries(index)
                try options.show(.array(entries.map(\.json))) {
                    var table = Table("RECORD", "LEASE", "STATUS", "OFFSET", "DETAIL")
                    for entry in entries {
                        table.add(
                            entry.fields["record"]?.line ?? "-", entry.fields["name"]?.string ?? "-", entry.fields["status"]?.string ?? "-",
                            entry.fields["leaseOffset"]?.line ?? "-", entry.fields["reason"]?.string ?? "")
                    }
                    return table.text(empty: "no leases") + (index.isUpdating ? "\nan update of the whole index did not finish: `bulwark lease rebuild` repairs it" : "")
                }
            }
        }

        struct Rebuild: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Make index and leases agree again.")
            @Option(help: "xleases volume.") var path: String
            @OptionGroup var use: UseCheck
            @OptionGroup var confirmation: Confirmation
            @OptionGroup var options: GlobalOptions

            func run() throws { try DirectRebuild(path: path, use: use, confirmation: confirmation).run(options) }
        }
    }
}

extension DirectVolume {
    func write(_ writes: [VolumeWrite]) throws(RequestError) {
        for step in writes { try write(step.offset, step.bytes) }
    }
}
