@testable import FencingEngine
import Foundation
import Messages
import Testing

/// S10: what the word of a fence device is worth.
@Suite struct DeviceWordTests {
    /// Its BMC refuses every off, and its outlet, for which an operator vouched, reads off whatever it is told.
    private func worldWithALyingOutlet(_ prepare: (World) -> Void = { _ in }) -> World {
        let world = World {
            $0.machines["host1"]?.outlet = .lies
            prepare($0)
        }
        world.machines["host1"]?.bmc = .stuck
        return world
    }

    @Test func anOutletThatReadsOffProvesNothingWhileItsOwnDeviceReadsOn() {
        let world = worldWithALyingOutlet()
        world.machines["host1"]?.cut = true
        world.run(60)
        #expect(world.proofs.isEmpty, "\(world.story)")
        #expect(world.decisions.contains { $0.what == "fence step failed" && $0.why.contains("10.0.0.1") && $0.why.contains("read on when it was asked last (S10)") })
        world.machines["host1"]?.cut = false
        world.run(until: 30, "all Up") { world.allUp }
        #expect(world.engine.hosts["host1"]?.incarnation == Incarnation(1))
        #expect(world.violations == [], "\(world.story)")
    }

    /// Nobody can see its renewals: that is no sign that they have stopped.
    @Test func norIfNobodySeesItsRenewals() {
        let world = worldWithALyingOutlet { world in for name in ["host2", "host3"] { world.machines[name]?.storageCut = true } }
        world.machines["host1"]?.cut = true
        world.run(60)
        #expect(world.proofs.isEmpty && world.violations == [], "\(world.story)")
    }

    /// The machine stands still, and its guards with it: missed renewals do not make up for that.
    @Test func norIfItsRenewalsHaveStopped() {
        let world = worldWithALyingOutlet()
        world.machines["host1"]?.frozen = true
        world.run(60)
        #expect(world.proofs.isEmpty && world.step("host1") != nil && world.violations == [], "\(world.story)")
        world.machines["host1"]?.bmc = .works
        world.run(until: 60, "its own device has switched it off") { world.engine.hosts["host1"]?.isProvenDead == true }
        #expect(world.violations == [], "\(world.story)")
    }

    /// Another machine was moved to its outlet.
    @Test func norIfTheOutletHasDoneAsItWasTold() {
        let world = World { $0.machines["host1"]?.outlet = .another(isOff: false) }
        world.machines["host1"]?.bmc = .stuck
        world.machines["host1"]?.frozen = true
        world.run(60)
        #expect(world.proofs.isEmpty && (world.offs["host1"] ?? 0) > 1 && world.violations == [], "\(world.story)")
    }

    /// What it read before is asked for anew: its BMC has lost its power with the machine.
    @Test func itsOwnDeviceIsAskedAgain() {
        let world = World {
            $0.machines["host1"]?.outlet = .works
            for name in ["host2", "host3"] { $0.machines[name]?.storageCut = true }
        }
        world.machines["host1"]?.bmc = .stuck
        world.machines["host1"]?.frozen = true
        world.run(until: 60, "proven over") { world.engine.hosts["host1"]?.isProvenDead == true }
        #expect(world.offs["host1"] == 2, "one through each: \(world.story)")
        #expect(world.engine.hosts["host1"]?.proof?.proof.statement == "host1 reads off after our off, read again after its generations")
        #expect(world.violations == [])
    }

    /// An outlet is on although the machine behind it is off: that contradicts nothing.
    @Test func anOutletThatReadsOnContradictsNothing() {
        let world = World {
            $0.machines["host1"]?.outlet = .works
            for name in ["host2", "host3"] { $0.machines[name]?.storageCut = true }
        }
        world.submit(.rehearse("r", HostRequest(host: "host1")))
        world.run(3)
        #expect(world.engine.hosts["host1"]?.reads?[1] == .on)
        world.crash("host1")
        world.run(until: 15, "proven over") { world.engine.hosts["host1"]?.isProvenDead == true }
        #expect(world.violations == [], "\(world.story)")
    }

    // MARK: Identity

    private func moved(_ world: World, to address: String) -> HostDefinition {
        var definition = world.definition(1)
        definition.fence[0].address = address
        return definition
    }

    @Test func aLateAnswerOfAnotherDeviceSaysNothing() {
        let world = World { $0.machines["host1"]?.identityTakes = .seconds(20) }
        #expect(world.engine.hosts["host1"]?.trust(0) == .unknown)
        // Another machine's, which says so, and happens to be off.
        let own = world.machines["host1"]?.guid
        world.machines["host1"]?.identityTakes = .milliseconds(200)
        world.machines["host1"]?.guid = "f00"
        world.machines["host1"]?.bmc = .lies
        world.submit(.hostUpdate("u", moved(world, to: "10.0.0.9")))
        world.run(25)
        #expect(own != nil && world.engine.hosts["host1"]?.isOwn(0) == false, "\(world.story)")
        world.machines["host1"]?.cut = true
        world.run(30)
        #expect(world.proofs.isEmpty && world.violations == [], "\(world.story)")
    }

    @Test func thatADeviceCannotTellReplacesNoIdentity() {
        let world = World { $0.machines["host1"]?.guid = "f00" }
        let question = IdentityQuestion(host: "host1", device: world.definition(1).fence[0], index: 0, proxy: nil)
        world.submit(.identified(Identification(question, .success(FenceIdentity(guid: nil, unsupported: true, detail: "")))))
        #expect(world.engine.hosts["host1"]?.isOwn(0) == false)
    }

    @Test func anAnswerFromBeforeTheHostWasForgottenSaysNothing() {
        let world = World()
        let question = IdentityQuestion(host: "host1", device: world.definition(1).fence[0], index: 0, proxy: nil)
        world.submit(.hostUpdate("u", moved(world, to: "10.0.0.9")))
        world.submit(.identified(Identification(question, .success(FenceIdentity(guid: world.machines["host1"]?.guid, unsupported: false, detail: "")))))
        #expect(world.engine.hosts["host1"]?.trust(0) == .unknown)
    }

    // MARK: Journals of earlier versions

    @Test func aJournalOfAnEarlierVersionLeadsToWhatWasDecidedThen() throws {
        var fields = try #require(try JSONSerialization.jsonObject(with: JSONEncoder().encode(FencingPolicy())) as? [String: Any])
        fields["rules"] = nil
        let policy = try JSONDecoder().decode(FencingPolicy.self, from: JSONSerialization.data(withJSONObject: fields))
        #expect(policy.rules == 0 && FencingPolicy().rules > 0)

        let world = World {
            $0.policy.rules = 0
            $0.machines["host1"]?.guid = nil
            $0.machines["host1"]?.outlet = .works
            for name in ["host2", "host3"] { $0.machines[name]?.storageCut = true }
        }
        world.crash("host1")
        world.run(60)
        #expect(world.offs["host1"] == nil && world.proofs.isEmpty, "the next level was not tried then: \(world.story)")
        #expect(world.violations == [])
    }
}
