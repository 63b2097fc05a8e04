import CLinux
import Foundation
import LeaseFormat
import Messages
import TestLab

/// One storage domain that lease-services and real sanlock daemons share, for one test.
///
/// It lives in memory where that takes direct I/O: what is tested is who gets which lease, not the disk.
final class SanlockLab {
    let directory: String
    let lockspace = "4c3f7d5e-0c1f-4a53-8a2e-6b1f5f0d9a11"
    let ioTimeout: Int
    private var ends: [() -> Void] = []

    private init(ioTimeout: Int) throws {
        self.ioTimeout = ioTimeout
        directory = "\(try Self.parent())/bw-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: "\(domain)/dom_md", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    /// Runs a test's body on a thread of its own: it waits a lot, and the threads of tests are few.
    /// - Throws: what the body throws, after everything was ended and removed.
    static func run(ioTimeout: Int = 2, _ body: @escaping @Sendable (SanlockLab) throws -> Void) async throws {
        try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
            Thread.detachNewThread {
                done.resume(with: Result {
                    let lab = try SanlockLab(ioTimeout: ioTimeout)
                    defer { lab.end() }
                    try body(lab)
                })
            }
        }
    }

    private func end() {
        for end in ends.reversed() { end() }
        try? FileManager.default.removeItem(atPath: directory)
    }

    func atEnd(_ end: @escaping () -> Void) { ends.append(end) }

    private static func parent() throws -> String {
        for parent in ["/dev/shm", "/var/tmp"] {
            let path = "\(parent)/bw-\(UUID().uuidString)"
            let file = cl_open(path, O_RDWR | O_CREAT | O_DIRECT, 0o600)
            unlink(path)
            if file >= 0 {
                close(file)
                return parent
            }
        }
        throw LabFailure("neither /dev/shm nor /var/tmp takes direct I/O")
    }

    // MARK: Volumes

    /// The domain's directory.
    var domain: String { "\(directory)/domain" }
    var layout: DomainLayout { DomainLayout(root: domain) }

    func lease(_ resource: String) -> LeaseName { LeaseName(lockspace: lockspace, resource: resource) }

    /// As sanlock names it.
    func resource(_ view: LeaseView) -> SanlockClient.Resource {
        SanlockClient.Resource(lockspace: view.lease.lockspace, name: view.lease.resource, path: layout.xleases, offset: view.offset)
    }

    /// Volumes of 4096-byte sectors, made by sanlock, with one lease in an index of ours.
    func makeLargeSectors(_ mebibytes: Int, lease: String) throws -> SanlockClient.Resource {
        guard let geometry = Geometry(sectorSize: 4096, alignment: mebibytes << 20) else { throw LabFailure("no volume has areas of \(mebibytes) MiB") }
        let area = UInt64(geometry.alignment)
        for (name, areas) in [("ids", 1), ("leases", 2), ("xleases", 4)] {
            let path = "\(domain)/dom_md/\(name)"
            try expect(FileManager.default.createFile(atPath: path, contents: nil) && truncate(path, geometry.alignment * areas) == 0, path)
        }
        let sizes = ["-Z", "4096", "-A", "\(mebibytes)M"]
        let resource = SanlockClient.Resource(lockspace: lockspace, name: lease, path: layout.xleases, offset: 3 * area)
        try SanlockDaemon.direct(["init", "-s", "\(lockspace):0:\(layout.ids):0", "-o", String(ioTimeout)] + sizes)
        try SanlockDaemon.direct(["init", "-r", resource.text] + sizes)
        var index = LeaseIndex(lockspace: lockspace, time: 1, geometry: geometry)
        _ = index.enter(lease, at: 0)
        guard let file = FileHandle(forWritingAtPath: layout.xleases) else { throw LabFailure("cannot write \(layout.xleases)") }
        try file.seek(toOffset: area)
        try file.write(contentsOf: index.image)
        try file.close()
        return resource
    }

    // MARK: Hosts

    /// A lease-service that has not joined.
    /// - Parameter vouching: an operator says that all hosts have watchdogs.
    func node(_ hostID: Int, vouching: Bool = false) throws -> LeaseNode {
        let node = try LeaseNode(name: "node\(hostID)", hostID: hostID, in: directory, settings: vouching ? ["lease.expiredOwners": "\(lockspace)=watchdogPromised"] : [:])
        atEnd { node.kill() }
        return node
    }

    /// The first of ours: makes the domain, joins, and creates leases.
    func founder(_ hostID: Int, leases: [String], vouching: Bool = false) throws -> (node: LeaseNode, leases: [LeaseView]) {
        let node = try node(hostID, vouching: vouching)
        try node.initialize(lockspace, at: domain, ioTimeout: ioTimeout)
        try node.join(lockspace, at: domain)
        return (node, try node.create(leases, in: lockspace))
    }

    /// A real sanlock that is a host of the lockspace.
    func daemon(_ hostID: Int) throws -> SanlockDaemon {
        let daemon = try SanlockDaemon(name: "sanlock\(hostID)", in: directory)
        atEnd { daemon.kill() }
        try join(daemon, hostID)
        return daemon
    }

    /// A host whose engine is a real sanlock: a daemon that has joined nothing, and a lease-service that drives it.
    func driven(_ hostID: Int) throws -> (node: LeaseNode, daemon: SanlockDaemon) {
        let daemon = try SanlockDaemon(name: "sanlock\(hostID)", in: directory)
        atEnd { daemon.kill() }
        let node = try LeaseNode(name: "node\(hostID)", hostID: hostID, in: directory, settings: ["engine": "sanlock", "sanlock.runDirectory": daemon.run])
        atEnd { node.kill() }
        return (node, daemon)
    }

    func guarded(_ vm: String, attempt: UInt64 = 1, _ leases: [String], on node: LeaseNode) throws -> GuardedRun {
        try guarded(Holder(role: .vm, name: vm, attempt: attempt), leases, on: node)
    }

    func guarded(_ holder: Holder, _ leases: [String], on node: LeaseNode) throws -> GuardedRun {
        let run = try GuardedRun(holder, leases.map(lease), run: node.run)
        atEnd { run.kill() }
        return run
    }

    func join(_ daemon: SanlockDaemon, _ hostID: Int) throws { try daemon.join(lockspace, hostID: hostID, at: layout.ids, ioTimeout: ioTimeout) }
}

/// What sanlock's client library calls the results that tests expect.
enum SanlockResult {
    static let ok: Int32 = 0
    /// Another host holds it and is alive.
    static let alive: Int32 = -243
    /// Somebody shares it: an owner must wait.
    static let isShared: Int32 = -11
}

func expect(_ condition: Bool, _ what: @autoclosure () throws -> String) throws {
    if !condition { throw LabFailure(try what()) }
}

extension LeaseClient {
    /// - Throws: ``LabFailure`` with the refusal.
    @discardableResult func take(_ lease: LeaseName, _ mode: LeaseMode = .exclusive) throws -> GuardLease {
        let answer = try acquire([lease], mode)
        guard let held = answer.leases.first else { throw LabFailure("\(holder) does not get \(lease.resource): \(answer)") }
        return held
    }

    func expectRefusal(_ lease: LeaseName, naming owner: String) throws {
        guard case .refused(let code, let message) = try acquire([lease]) else { throw LabFailure("\(holder) got \(lease.resource) that \(owner) holds") }
        try expect(code == LeaseErrorCode.held.rawValue && message.contains(owner), "\(holder) is refused with \(code): \(message)")
    }
}

extension SanlockClient {
    func take(_ resource: Resource, shared: Bool = false) throws {
        let result = try acquire(resource, shared: shared)
        try expect(result == SanlockResult.ok, "sanlock does not get \(resource.name): \(result)")
    }

    func giveBack() throws {
        let result = try release()
        try expect(result == SanlockResult.ok, "sanlock cannot release: \(result)")
    }

    func expectAlive(_ resource: Resource, shared: Bool = false) throws {
        let result = try acquire(resource, shared: shared)
        try expect(result == SanlockResult.alive, "sanlock should see the owner of \(resource.name) alive (-243), and says \(result)")
    }
}
