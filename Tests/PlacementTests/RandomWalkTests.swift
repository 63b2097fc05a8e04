import Messages
import Testing

@testable import PlacementEngine

private func definition(_ number: Int) -> VMDefinition {
    VMDefinition(
        name: "web\(number)", memoryMiB: 64, disks: [DiskDefinition(image: "disk-\(number)", domain: "domain", size: 1 << 20)], ha: number != 4,
        priority: 10 * number)
}

private let names = (1...4).map { "web\($0)" }

/// Random faults against the promise itself; afterwards, with all faults healed, every HA VM runs exactly once.
@Test(arguments: 0..<150) func noRunBeginsBeforeTheLastIsProvenOver(seed: UInt64) throws {
    var world = try World(seed: seed, hosts: ["host1", "host2", "host3"])
    try world.run(for: .seconds(1))
    for number in 1...4 { try world.feed(.define("define-\(number)", definition(number))) }
    try world.run(for: .seconds(20))
    for name in names { try world.feed(.start("start-\(name)", VMRequest(vm: name))) }
    var count = 0
    try world.run(for: .seconds(240)) { world in
        count += 1
        guard world.chance(4) else { return }
        let host = "host\(world.random.next() % 3 + 1)"
        let name = names[Int(world.random.next() % 4)]
        switch world.random.next() % 13 {
        case 0: world.crash(host)
        case 1, 2: world.cut(host)
        case 3, 4: world.heal(host)
        case 5: try world.restartService()
        case 6: world.machines[host]?.fenceWorks.toggle()
        case 7: world.machines[host]?.guests[name]?.running = false
        case 8: try world.feed(.stop("stop-\(count)", VMRequest(vm: name)))
        case 9: try world.feed(.start("start-\(count)", VMRequest(vm: name)))
        case 10: try world.feed(.resume("resume-\(count)", VMRequest(vm: name)))
        case 11:
            world.recoveryAllowed.toggle()
            world.send(.ha(HAState(enabled: true, hold: nil, recoveryAllowed: world.recoveryAllowed)), on: "fencing")
        default: world.report(host)
        }
    }
    world.calm = true
    world.recoveryAllowed = true
    for host in world.machines.keys.sorted() {
        world.machines[host]?.fenceWorks = true
        world.heal(host)
    }
    world.send(.ha(HAState(enabled: true, hold: nil, recoveryAllowed: true)), on: "fencing")
    try world.run(for: .seconds(200))
    try world.checkReplay()
    for name in names {
        let vm = try #require(world.engine.vms[name])
        #expect(vm.resuming == nil, "somebody still waits for an answer")
        let runs = world.truth(name)
        #expect(runs.count <= 1, "\(name) runs on \(runs)")
        if vm.wanted, vm.definition.ha {
            #expect(vm.phase == .up && runs == [vm.run?.host], "\(name): \(vm.phase) \(vm.reason); runs on \(runs)")
        } else if vm.phase == .down || vm.phase == .failed {
            #expect(runs.isEmpty, "\(name) is \(vm.phase) and runs on \(runs)")
        }
    }
}

/// I7: in a quiet cluster any number of restarts causes no action at all.
@Test func restartsOfTheServiceTouchNothing() throws {
    var world = try World(seed: 1, hosts: ["host1", "host2", "host3"])
    world.calm = true
    try world.run(for: .seconds(1))
    for number in 1...4 { try world.feed(.define("define-\(number)", definition(number))) }
    try world.run(for: .seconds(5))
    for name in names { try world.feed(.start("start-\(name)", VMRequest(vm: name))) }
    try world.run(for: .seconds(10))
    #expect(names.allSatisfy { world.engine.vms[$0]?.phase == .up })
    #expect(Set(names.flatMap { world.truth($0) }).count == 3, "spread over all hosts")
    let before = (world.starts, world.decisions.count)
    for _ in 0..<5 {
        try world.restartService()
        try world.run(for: .seconds(7))
    }
    #expect(world.starts == before.0 && world.decisions.count == before.1)
    #expect(names.allSatisfy { world.engine.vms[$0]?.asks == 2 }, "no stop and no question was sent; only its volume and its lease were asked for")
}

/// A crashed host's HA VMs come back elsewhere after the proof; the other VM stays down.
@Test func theVMsOfACrashedHostComeBack() throws {
    var world = try World(seed: 7, hosts: ["host1", "host2"])
    world.calm = true
    try world.run(for: .seconds(1))
    for number in 1...4 { try world.feed(.define("define-\(number)", definition(number))) }
    try world.run(for: .seconds(5))
    for name in names { try world.feed(.start("start-\(name)", VMRequest(vm: name))) }
    try world.run(for: .seconds(10))
    let lost = names.filter { world.truth($0) == ["host2"] }
    #expect(lost.count == 2)
    world.machines["host2"]?.fenceWorks = false
    world.crash("host2")
    try world.run(for: .seconds(30))
    #expect(lost.allSatisfy { world.engine.vms[$0]?.phase == .unknown }, "without a proof nothing is started")
    world.machines["host2"]?.fenceWorks = true
    try world.run(for: .seconds(4))
    for name in lost where name != "web4" { #expect(world.truth(name) == ["host1"]) }
    if lost.contains("web4") { #expect(world.engine.vms["web4"]?.phase == .down) }
}
