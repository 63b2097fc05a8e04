import Foundation
import Messages
import ServiceKit

/// One local cluster on this machine: where everything of it is. Several live side by side; every name carries the instance's.
struct Instance: Sendable {
    /// What `up` decided when it made the instance; kept in `<state>/lab.json`.
    struct Settings: Codable, Hashable, Sendable {
        /// host1 ... hostN.
        var hosts: Int
        /// Directory of the executables.
        var executables: String
        /// The compose file.
        var compose: String
        /// Directory of the lab's scripts.
        var lab: String
        /// Uuid of the storage domain `data`.
        var domain: String
        /// Each host sees the shared directory through a process of its own, so that `lab cut-storage` works; slow, so never measured.
        var bindfs: Bool?
        /// A container engine runs the parts, and each host is a container that makes its own chassis.
        var inContainers: Bool?
    }

    var file: ClusterFile
    var settings: Settings

    var name: String { file.cluster }
    var clusterFile: String { "\(file.state)/cluster.yaml" }
    var settingsFile: String { "\(file.state)/lab.json" }
    var shared: String { file.shared ?? "\(file.state)/shared" }
    var configuration: String { "\(file.state)/config" }
    var logs: String { "\(file.state)/logs" }
    var guestDisk: String { "\(file.state)/guest.img" }
    /// What belongs to the lab itself and dies with the machine: pid files, locks, faults.
    var labRun: String { "\(file.run)/lab" }
    var managerNamespace: String { "bw-\(name)" }
    var hosts: [Chassis] { settings.hosts < 1 ? [] : (1...settings.hosts).map { Chassis(instance: self, number: $0) } }

    func holdFile(_ process: String) -> String { "\(file.run)/hold/\(process)" }
    func pidFile(_ process: String) -> String { "\(labRun)/\(process.replacingOccurrences(of: "/", with: "."))" + ".pid" }

    /// A host by its name.
    /// - Throws: `RequestError` that lists the hosts.
    func host(_ name: String) throws -> Chassis {
        guard let found = hosts.first(where: { $0.name == name }) else {
            throw RequestError(RequestErrorCode.notFound, "\(self.name) has no host \(name); it has \(hosts.map(\.name).joined(separator: ", "))")
        }
        return found
    }

    /// What a local cluster of this name looks like.
    static func layout(name: String, stateRoot: String) -> ClusterFile {
        let state = "\(stateRoot)/\(name)"
        let run = "/run/bulwark/\(name)"
        let endpoints = ClusterFile.managerServices.map { service in
            (service, ClusterFile.Endpoints(requests: "ipc://\(run)/\(service).requests", events: "ipc://\(run)/\(service).events"))
        }
        return ClusterFile(
            cluster: name, state: state, run: run, keys: "\(state)/keys", shared: "\(state)/shared",
            services: Dictionary(uniqueKeysWithValues: endpoints))
    }

    /// An instance that `up` has made.
    static func load(_ options: GlobalOptions) throws -> Instance {
        let file = try options.clusterFile()
        guard let data = FileManager.default.contents(atPath: "\(file.state)/lab.json") else {
            throw RequestError(RequestErrorCode.notFound, "\(file.cluster) is not a local cluster that `bulwark up` made: \(file.state)/lab.json is missing")
        }
        return Instance(file: file, settings: try JSONDecoder().decode(Settings.self, from: data))
    }

    func save() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try Files.write(encoder.encode(settings), to: settingsFile)
    }

    /// Where cgroup version 2 is mounted.
    /// - Throws: `RequestError` when it is not.
    static func controlGroups() throws -> String {
        let mounts = (try? String(contentsOfFile: "/proc/mounts", encoding: .utf8)) ?? ""
        for line in mounts.split(separator: "\n") {
            let fields = line.split(separator: " ")
            if fields.count > 2, fields[2] == "cgroup2" { return String(fields[1]) }
        }
        throw RequestError(code: "lab.no-cgroup2", message: "no cgroup2 file system is mounted; the hosts of a local cluster need it (cgroup.kill, cgroup.freeze)")
    }
}

/// Small files, written whole or not at all.
enum Files {
    /// Writes only what changed.
    /// - Returns: whether it was.
    @discardableResult
    static func write(_ data: Data, to path: String, mode: Int = 0o644) throws -> Bool {
        if FileManager.default.contents(atPath: path) == data { return false }
        try directory((path as NSString).deletingLastPathComponent)
        let new = "\(path).new"
        try? FileManager.default.removeItem(atPath: new)
        guard FileManager.default.createFile(atPath: new, contents: data, attributes: [.posixPermissions: mode]), rename(new, path) == 0 else {
            throw RequestError(code: "file.unwritable", message: "\(path) cannot be written: \(String(cString: strerror(errno)))")
        }
        return true
    }

    @discardableResult
    static func write(_ text: String, to path: String, mode: Int = 0o644) throws -> Bool { try write(Data(text.utf8), to: path, mode: mode) }

    /// Writes into a file that must not be replaced, such as one of the kernel's.
    static func poke(_ text: String, into path: String) throws {
        guard let handle = FileHandle(forWritingAtPath: path) else { throw RequestError(code: "file.unwritable", message: "\(path) cannot be opened") }
        try handle.write(contentsOf: Data(text.utf8))
        try handle.close()
    }

    static func text(_ path: String) -> String? {
        (try? String(contentsOfFile: path, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    static func directory(_ path: String) throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

    static func remove(_ path: String) throws {
        guard exists(path) else { return }
        try FileManager.default.removeItem(atPath: path)
    }
}

extension GlobalOptions {
    /// Where the cluster file is, or would be: `--cluster`, `BULWARK_CLUSTER`, else the standard place.
    var clusterFilePath: String {
        let chosen = cluster ?? ProcessInfo.processInfo.environment["BULWARK_CLUSTER"] ?? ClusterFile.standardName
        return chosen.contains("/") ? chosen : ClusterFile.path(ofCluster: chosen)
    }
}
