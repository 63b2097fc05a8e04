import Foundation
import Messages
import Testing

@Suite struct GuardProtocolTests {
    @Test func aMessageSurvivesTheWire() {
        let message = GuardMessage("granted", [("deadline", "123"), ("lease", "ls|disk=1|4|7"), ("lease", "ls|b|1|7"), ("message", "two\nlines")])
        let read = GuardMessage(text: message.text)
        #expect(read?.verb == "granted" && read?["deadline"] == "123" && read?.all("lease") == ["ls|disk=1|4|7", "ls|b|1|7"])
        #expect(read?["message"] == "two lines")
    }

    @Test(arguments: ["", "\n", "verb\nno equals sign"]) func nonsenseIsNoMessage(text: String) {
        #expect(GuardMessage(text: text) == nil)
    }

    @Test func holdersAndLeasesAreReadBack() {
        #expect(Holder("vm:web1:7") == Holder(role: .vm, name: "web1", attempt: 7) && Holder("vm::7") == nil && Holder("web1:7") == nil && Holder("vm:web1:-1") == nil)
        let lease = GuardLease("ls|disk|4|7")
        #expect(lease?.grant == "ls|disk|4|7" && lease?.request == "ls|disk" && GuardLease("ls|disk")?.generation == 0 && GuardLease("ls|disk|4") == nil)
        let shared = GuardLease("ls|disk|4|7|shared")
        #expect(shared?.mode == .shared && shared?.grant == "ls|disk|4|7|shared" && shared?.request == "ls|disk|shared" && GuardLease("ls|disk|shared")?.mode == .shared)
        #expect(GuardLease("ls|disk|exclusive") == GuardLease("ls|disk") && GuardLease("ls|disk|4|7|often") == nil)
    }

    /// What journals of 0.1.0 hold, and what they would still be given.
    @Test func exclusiveLeasesAreStoredAsEver() throws {
        let old = #"{"generation":7,"lver":4,"name":{"lockspace":"ls","resource":"disk"}}"#
        let lease = try JSONDecoder().decode(GuardLease.self, from: Data(old.utf8))
        #expect(lease.mode == .exclusive)
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        #expect(String(decoding: try encoder.encode(lease), as: UTF8.self) == old)
    }

    @Test func onlyTheKnownManagerCommands() {
        var pins = ManagerPins()
        func caller(_ lineage: String, _ term: UInt64) -> Caller { Caller(role: .service, from: "placement-service", lineage: lineage, term: term) }
        #expect(pins.refusal(of: caller("a", 3)) == nil)
        #expect(pins.refusal(of: caller("b", 9))?.code == "manager.foreign")
        #expect(pins.refusal(of: caller("a", 2))?.code == "manager.foreign")
        #expect(pins.refusal(of: caller("a", 4)) == nil)
        #expect(pins.refusal(of: Caller(role: .service))?.code == "manager.foreign", "a manager must name itself")
        #expect(pins.refusal(of: Caller(role: .operator_)) == nil)
        #expect(throws: RequestError.self) { try pins.replace(ManagerPin(service: "lease-service", lineage: "b", term: 1)) }
        #expect(throws: RequestError.self) { try pins.replace(ManagerPin(service: "placement-service", lineage: "", term: 1)) }
        #expect(pins.refusal(of: caller("a", 4)) == nil, "a wrong re-pin changes nothing")
        #expect(throws: Never.self) { try pins.replace(ManagerPin(service: "placement-service", lineage: "b", term: 2)) }
        #expect(pins.refusal(of: caller("b", 1))?.code == "manager.foreign")
        #expect(pins.refusal(of: caller("a", 5))?.code == "manager.foreign")
        #expect(pins.refusal(of: caller("b", 2)) == nil)
    }
}
