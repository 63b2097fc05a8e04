import Foundation
import Messages
import Simulation
import Testing

@testable import bulwark

/// Scenarios as files.
@Suite struct ScenarioFileTests {
    /// Of this repository.
    static let files: [String] = {
        let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Simulation/scenarios").path
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return names.filter { $0.hasSuffix(".yaml") }.sorted().map { "\(directory)/\($0)" }
    }()

    private func read(_ text: String) throws -> Scenario {
        let path = NSTemporaryDirectory() + "scenario-\(UUID().uuidString).yaml"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return try Scenario(file: path)
    }

    @Test func thereAreFiles() { #expect(Self.files.count >= 45) }

    /// Every one says what it is about and expects something, and is the same after it was written and read again.
    @Test(arguments: files) func everyFile(_ path: String) throws {
        let scenario = try Scenario(file: path)
        #expect(!scenario.about.isEmpty && !scenario.timeline.isEmpty && !scenario.expect.isEmpty)
        #expect(try read(try scenario.yaml()) == scenario)
    }

    @Test func shortForms() throws {
        let scenario = try read("name: short\nhosts: 2\nvms: 3\ntimeline:\n  - {at: 1m, do: [crash host1, ha hold], expect: vm web1 up}\nexpect: spm serves\n")
        #expect(scenario.hosts == [Scenario.Host("host1"), Scenario.Host("host2")])
        #expect(scenario.vms.map(\.host) == ["host1", "host2", "host1"])
        #expect(scenario.timeline == [.init(at: .seconds(60), .crash(host: "host1")), .init(at: .seconds(60), .haHold)])
        #expect(scenario.expect == [.init(at: .seconds(60), .vm("web1", .up, host: nil)), .init(.spmServes)])
    }

    /// Everything that differs from its default survives.
    @Test func nothingIsLost() throws {
        var scenario = Scenario(name: "all: of it", about: "Yes, \"all\".", seed: .max, domains: ["dom1", "dom2"], end: .milliseconds(700_001))
        scenario.hosts = Scenario.Fence.allCases.enumerated().map { Scenario.Host("host\($0)", fence: $1, memoryMiB: 1000 + $0, spmPriority: $0 - 1, drift: -$0, watchdog: $0 % 2 == 0) }
        scenario.vms = [
            Scenario.VM("a"), Scenario.VM("b", ha: false, priority: 9, memoryMiB: 7, disks: ["dom2", "dom1"], pin: ["host1"], started: false, host: "host1"),
            Scenario.VM("c", ha: false, disks: [], leases: false),
        ]
        for (index, entry) in Scenario.Policy.durations.enumerated() { scenario.policy[keyPath: entry.path] = .milliseconds(Int64(123_001 + index)) }
        for (index, entry) in Scenario.Policy.numbers.enumerated() { scenario.policy[keyPath: entry.path] = 77 + index }
        for (index, entry) in Scenario.Pace.durations.enumerated() { scenario.pace[keyPath: entry.path] = Duration(nanoseconds: Int64(1_000_000_001 + index)) }
        for (index, entry) in Scenario.Chaos.rates.enumerated() { scenario.chaos[keyPath: entry.path] = 0.001 * Double(index + 1) }
        scenario.chaos.delay = .seconds(9)
        scenario.timeline = [.init(at: .milliseconds(1), .crash(host: "host1")), .init(at: .seconds(2), .cut(from: "host1", to: "manager"))]
        scenario.expect = [.init(at: .seconds(3), .vm("a", .up, host: nil)), .init(.order(.proof(host: "host1", nil), before: .start(vm: "a", host: nil)))]
        #expect(try read(try scenario.yaml()) == scenario)
    }

    @Test(arguments: [
        ("hosts: 2\nhostes: 3\n", ":2: unknown key 'hostes'"),
        ("timeline:\n  - {at: 5s, do: crush host1}\n", ":2: do: \"crush\" in \"crush host1\" is not known; possible: crash"),
        ("timeline:\n  - at: 5s\n    do:\n      - crash host1\n      - crash host7\n", ":5: do: \"host7\" in \"crash host7\" is not known; possible: host1, host2, host3"),
        ("expect:\n  - vm web1 up\n", ":2: expect: \"web1\" in \"vm web1 up\" is not known; possible: nothing (there is no VM)"),
        ("timeline:\n  - {do: crash host1}\n", "has no 'at'"),
        ("timeline:\n  - {at: 5s}\n", "neither 'do' nor 'expect'"),
        ("timeline:\n  - {at: soon, do: crash host1}\n", "must be a duration"),
        ("timeline:\n  - {at: 5s, do: crash host1}\n  - {at: 4s, do: crash host2}\n", "not in the order of time: crash host2"),
        ("end: 1s\ntimeline:\n  - {at: 5s, do: crash host1}\n", "is before crash host1"),
        ("hosts: [{name: host1, fence: maybe}]\n", "must be one of verified, unverified"),
        ("policy: {liveness.grase: 3s}\n", "unknown key 'liveness.grase'"),
        ("vms: [{name: web1, host: host9}]\n", "names host9; the hosts are host1, host2, host3"),
        ("vms: [{name: web1, disks: [dom7]}]\n", "names dom7"),
        ("chaos: {loss: 2}\n", "must be between 0 and 1"),
    ]) func whatIsWrongIsNamed(_ text: String, _ message: String) {
        let error = #expect(throws: RequestError.self) { try read(text) }
        #expect(error?.message.contains(message) == true, "\(error?.message ?? "")")
    }
}
