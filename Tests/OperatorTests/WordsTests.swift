import Bus
import Foundation
import Messages
import Testing

@testable import bulwark

/// What people read: tables, events, times.
struct WordsTests {
    private func event(_ type: String, _ body: some Encodable & Sendable) throws -> EventText {
        let header = EventHeader(source: "fencing-service", epoch: "e.1", seq: 1, typeSeq: 1, time: "2026-01-02T03:04:05.100Z", type: type)
        return try #require(EventText(frame: EventFrame.encode(header, bodyJSON: try JSON.encode(body))))
    }

    @Test("a host's status tells where it came from and why")
    func hostStatus() throws {
        let endpoints = HostEndpoints(agentRequests: "a", agentEvents: "b", leaseRequests: "c", leaseEvents: "d")
        let view = HostView(
            name: "host2", id: 2, status: .nonResponsive, previous: .connecting, reason: "silent for 5.2 s", incarnation: Incarnation(3), endpoints: endpoints)
        #expect(try event("host.status", view).words == "host2 Connecting -> NonResponsive (incarnation 3): silent for 5.2 s")
    }

    @Test("a proof tells what it covers")
    func proof() throws {
        let proof = Proof(
            id: "p", kind: .powerOff, host: "host2", hostID: 2, incarnations: Incarnation(3), generations: ["data": 7], statement: "BMC reads off after our off")
        let words = try event("host.proof", SignedProof(proof: proof, statement: "", signature: "", key: "")).words
        #expect(words == "proof powerOff of host2 covers incarnations up to 3, generations up to 7 in data: BMC reads off after our off")
    }

    @Test("a VM tells its host")
    func virtualMachine() throws {
        let view = VMView(name: "web1", status: .up, host: "host3", wanted: true, ha: true, priority: 1, attempt: 2, run: nil, pid: 1, reason: "host2 is proven off")
        #expect(try event("vm.status", view).words == "VM web1 up on host3, attempt 2: host2 is proven off")
    }

    @Test("an event of an unknown type, or with another body, is shown as it came")
    func unknownEvent() throws {
        #expect(try event("moon.phase", ["full": true]).words == "{\"full\":true}")
        #expect(try event("host.status", ["odd": 1]).words == "{\"odd\":1}")
        #expect(EventText(frame: Data("no".utf8)) == nil)
    }

    @Test("columns are as wide as their widest cell, without blanks at the end")
    func table() {
        var table = Table("NAME", "STATUS", "WHY")
        table.add("host1", "Up", "")
        table.add("a", "NonResponsive", "silent")
        #expect(table.text(empty: "none") == "NAME   STATUS         WHY\nhost1  Up\na      NonResponsive  silent")
        #expect(Table("A").text(empty: "none") == "none")
    }

    @Test("the policy in force is shown with everything that there is to it")
    func policy() throws {
        let policy = FencingPolicy(softTimeout: .seconds(17), profile: .fast)
        let words = FenceCommand.Policy.words(policy)
        // Of the engine's own making, and no setting.
        let keys = try #require(try JSONSerialization.jsonObject(with: JSONEncoder().encode(policy)) as? [String: Any]).keys.filter { $0 != "rules" }
        let settings = words.split(separator: "\n").dropFirst().compactMap { $0.split(separator: " ").first.map(String.init) }
        #expect(keys.count > 20 && Set(keys) == Set(settings), "\(Set(keys).symmetricDifference(settings))")
        #expect(words.contains("17.0 s"))
    }

    @Test("durations of a hold", arguments: [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400)])
    func duration(text: String, seconds: Int64) {
        #expect(HoldCommand.parse(text) == .seconds(seconds))
    }

    @Test("no durations", arguments: ["", "h", "0h", "-1h", "2", "2 h", "1.5h"])
    func noDuration(text: String) {
        #expect(HoldCommand.parse(text) == nil)
    }

    @Test("names are listed in the order people count")
    func order() {
        #expect(["host10", "host2", "host1"].sorted(by: naturally) == ["host1", "host2", "host10"])
    }

    @Test("JSON is passed on exactly: large numbers, fractions, null")
    func json() throws {
        let text = #"{"a":18446744073709551615,"b":-9223372036854775808,"c":1.5,"d":null,"e":[true,"x/y"]}"#
        #expect(try JSON.decode(JSONValue.self, Data(text.utf8)).line == text)
    }
}
