import Foundation
import Glibc
import Testing

/// What other programs may rely on, tried by other programs: Python clients on plain sockets and Debian's sanlock, on a running cluster.
@Suite(.serialized, .enabled(if: geteuid() == 0, "needs root: namespaces, QEMU, a BMC"), .runningCluster, .timeLimit(.minutes(15)))
struct InteropTests {
    let cluster: InteropCluster

    init() throws {
        cluster = try #require(InteropCluster.current)
    }

    /// One process, as `status --json` shows it.
    struct Endpoints: Codable {
        var name: String
        var requests: String
        var events: String
        var health: String
    }

    struct Status: Decodable {
        var processes: [Endpoints]
    }

    @Test("malformed frames of every kind are answered with the field named, and survived by every process")
    func malformedFrames() throws {
        struct Results: Decodable {
            struct Process: Decodable {
                var name: String
                var pid: Int32?
                var sent: Int
                var problems: [String]
            }
            var processes: [Process]
        }
        let processes = try cluster.json(Status.self, "status").processes
        #expect(processes.count == 4 + 2 * 3)
        let prober = try cluster.start("/usr/bin/python3", [InteropCluster.script("malformed.py")], input: try JSONEncoder().encode(processes))
        _ = try #require(prober.wait(deadline: 240), "malformed.py did not end: \(prober.complaints)")
        let results = try #require(try? JSONDecoder().decode(Results.self, from: prober.output), "\(prober.text)\(prober.complaints)")
        #expect(results.processes.map(\.name) == processes.map(\.name))
        for process in results.processes {
            #expect(process.problems.isEmpty, "\(process.name): \(process.problems.joined(separator: "\n"))")
            #expect(process.sent > 300)
        }
        // Nothing that ran was touched.
        #expect(try cluster.json([InteropCluster.Listed].self, "host", "list").allSatisfy { $0.status == "Up" })
        #expect(try cluster.json([InteropCluster.Listed].self, "vm", "list").allSatisfy { $0.status == "up" })
    }

    @Test("Debian's sanlock reads the lockspace and shows its hosts")
    func sanlockReadsLockspace() throws {
        struct Lockspace: Decodable {
            struct Host: Decodable {
                var hostID: Int
                var name: String
                var generation: UInt64
            }
            var lockspace: String
            var path: String
            var hosts: [Host]
        }
        let lockspaces = try cluster.json([Lockspace].self, "lockspace", "inspect")
        #expect(!lockspaces.isEmpty)
        for lockspace in lockspaces {
            let rows = try dump("\(lockspace.path)/dom_md/ids")
            #expect(lockspace.hosts.count == 3)
            for host in lockspace.hosts {
                let row = try #require(rows.first { $0.owner == host.hostID }, "sanlock shows no host id \(host.hostID): \(rows)")
                #expect(row.lockspace == lockspace.lockspace)
                #expect(row.resource == host.name)
                #expect(row.generation == host.generation)
                #expect(row.timestamp > 0)

                let leader = try Leader(sanlock("direct", "read_leader", "-s", "\(lockspace.lockspace):\(host.hostID):\(lockspace.path)/dom_md/ids:0"))
                #expect(leader["owner_id"] == String(host.hostID))
                #expect(leader["owner_generation"] == String(host.generation))
                #expect(leader["resource_name"] == host.name)
            }
        }
    }

    @Test("Debian's sanlock reads the leases and shows their owners")
    func sanlockReadsLeases() throws {
        struct Lease: Decodable {
            struct Name: Decodable {
                var lockspace: String
                var resource: String
            }
            var lease: Name
            var path: String
            var offset: UInt64
            var status: String
            var ownerID: Int?
            var ownerGeneration: UInt64?
            var lver: UInt64
        }
        struct VM: Decodable {
            struct Definition: Decodable {
                struct Disk: Decodable {
                    var image: String
                    var readOnly: Bool
                }
                var disks: [Disk]
            }
            var name: String
            var host: String?
            var definition: Definition?
        }
        struct Host: Decodable {
            var name: String
            var id: Int
        }
        let leases = try cluster.json([Lease].self, "lease", "list")
        #expect(leases.contains { $0.lease.resource == "SDM" && $0.status == "exclusive" }, "the SPM holds SDM")
        for lease in leases {
            let leader = try Leader(sanlock("direct", "read_leader", "-r", "\(lease.lease.lockspace):\(lease.lease.resource):\(lease.path):\(lease.offset)"))
            #expect(leader["space_name"] == lease.lease.lockspace)
            #expect(leader["resource_name"] == lease.lease.resource)
            #expect(leader["lver"] == String(lease.lver))
            let row = try dump("\(lease.path):\(lease.offset):1M").first { $0.resource == lease.lease.resource }
            #expect(row?.lockspace == lease.lease.lockspace)
            if lease.status == "free" {
                #expect(leader["timestamp"] == "0")
                #expect(row?.timestamp == 0)
            } else {
                #expect(row?.owner == lease.ownerID && row?.generation == lease.ownerGeneration, "\(row?.description ?? "no row")")
                #expect(leader["timestamp"] != "0")
                #expect(leader["owner_id"] == lease.ownerID.map(String.init))
                #expect(leader["owner_generation"] == lease.ownerGeneration.map(String.init))
            }
        }
        // Each running VM's host owns the lease of each of its writable disks.
        let ids = Dictionary(try cluster.json([Host].self, "host", "list").map { ($0.name, $0.id) }) { $1 }
        let vms = try cluster.json([InteropCluster.Listed].self, "vm", "list")
        #expect(vms.count >= 4)
        for listed in vms {
            let vm = try cluster.json(VM.self, "vm", "show", listed.name)
            let host = try #require(vm.host, "\(vm.name) runs")
            for disk in try #require(vm.definition).disks where !disk.readOnly {
                let lease = try #require(leases.first { $0.lease.resource == disk.image }, "\(vm.name)'s disk has a lease")
                #expect(lease.status == "exclusive")
                #expect(lease.ownerID == ids[host], "\(vm.name) runs on \(host)")
            }
        }
    }

    @Test("a Python client on plain REQ and SUB sockets sees a whole failover without a gap")
    func pythonClientSeesFailover() throws {
        struct Record: Decodable {
            struct Entry: Decodable {
                var status: String
                var incarnation: UInt64
                var proof: String?
                var covers: UInt64?
                var typeSeq: UInt64
            }
            struct Gap: Decodable {
                var have: UInt64
            }
            var listed: [String]
            var recovered: Bool
            var agrees: Bool
            var gaps: [Gap]
            var snapshots: Int
            var applied: Int
            var firstIncarnation: UInt64
            var story: [Entry]
        }
        let fencing = try #require(try cluster.json(Status.self, "status").processes.first { $0.name == "fencing-service" })
        let watcher = try cluster.start("/usr/bin/python3", [InteropCluster.script("watch_failover.py"), fencing.requests, fencing.events, "host2", "180"])
        try cluster.wait("the client has subscribed", deadline: 20) { watcher.text.hasPrefix("ready") }
        try cluster.run(["lab", "crash", "host2"])
        let status = try #require(watcher.wait(deadline: 200), "watch_failover.py did not end: \(watcher.complaints)")
        #expect(status == 0, "\(watcher.complaints)")
        let lines = watcher.text.split(separator: "\n")
        let record = try JSONDecoder().decode(Record.self, from: Data(try #require(lines.last).utf8))

        #expect(record.listed == ["host1", "host2", "host3"])
        #expect(record.gaps.isEmpty && record.snapshots == 1, "no gap: the first snapshot was enough")
        #expect(record.agrees, "the client's copy is what the owner says")
        #expect(record.recovered, "host2 came back: \(record.story.map(\.status))")
        let statuses = record.story.map(\.status)
        let silent = try #require(statuses.firstIndex(of: "NonResponsive"))
        #expect(statuses[..<silent].contains("Connecting"), "\(statuses)")
        #expect(statuses.last == "Up")
        #expect(record.story.contains { $0.proof == "powerOff" && ($0.covers ?? 0) >= record.firstIncarnation }, "the proof was published with the status")
        #expect(record.story.last.map { $0.incarnation > record.firstIncarnation } == true)
        #expect(zip(record.story, record.story.dropFirst()).allSatisfy { $0.typeSeq < $1.typeSeq })
        try cluster.wait("every VM runs again", deadline: 60) {
            try cluster.json([InteropCluster.Listed].self, "vm", "list").allSatisfy { $0.status == "up" }
        }
        // No disk ever had two writers: exit status 0.
        try cluster.run(["lab", "ticks"])
    }

    /// One line of `sanlock direct dump`.
    private struct Row: CustomStringConvertible {
        var lockspace = ""
        var resource = ""
        var timestamp: UInt64 = 0
        var owner = 0
        var generation: UInt64 = 0
        var description: String

        init(_ line: Substring) {
            description = String(line)
            let columns = line.split(separator: " ").map(String.init)
            guard columns.count >= 6 else { return }
            (lockspace, resource) = (columns[1], columns[2])
            (timestamp, owner, generation) = (UInt64(columns[3]) ?? 0, Int(columns[4]) ?? 0, UInt64(columns[5]) ?? 0)
        }
    }

    /// What `sanlock direct read_leader` prints: `key value` lines.
    private struct Leader {
        private var values: [String: String] = [:]

        init(_ text: String) {
            for line in text.split(separator: "\n") {
                let parts = line.split(separator: " ", maxSplits: 1).map(String.init)
                values[parts[0]] = parts.count > 1 ? parts[1] : ""
            }
        }

        subscript(key: String) -> String? { values[key] }
    }

    private func dump(_ place: String) throws -> [Row] {
        try sanlock("direct", "dump", place).split(separator: "\n").dropFirst().map(Row.init)
    }

    private func sanlock(_ arguments: String...) throws -> String {
        let child = try cluster.start("/usr/sbin/sanlock", arguments)
        #expect(child.wait(deadline: 10) == 0, "sanlock \(arguments.joined(separator: " ")): \(child.text)\(child.complaints)")
        return child.text
    }
}
