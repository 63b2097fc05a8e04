import Foundation
import Messages
import Testing

@testable import bulwark

/// Definition files: what is accepted, and that what is wrong is named with file, line and key.
struct DefinitionTests {
    private func file(_ text: String) throws -> String {
        let path = NSTemporaryDirectory() + "definition-\(UUID().uuidString).yaml"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    private func vm(_ text: String) throws -> VMDefinition {
        try VMDefinition(file: try file(text)) { name in name == "data" ? "d-uuid" : name }
    }

    private func refusal(_ make: () throws -> Void) -> String {
        do {
            try make()
            return "accepted"
        } catch {
            return "\(error)"
        }
    }

    private static let disk = "{image: 5F0E3C61-93A2-4A4B-9C5E-2F6B4A1D7E01, domain: data, size: 1M, source: guest.img}"

    @Test("a VM with defaults; the domain's name becomes its uuid, sizes become MiB and bytes, a source is relative to its definition")
    func virtualMachine() throws {
        let definition = try vm("name: web1\nmemory: 512M\nha: true\npin: [host1, host2]\ndisks:\n  - \(Self.disk)\n")
        #expect(definition.memoryMiB == 512)
        #expect(definition.cpus == 1 && definition.leases && definition.ha && definition.priority == 50)
        #expect(definition.pin == ["host1", "host2"])
        let disk = try #require(definition.disks.first)
        #expect(disk.image == "5f0e3c61-93a2-4a4b-9c5e-2f6b4a1d7e01", "lower case: it names the lease")
        #expect(disk.domain == "d-uuid" && disk.size == 1 << 20 && !disk.readOnly)
        #expect(disk.source == URL(fileURLWithPath: NSTemporaryDirectory()).standardizedFileURL.path + "/guest.img")
    }

    @Test("memory may be a bare number of MiB")
    func memory() throws {
        #expect(try vm("name: a\nmemory: 64\ndisks: []\n").memoryMiB == 64)
        #expect(try vm("name: a\nmemory: 2G\ndisks: []\n").memoryMiB == 2048)
    }

    @Test(
        "what is wrong is named with its line",
        arguments: [
            ("name: a\nmemory: 64\nmemroy: 1\n", ":3: unknown key 'memroy' of a VM"),
            ("name: a\nmemory: 64\ndisks:\n  - {image: x, domain: data, size: 1}\n", ":4: image of the disk must be a uuid"),
            ("name: a\nmemory: 64\ndisks:\n  - {imgae: x, domain: data, size: 1}\n", ":4: unknown key 'imgae' of a disk"),
            ("name: a\nmemory: lots\n", ":2: memory of the VM must be a size"),
            ("name: a\nmemory: 1K\n", ":2: memory of the VM must be a whole number of MiB"),
            ("name: a\nmemory: 64\npriority: 101\n", ":3: priority of the VM must be between 0 and 100"),
            ("name: a\nmemory: 64\nha: true\nleases: false\n", ":3: ha of the VM needs leases"),
            ("name: a\nmemory: 64\nha: perhaps\n", ":3: ha of the VM must be true or false"),
            ("memory: 64\n", "the VM has no 'name'"),
            ("- a\n", "expected the keys of one VM"),
            ("name: a\nname: b\n", "duplicate"),
        ])
    func refused(text: String, words: String) {
        let refusal = refusal { _ = try vm(text) }
        #expect(refusal.hasPrefix("file.invalid: "))
        #expect(refusal.lowercased().contains(words.lowercased()), "\(refusal)")
    }

    @Test("a host with its fence device; a password in the file is refused as an unknown key")
    func host() throws {
        let good = """
            name: host1
            id: 1
            endpoints: {agentRequests: a, agentEvents: b, leaseRequests: c, leaseEvents: d}
            spmPriority: -1
            fence:
              - agent: fence_ipmilan
                address: 10.77.1.1
                secretFile: /etc/secret
                options: {lanplus: "1"}
            """
        let definition = try HostDefinition(file: try file(good))
        #expect(definition.id == 1 && definition.spmPriority == -1)
        #expect(definition.fence.first?.options == ["lanplus": "1"] && definition.fence.first?.secretFile == "/etc/secret")
        #expect(refusal { _ = try HostDefinition(file: try file(good + "\n    password: x")) }.contains(":10: unknown key 'password' of a fence device"))
        #expect(refusal { _ = try HostDefinition(file: try file(good.replacingOccurrences(of: "id: 1\n", with: "id: 2001\n"))) }.contains("between 1 and 2000"))
    }

    @Test("the documented examples are accepted")
    func examples() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("compose/definitions").path
        #expect(try VMDefinition(file: folder + "/vm.yaml") { $0 }.disks.count == 1)
        #expect(try HostDefinition(file: folder + "/host.yaml").fence.count == 1)
    }
}
