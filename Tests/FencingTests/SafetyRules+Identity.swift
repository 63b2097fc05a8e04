@testable import FencingEngine
import Messages
import Testing

/// S14, S20: who a host is.
extension SafetyRules {
    @Test func s14TwoBootIDsAlternatingHoldEverythingAndAlarm() {
        let world = World()
        world.reboot("host2")
        world.run(10)
        #expect(world.allUp)
        for sequence: UInt64 in 100..<103 {
            world.beat("host2", bootID: "host2-boot-1", sequence: sequence)
            world.run(1)
        }
        #expect(world.status("host2") == .error)
        #expect(world.engine.haState.recoveryAllowed == false)
        #expect(world.engine.haState.alarms?.count == 1)
        #expect(world.view("host2").proof == nil)
        world.machines["host3"]?.frozen = true
        world.run(20)
        #expect(world.step("host3") == "held" && world.offs.isEmpty)
        world.submit(.haEnable(world.request()))
        world.run(until: 60, "recovers") { world.ons["host3"] == 1 && world.allUp }
        clean(world)
    }

    @Test func s14ALateHeartbeatOfADeadMachineIsNoAlternation() {
        let world = World()
        world.reboot("host2")
        world.run(10)
        for sequence: UInt64 in 100..<110 { world.beat("host2", bootID: "host2-boot-1", sequence: sequence) }
        world.run(5)
        #expect(world.allUp && world.engine.haState.alarms == nil)
    }

    @Test func anotherMachineUnderThisNameIsRefused() {
        let world = World()
        world.machines["host2"]?.hardwareID = "stranger"
        world.reboot("host2")
        world.run(4)
        #expect(world.status("host2") == .error)
        #expect(world.view("host2").incarnation == Incarnation(1))
        #expect(world.proofs.isEmpty)
    }

    /// Its hardware id, too, is the host's: at first it looks like a reboot.
    @Test func s14TwoMachinesThatAreHeardInTurnsHoldEverythingAndProveNothing() {
        let world = World()
        for beat: UInt64 in 1...20 {
            world.run(1)
            world.beat("host2", bootID: "another", sequence: beat)
        }
        #expect(world.proofs.isEmpty && world.status("host2") == .error)
        #expect(world.engine.snapshot.ha.recoveryAllowed == false)
        // Only the one that is not believed goes on, and an operator says that all is well: it is heard again at once, and never switched off for the other's silence.
        world.machines["host2"]?.cut = true
        for beat: UInt64 in 21...40 {
            if beat == 24 { world.submit(.haEnable(world.request())) }
            world.run(1)
            world.beat("host2", bootID: "host2-boot-1", sequence: 100 + beat)
        }
        #expect(world.status("host2") == .error && world.offs.isEmpty && world.proofs.isEmpty)
    }

    /// While the alarm stands, whatever boots under that identity says nothing of the machine that lives.
    @Test func s14WhileTheAlarmStandsNoFurtherBootProvesTheLivingOver() {
        let world = World()
        for beat: UInt64 in 1...20 {
            world.run(1)
            world.beat("host2", bootID: "another", sequence: beat)
        }
        #expect(world.status("host2") == .error && world.engine.haState.alarms?.count == 1)
        for beat: UInt64 in 1...20 {
            world.run(1)
            world.beat("host2", bootID: "third", sequence: beat)
        }
        #expect(world.view("host2").incarnation == Incarnation(3) && world.proofs.isEmpty)
        world.run(20)
        world.beat("host2", bootID: "fourth", sequence: 1)
        world.run(2)
        #expect(world.view("host2").incarnation == Incarnation(4) && world.proofs.isEmpty && world.engine.haState.alarms?.count == 1)
    }

    /// What was revoked with the alarm is proven anew once the old life stays unheard for a grace.
    @Test func s14AfterAnAlarmTheOldLifeIsProvenOverOnceItStaysUnheard() {
        let world = World()
        world.reboot("host2")
        world.run(10)
        for sequence: UInt64 in 100..<103 {
            world.beat("host2", bootID: "host2-boot-1", sequence: sequence)
            world.run(1)
        }
        #expect(world.view("host2").proof == nil && world.status("host2") == .error)
        world.submit(.haEnable(world.request()))
        world.run(4)
        #expect(world.view("host2").proof == nil)
        world.run(until: 5, "proven over again") { world.view("host2").proof?.proof.covers(host: "host2", incarnation: Incarnation(1)) == true }
        clean(world)
    }

    /// Nor while the manager itself may be the one that hears nothing, or the new life is not heard any more.
    @Test func s14AQuickRebootIsNotProvenWhileTheOldLifeCannotBeHeard() {
        let world = World()
        world.run(3)
        world.machines["host2"]?.bootIDOverride = "another"
        world.run(2)
        world.submit(.network(ok: false, detail: "no carrier"))
        world.run(8)
        #expect(world.proofs.isEmpty)
        world.submit(.network(ok: true, detail: ""))
        world.run(1)
        #expect(world.proofs.map(\.kind) == [.rebooted])

        world.machines["host3"]?.bootIDOverride = "another"
        world.run(until: 2, "heard anew") { world.view("host3").incarnation == Incarnation(2) }
        world.machines["host3"]?.cut = true
        world.run(5.5)
        #expect(world.proofs.count == 1)
        world.machines["host3"]?.cut = false
        world.run(until: 2, "proven over") { world.proofs.count == 2 }
        clean(world)
    }

    /// Version 0.1.0 minted at once where a reboot is doubted now: its journals go on as they did.
    @Test func aSignatureOfAnOlderVersionIsTakenWhileItsRebootIsDoubted() {
        let world = World()
        world.run(3)
        world.machines["host2"]?.bootIDOverride = "another"
        world.run(until: 2, "heard anew") { world.view("host2").incarnation == Incarnation(2) }
        let number = world.engine.hosts["host2"]?.counter ?? 0
        for (offset, counts) in [(2 as UInt64, false), (1, true)] {
            let id = "host2-proof-\(number + offset)"
            let proof = Proof(id: id, kind: .rebooted, host: "host2", hostID: 2, incarnations: Incarnation(1), generations: [world.lockspace: 9], statement: "heard anew")
            world.submit(.proofSigned(SignedProof(proof: proof, statement: "", signature: "s", key: "k")))
            #expect((world.view("host2").proof?.proof.id == id) == counts)
        }
        #expect(world.engine.hosts["host2"]?.counter == number + 1)
        world.run(10)
        #expect(world.proofs.isEmpty && world.status("host2") == .up)
    }

    /// Whichever was told first, the device's GUID or the host's hardware id; `explain` must show it.
    @Test(arguments: [true, false]) func whoseADeviceIsIsSaidOnceBothAreKnown(isOwn: Bool) {
        for isLate in [false, true] {
            let world = World {
                if !isOwn { $0.machines["host2"]?.guid = "another-machine" }
                $0.machines["host2"]?.identityTakes = .milliseconds(isLate ? 3000 : 1)
            }
            world.run(10)
            let said = world.decisions.filter { $0.subject == "host/host2" && $0.what.hasPrefix("fence device ") }.map(\.what)
            #expect(said == [isOwn ? "fence device verified" : "fence device belongs to another machine"], "\(world.story)")
        }
    }

    /// Somebody wrote another hardware id into its configuration and started its agent again.
    @Test func aHardwareIDThatChangesWithinOneBootIsThatOfTheSameMachine() {
        let world = World()
        world.machines["host2"]?.hardwareID = "edited"
        world.run(20)
        #expect(world.status("host2") == .up && world.offs.isEmpty && world.view("host2").incarnation == Incarnation(1))
        world.restart()
        world.reboot("host2")
        world.run(until: 20, "the same after a reboot") { world.view("host2").incarnation == Incarnation(2) && world.allUp }
        clean(world)
    }

    @Test func s14AQuickRebootIsProvenOnceTheOldLifeStaysUnheard() {
        let world = World()
        world.run(3)
        world.machines["host2"]?.bootIDOverride = "another"
        world.run(3)
        #expect(world.proofs.isEmpty)
        world.run(5)
        #expect(world.proofs.map(\.kind) == [.rebooted] && world.status("host2") == .up)
    }

    @Test func s14AnotherMachineWithAHostsNameIsAnAlarmAndNotThatHost() {
        let world = World()
        for beat: UInt64 in 1...8 {
            world.run(1)
            let id = world.machines["host2"]?.hardwareID ?? ""
            world.machines["host2"]?.hardwareID = "elsewhere"
            world.beat("host2", bootID: "another", sequence: beat)
            world.machines["host2"]?.hardwareID = id
        }
        #expect(world.status("host2") == .error && world.proofs.isEmpty && world.offs.isEmpty)
        world.run(until: 10, "known again once the other is gone") { world.status("host2") == .up }
        #expect(world.proofs.isEmpty && world.view("host2").incarnation == Incarnation(1))
    }

    @Test func s20AForgottenHostIsNotTakenBack() {
        let world = World()
        let refused = world.request()
        world.submit(.hostForget(refused, HostForget(host: "host3")))
        #expect(world.refusal(refused) == "object.conflict")
        world.submit(.hostMaintenance(world.request(), HostRequest(host: "host3")))
        world.submit(.hostForget(world.request(), HostForget(host: "host3")))
        #expect(world.engine.view(of: "host3") == nil)
        let sameKey = world.request()
        world.submit(.hostAdd(sameKey, world.definition(3)))
        #expect(world.refusal(sameKey) == "object.conflict")
        var renewed = world.definition(3)
        renewed.key = "new"
        let sameID = world.request()
        world.submit(.hostAdd(sameID, renewed))
        #expect(world.refusal(sameID) == "object.conflict")
        renewed.id = 4
        renewed.name = "host4"
        let other = world.request()
        world.submit(.hostAdd(other, renewed))
        #expect(world.accepted(other))
    }

    /// Incarnations go on under a name: a proof about the new machine would cover the old one's last life.
    @Test func s20TheNameOfAForgottenHostThatMayLiveIsNotReused() {
        let world = World()
        world.submit(.hostMaintenance(world.request(), HostRequest(host: "host3")))
        world.submit(.hostForget(world.request(), HostForget(host: "host3")))
        var other = world.definition(3)
        other.key = "new"
        other.id = 4
        let refused = world.request()
        world.submit(.hostAdd(refused, other))
        #expect(world.refusal(refused) == "object.conflict" && world.engine.view(of: "host3") == nil)
    }

    @Test func s20TheNameOfAHostThatWasProvenOffIsFree() {
        let world = World()
        world.operatorActs = ["host3"]
        world.submit(.power(world.request(), .off, HostRequest(host: "host3")))
        world.run(until: 60, "proven") { world.status("host3") == .down }
        world.submit(.hostForget(world.request(), HostForget(host: "host3")))
        var renewed = world.definition(3)
        renewed.key = "new"
        let added = world.request()
        world.submit(.hostAdd(added, renewed))
        #expect(world.accepted(added) && world.view("host3").incarnation == Incarnation(1))
    }
}
