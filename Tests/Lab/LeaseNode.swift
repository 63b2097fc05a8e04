import Bus
import CLinux
import Foundation
import Messages
import ServiceKit

/// One real lease-service alone: a host without an agent, whose guards are ``LeaseClient``s.
package final class LeaseNode {
    package let name: String
    package let hostID: Int
    /// Run directory: sockets and locks.
    package let run: String
    private let directory: String
    private var child: Child?
    private var client: BlockingClient?

    /// Starts it.
    /// - Parameters:
    ///   - directory: an existing one for everything of this host; short, for sockets are in it.
    ///   - memory: an existing one for its run directory instead, in a file system without a device, as `/run` is one.
    ///   - settings: of its configuration, such as `lease.settle`.
    ///   - fencing: whose signature under proofs it accepts.
    package init(name: String, hostID: Int, in directory: String, memory: String? = nil, settings: [String: String] = [:], fencing: KeyFile? = nil) throws {
        self.name = name
        self.hostID = hostID
        self.directory = "\(directory)/\(name)"
        run = memory.map { "\($0)/\(name)" } ?? "\(self.directory)/run"
        for part in ["\(run)/locks", "\(self.directory)/state", "\(self.directory)/keys"] {
            try FileManager.default.createDirectory(atPath: part, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        }
        let file = ClusterFile(cluster: "lab", state: "\(self.directory)/state", run: run, keys: "\(self.directory)/keys", shared: nil, services: [:])
        try JSON.encode(file).write(to: URL(fileURLWithPath: "\(self.directory)/cluster.yaml"))
        if let fencing { try AllowList(entries: [fencing.entry]).save(file.allowListPath) }
        for id in ["boot-id", "hardware-id"] { try Data("\(UUID().uuidString.lowercased())\n".utf8).write(to: URL(fileURLWithPath: "\(self.directory)/\(id)")) }
        var sections: [String: [String: String]] = [
            "host": ["name": name, "id": String(hostID), "bootIDFile": "\(self.directory)/boot-id", "hardwareIDFile": "\(self.directory)/hardware-id"]
        ]
        var text = "run: \"\(run)\"\nstate: \"\(self.directory)/state\"\n"
        for (key, value) in settings.sorted(by: { $0.key < $1.key }) {
            let parts = key.split(separator: ".", maxSplits: 1).map(String.init)
            if parts.count == 2 { sections[parts[0], default: [:]][parts[1]] = value } else { text += "\(key): \"\(value)\"\n" }
        }
        for (section, values) in sections.sorted(by: { $0.key < $1.key }) {
            text += "\(section):\n" + values.sorted { $0.key < $1.key }.map { "  \($0.key): \"\($0.value)\"\n" }.joined()
        }
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(self.directory)/lease-service.yaml"))
        try start()
    }

    deinit { kill() }

    // MARK: Process

    package var pid: pid_t { child?.pid ?? -1 }
    package var log: String { FileManager.default.contents(atPath: "\(directory)/log").map { String(decoding: $0, as: UTF8.self) } ?? "" }

    /// Until its sockets are there.
    package func start() throws {
        let guards = "\(run)/lease-service.guards"
        unlink(guards)
        try spawn()
        do {
            try child?.await("\(name): lease-service listens", seconds: 10) { LocalSocket.isListening(at: guards, .packets) }
        } catch {
            throw LabFailure("\(error)\n\(log.suffix(600))")
        }
    }

    /// Only begins it; whoever measures waits by itself.
    package func spawn() throws {
        client = nil
        child = try Child.start(
            "\(Child.binaries)/lease-service", ["--cluster", "\(directory)/cluster.yaml", "--config", "\(directory)/lease-service.yaml"], log: "\(directory)/log", diesWithThread: true)
    }

    /// kill -9. Its leases stay on disk, its journal, boot id and locks as they are.
    package func kill() {
        child?.kill()
        child = nil
        client = nil
    }

    /// Stops it where it stands, as a frozen machine would.
    package func freeze() { Glibc.kill(pid, SIGSTOP) }
    package func thaw() { Glibc.kill(pid, SIGCONT) }

    /// Another boot of the machine: the next start does not find its own.
    package func reboot() throws {
        kill()
        try Data("\(UUID().uuidString.lowercased())\n".utf8).write(to: URL(fileURLWithPath: "\(directory)/boot-id"))
        try start()
    }

    // MARK: Requests

    package func call<Reply: Decodable>(_ type: Reply.Type, _ request: String, _ body: any Encodable, seconds: Int64 = 60) throws -> Reply {
        try ReplyFrame.body(type, connection().call(request, body, timeout: .seconds(seconds)))
    }

    /// What it publishes about itself, without looking at any disk.
    package func snapshot() throws -> LeaseSnapshot { try LabCluster.snapshot(connection(), as: LeaseSnapshot.self) }

    private func connection() throws -> BlockingClient {
        let connection = try client ?? BlockingClient(endpoint: "ipc://\(run)/lease-service.requests", from: "lab")
        client = connection
        return connection
    }

    /// Writes the lease volumes of a new domain in a directory.
    package func initialize(_ lockspace: String, at path: String, ioTimeout: Int) throws {
        try FileManager.default.createDirectory(atPath: "\(path)/dom_md", withIntermediateDirectories: true)
        _ = try call(Nothing.self, "lockspace.initialize", LockspaceInitialize(lockspace: lockspace, path: path, ioTimeout: ioTimeout))
    }

    @discardableResult package func join(_ lockspace: String, at path: String, seconds: Int64 = 240) throws -> LockspaceView {
        try call(LockspaceView.self, "lockspace.join", LockspaceJoin(lockspace: lockspace, path: path), seconds: seconds)
    }

    /// What it publishes from now on.
    package func listen(to topic: String) throws -> LeaseEvents { try LeaseEvents(endpoint: "ipc://\(run)/lease-service.events", topic: topic) }

    package func leave(_ lockspace: String) throws { _ = try call(Nothing.self, "lockspace.leave", LockspaceRequest(lockspace: lockspace)) }

    /// The lockspace with its hosts, freshly read.
    package func inspect(_ lockspace: String) throws -> LockspaceView {
        guard let view = try call(LockspaceList.self, "lockspace.inspect", LockspaceRequest(lockspace: lockspace)).lockspaces.first else {
            throw LabFailure("\(name) cannot read \(lockspace)")
        }
        return view
    }

    package func lookup(_ lease: LeaseName) throws -> LeaseView { try call(LeaseView.self, "lease.lookup", LeaseRequest(lease: lease)) }

    /// Creates leases as an SPM does: while holding SDM.
    /// - Returns: where they are.
    @discardableResult package func create(_ resources: [String], in lockspace: String) throws -> [LeaseView] {
        let spm = try guarded(Holder(role: .spm, name: "lab", attempt: 1))
        guard let sdm = try spm.acquire([LeaseName(lockspace: lockspace, resource: DomainLayout.sdm)]).leases.first else { throw LabFailure("\(name) does not get SDM of \(lockspace)") }
        let views = try resources.map { try call(LeaseView.self, "lease.create", LeaseRequest(lease: LeaseName(lockspace: lockspace, resource: $0), lver: sdm.lver)) }
        try spm.release()
        return views
    }

    /// A client of this host.
    package func guarded(_ holder: Holder) throws -> LeaseClient { try LeaseClient(run: run, holder: holder) }
    package func guarded(_ vm: String, attempt: UInt64 = 1) throws -> LeaseClient { try guarded(Holder(role: .vm, name: vm, attempt: attempt)) }
}

/// Events of one topic.
package final class LeaseEvents {
    private let subscriber: BlockingSubscriber

    fileprivate init(endpoint: String, topic: String) throws { subscriber = try BlockingSubscriber(endpoint: endpoint, topics: [topic]) }

    /// The next one; `nil` if none comes in time.
    package func next<Body: Decodable>(_ type: Body.Type, seconds: Int64) throws -> Body? {
        try subscriber.next(timeout: .seconds(seconds)).map { try EventFrame.body(type, $0.frame) }
    }
}
