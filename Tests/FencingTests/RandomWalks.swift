@testable import FencingEngine
import Foundation
import Messages
import Testing

/// Random faults, restarts and operators against the truth of ``World``; afterwards everything heals and must be Up again.
@Suite struct RandomWalks {
    @Test(arguments: 0..<60) func whateverHappensNothingIsProvenThatLivesAndEverythingRecovers(seed: UInt64) {
        var random = SplitMix64(state: seed &* 7919 &+ 1)
        let hosts = ["host1", "host2", "host3"]
        let world = World { world in
            if seed % 7 == 0 { world.policy.kdumpLimit = .seconds(40) }
            for name in hosts {
                if seed % 7 == 0 { world.machines[name]?.kdump = ["10.0.0.\(name.dropFirst(4))"] }
                if seed % 5 == 1 { world.machines[name]?.outlet = .works }
                if seed % 5 == 2 { world.machines[name]?.via = .hosts }
                if seed % 5 == 3 { world.machines[name]?.delay = .seconds(7) }
                if seed % 5 == 4 { world.machines[name]?.pair = .works }
            }
        }
        world.operatorActs = []
        if seed % 2 == 0 { world.machines["host2"]?.watchdog = true }
        for _ in 0..<40 {
            let host = hosts[random.below(3)]
            if seed % 7 == 0, random.below(4) == 0 { world.machines[host]?.sendsDumpMessages.toggle() }
            switch random.below(14) {
            case 0: world.crash(host)
            case 1: world.machines[host]?.frozen = true
            case 2: world.machines[host]?.frozen = false
            case 3: world.machines[host]?.cut.toggle()
            case 4 where seed % 5 == 1 && random.below(2) == 0: world.machines[host]?.outlet = [.works, .stuck, .dead][random.below(3)]
            case 4 where seed % 5 == 2 && random.below(2) == 0: world.freezesInACommand = host
            case 4 where seed % 5 == 4 && random.below(2) == 0: world.machines[host]?.pair = [.works, .stuck, .dead][random.below(3)]
            case 4: world.machines[host]?.bmc = [.works, .stuck, .dead][random.below(3)]
            case 5: world.reboot(host)
            case 6: world.restart()
            case 7:
                world.stop()
                world.run(Double(random.below(20)))
                world.start()
            case 8: world.leasesAnswer.toggle()
            case 9: world.submit(.network(ok: random.below(2) == 0, detail: "random"))
            case 10: world.machines[host]?.latency = .milliseconds(Int64(50 + random.below(6000)))
            case 11: world.submit(.haHold(world.request(), HoldRequest(why: "random", duration: .seconds(Int64(random.below(30))), release: random.below(2) == 0)))
            case 12: world.submit(.fenceNow(world.request(), HostRequest(host: host)))
            default: world.machines[host]?.unreaped = random.below(2) == 0 ? ["vm"] : []
            }
            world.run(Double(random.below(12)) + 0.1)
        }
        for host in hosts {
            world.machines[host]?.cut = false
            world.machines[host]?.frozen = false
            world.machines[host]?.sendsDumpMessages = false
            world.machines[host]?.bmc = .works
            // Nobody is there through whom all of them could be switched on.
            if seed % 5 == 2 { world.powerOn(host) }
            if seed % 5 == 1 { world.machines[host]?.outlet = .works }
            if seed % 5 == 4 { world.machines[host]?.pair = .works }
            world.machines[host]?.latency = .milliseconds(200)
            world.machines[host]?.unreaped = []
        }
        world.freezesInACommand = nil
        world.leasesAnswer = true
        world.submit(.network(ok: true, detail: ""))
        world.submit(.haHold(world.request(), HoldRequest(why: "", release: true)))
        world.run(until: 300, "everything Up") { world.allUp }
        if !world.allUp { Issue.record("\(world.story)") }
        #expect(world.violations == [])
        #expect(world.engine.haState.recoveryAllowed)
    }

    /// The same inputs, replayed by another engine, give the same state.
    @Test func replayReproducesTheState() throws {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(30)
        #expect(world.allUp)
        #expect(world.inputs.count > 10)
        var replayed = FencingEngine()
        for (at, input) in world.inputs { _ = replayed.handle(input, at: at) }
        #expect(try json(replayed) == json(world.engine))
    }
}

private func json(_ engine: FencingEngine) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return String(decoding: try encoder.encode(engine), as: UTF8.self)
}
