@testable import FencingEngine
import Messages
import Testing

/// A dead host without a fence device that works is forgotten on a person's word while HA is disabled (S9, S20).
@Suite struct ForgettingADeadHost {
    private func world(disabled: Bool = true) -> World {
        let world = World { $0.machines["host3"]?.bmc = .dead }
        if disabled { world.submit(.haDisable(world.request())) }
        world.run(1)
        return world
    }

    private func forget(_ world: World, checked: Bool? = true, why: String? = "its board burnt") -> RequestID {
        let id = world.request()
        world.submit(.hostForget(id, HostForget(host: "host3", reason: why, who: "eva", checked: checked)))
        return id
    }

    private func refusal(_ world: World, _ id: RequestID) -> String? {
        if case .refused(let error) = world.replies[id] { error.code } else { nil }
    }

    @Test func provesItsLifeOverFirstAndRefusesItFromThenOn() {
        let world = world()
        world.crash("host3")
        world.run(10)
        world.events = []
        let id = forget(world)
        world.run(1)
        if case .success = world.replies[id] {} else { Issue.record("\(String(describing: world.replies[id]))") }
        #expect(world.proofs.last?.kind == .operatorConfirmed && world.proofs.last?.generations == ["d1": 2])
        let told = world.events.map(\.type).filter { $0 == "host.proof" || $0 == "host.removed" }
        #expect(told == ["host.proof", "host.removed"], "whoever rests on the proof hears it first")
        #expect(world.engine.view(of: "host3") == nil)
        let same = world.request()
        var definition = world.definition(3)
        world.submit(.hostEnrol(same, HostAdd(definition, reinstalled: true)))
        #expect(refusal(world, same) == "object.conflict", "its key is refused")
        definition.key = "new"
        let silent = world.request()
        world.submit(.hostEnrol(silent, HostAdd(definition)))
        #expect(refusal(world, silent) == "object.conflict", "nobody says that it was installed anew")
        let back = world.request()
        world.submit(.hostEnrol(back, HostAdd(definition, reinstalled: true)))
        if case .success = world.replies[back] {} else { Issue.record("\(String(describing: world.replies[back]))") }
        #expect(world.violations == [])
    }

    /// A device that answers nobody is asked most of the time.
    @Test func doesNotWaitForADeadDeviceToBeAsked() {
        let world = world()
        world.crash("host3")
        world.run(10)
        for _ in 0..<1000 where world.engine.hosts["host3"]?.run == nil { world.run(0.02) }
        #expect(world.engine.hosts["host3"]?.run?.action == .status)
        let id = forget(world)
        world.run(2)
        if case .success = world.replies[id] {} else { Issue.record("\(String(describing: world.replies[id]))") }
        #expect(world.engine.view(of: "host3") == nil)
        #expect(world.violations == [])
    }

    @Test(arguments: ["HA is enabled", "it is heard", "it reads on", "nobody looked", "no reason", "renewals go on", "it was just heard"]) func isRefused(because why: String) {
        let world = world(disabled: why != "HA is enabled")
        if why != "it is heard" { world.machines["host3"]?.cut = true }
        if !["it is heard", "renewals go on"].contains(why) { world.machines["host3"]?.storageCut = true }
        world.run(why == "it was just heard" ? 2 : 25)
        if why == "it reads on" {
            world.machines["host3"]?.bmc = .works
            world.run(12)
        }
        let id = forget(world, checked: why == "nobody looked" ? nil : true, why: why == "no reason" ? nil : "its board burnt")
        world.run(5)
        let codes = [
            "HA is enabled": "object.conflict", "it is heard": "fence.signs-of-life", "it reads on": "fence.signs-of-life", "nobody looked": "request.invalid", "no reason": "request.invalid",
            "renewals go on": "fence.signs-of-life", "it was just heard": "fence.held",
        ]
        #expect(refusal(world, id) == codes[why])
        #expect(world.engine.view(of: "host3") != nil && world.engine.hosts["host3"]?.forgetting == nil)
        #expect(!world.proofs.contains { $0.kind == .operatorConfirmed })
        #expect(world.violations == [])
    }

    /// Whoever asked is told what happened.
    @Test(arguments: [true, false]) func isRefusedIfItIsHeardBeforeTheProofIsSigned(_ isConfirmed: Bool) {
        let world = world()
        world.machines["host3"]?.cut = true
        world.machines["host3"]?.storageCut = true
        world.run(25)
        let id = forget(world)
        if isConfirmed { world.run(until: 2, "minted") { world.engine.hosts["host3"]?.minted != nil } }
        world.beat("host3", bootID: world.bootID("host3"), sequence: 1000)
        world.run(2)
        #expect(refusal(world, id) == "fence.signs-of-life", "\(world.story)")
        #expect(world.engine.view(of: "host3") != nil && world.engine.hosts["host3"]?.forgetting == nil)
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func goesOnAfterARestart() {
        let world = world()
        world.crash("host3")
        world.run(10)
        _ = forget(world)
        world.restart()
        world.run(20)
        #expect(world.engine.view(of: "host3") == nil || world.engine.hosts["host3"]?.forgetting == nil)
        #expect(world.violations == [])
    }
}
