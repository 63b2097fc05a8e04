import Messages
import Testing

@testable import PlacementEngine

@Test(arguments: [
    ("name", VMDefinition(name: "../x", memoryMiB: 1, disks: [])),
    ("name", VMDefinition(name: "", memoryMiB: 1, disks: [])),
    ("name", VMDefinition(name: "a:b", memoryMiB: 1, disks: [])),
    ("memory", VMDefinition(name: "a", memoryMiB: 0, disks: [])),
    ("cpus", VMDefinition(name: "a", memoryMiB: 1, cpus: 0, disks: [])),
    ("priority", VMDefinition(name: "a", memoryMiB: 1, disks: [], priority: 101)),
    ("leases", VMDefinition(name: "a", memoryMiB: 1, disks: [], ha: true, leases: false)),
    ("disks[0].size", VMDefinition(name: "a", memoryMiB: 1, disks: [DiskDefinition(image: "i", domain: "d", size: 511)])),
    ("disks[0].size", VMDefinition(name: "a", memoryMiB: 1, disks: [DiskDefinition(image: "i", domain: "d", size: 1 << 60)])),
    ("disks[0].domain", VMDefinition(name: "a", memoryMiB: 1, disks: [DiskDefinition(image: "i", domain: "d/..", size: 512)])),
    ("disks[1].image", VMDefinition(name: "a", memoryMiB: 1, disks: [DiskDefinition(image: "i", domain: "d", size: 512), DiskDefinition(image: "i", domain: "d", size: 512)])),
    ("onLeaseLoss", VMDefinition(name: "a", memoryMiB: 1, disks: [], leases: false, onLeaseLoss: .pause)),
    ("pauseBefore", VMDefinition(name: "a", memoryMiB: 1, disks: [], pauseBefore: .seconds(1))),
    ("pauseBefore", VMDefinition(name: "a", memoryMiB: 1, disks: [], onLeaseLoss: .pause, pauseBefore: .zero)),
    ("resume", VMDefinition(name: "a", memoryMiB: 1, disks: [], ha: true, resume: .leave)),
    ("pin[0]", VMDefinition(name: "a", memoryMiB: 1, disks: [], pin: ["a b"])),
])
func aBadDefinitionIsRefusedNamingTheKey(key: String, definition: VMDefinition) {
    var bench = Bench()
    bench.feed(.define("1", definition))
    #expect(bench.refusal?.code == PlacementErrorCode.badDefinition.rawValue && bench.refusal?.details?["key"] == key)
    #expect(bench.engine.vms.isEmpty)
}

@Test func theSameDefinitionTwiceIsOneVM() {
    var bench = Bench()
    bench.define(Bench.vm("a"))
    #expect(bench.phase("a") == .down)
    let done = bench.actions.count
    bench.feed(.define("2", Bench.vm("a")))
    #expect(bench.refusal == nil && bench.actions.count == done && bench.phase("a") == .down)
    bench.feed(.define("3", Bench.vm("a", memory: 65)))
    #expect(bench.refusal?.code == PlacementErrorCode.exists.rawValue)
}

/// S5: one writable disk belongs to one definition.
@Test func aDiskInASecondDefinitionIsRefused() {
    var bench = Bench()
    bench.define(Bench.vm("a", disk: "d1"))
    bench.feed(.define("2", Bench.vm("b", disk: "d1")))
    #expect(bench.refusal?.code == PlacementErrorCode.diskInUse.rawValue)
    func reader(_ name: String) -> VMDefinition {
        VMDefinition(name: name, memoryMiB: 1, disks: [DiskDefinition(image: "d2", domain: "dom", size: 512, readOnly: true)])
    }
    bench.define(reader("c"))
    bench.feed(.define("3", reader("e")))
    #expect(bench.refusal == nil)
    bench.feed(.define("4", Bench.vm("f", disk: "d2")))
    #expect(bench.refusal?.code == PlacementErrorCode.diskInUse.rawValue)
}

@Test func itIsLockedUntilDisksAndLeasesExist() {
    var bench = Bench()
    bench.feed(.define("1", Bench.vm("a")))
    #expect((try? bench.engine.show("a"))?.status == .locked)
    bench.start("a")
    #expect(bench.refusal?.code == PlacementErrorCode.badState.rawValue)
    guard case .createVolume(_, let volume, let id) = bench.actions.last else { Issue.record("no volume.create"); return }
    #expect(volume == VolumeCreate(domain: "dom", image: "disk-a", size: 512))
    bench.feed(.prepared(vm: "a", id: id, RequestError(RequestErrorCode.unknownOutcome, "no reply")))
    bench.pass(.seconds(2))
    guard case .createVolume(_, _, let again) = bench.actions.last else { Issue.record("not asked again"); return }
    #expect(again == id, "an unknown outcome is asked for under the same id")
    // Its own restart asks again under the same id.
    bench.feed(.started(PlacementPolicy(), lineage: "j"))
    guard case .createVolume(_, _, let resumed) = bench.actions.last else { Issue.record("not resumed"); return }
    #expect(resumed == id && bench.actions.count == 3)
    bench.feed(.prepared(vm: "a", id: id, RequestError(SPMErrorCode.noSPM, "nobody serves")))
    bench.pass(.seconds(2))
    guard case .createVolume(_, _, let fresh) = bench.actions.last else { Issue.record("not asked again"); return }
    #expect(fresh != id, "a stored refusal would be replayed for the old id")
    bench.feed(.prepared(vm: "a", id: fresh, nil))
    guard case .createLease(_, LeaseName(lockspace: "dom", resource: "disk-a"), let lease) = bench.actions.last else { Issue.record("no lease.create"); return }
    bench.feed(.prepared(vm: "a", id: lease, nil))
    #expect(bench.phase("a") == .down)
}

@Test func aFailedTaskIsTriedAgainWhenDefinedAgain() {
    var bench = Bench()
    bench.feed(.define("1", Bench.vm("a")))
    bench.feed(.prepared(vm: "a", id: bench.engine.vms["a"]?.preparation?.id ?? "", RequestError(SPMErrorCode.taskFailed, "no space")))
    #expect((try? bench.engine.show("a"))?.status == .error)
    bench.start("a")
    #expect(bench.refusal != nil)
    bench.define(Bench.vm("a"))
    #expect(bench.phase("a") == .down)
}

/// S5, S7: removal needs proof; a later VM of that name continues the attempts that agents have seen.
@Test func removalNeedsProofAndAttemptsGoOn() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(.remove("1", VMRequest(vm: "a")))
    #expect(bench.refusal?.code == PlacementErrorCode.badState.rawValue)
    bench.feed(.stop("2", VMRequest(vm: "a")))
    bench.feed(.remove("3", VMRequest(vm: "a")))
    #expect(bench.refusal?.code == PlacementErrorCode.notProven.rawValue)
    bench.answer("a", .observed(Bench.stopped("a", 1, by: "host1")))
    bench.feed(.remove("4", VMRequest(vm: "a")))
    #expect(bench.refusal == nil && bench.engine.vms.isEmpty)
    bench.bringUp(Bench.vm("a"))
    #expect(bench.starts == ["a.1@host1", "a.2@host1"])
}

/// spm-coordinator keeps its answers by request id: another definition under the same name must not get those of the removed one.
@Test func requestIDsGoOnAfterARemoval() {
    var bench = Bench()
    bench.define(Bench.vm("a", disk: "d1"))
    bench.feed(.remove("1", VMRequest(vm: "a")))
    bench.define(Bench.vm("a", disk: "d2"))
    let ids = bench.actions.compactMap { action -> RequestID? in
        switch action {
        case .createVolume(_, _, let id), .createLease(_, _, let id): id
        default: nil
        }
    }
    #expect(ids.count == 4 && Set(ids).count == 4)
}

// MARK: Shareable disks

private func sharing(_ name: String, shareable: Bool? = true, domain: String = "dom", leases: Bool = true, readOnly: Bool = false) -> VMDefinition {
    var definition = Bench.vm(name, leases: leases)
    definition.ha = leases
    definition.disks.append(DiskDefinition(image: "disk-shared", domain: domain, size: 512, readOnly: readOnly, shareable: shareable))
    return definition
}

@Test func aDiskIsInTwoDefinitionsOnlyIfBothShareIt() {
    var bench = Bench()
    bench.define(sharing("a"))
    bench.define(sharing("b"))
    #expect(bench.phase("b") == .down)
    for other in [sharing("c", shareable: nil), sharing("c", domain: "dom2"), sharing("c", shareable: nil, readOnly: true)] {
        bench.feed(.define("r", other))
        #expect(bench.refusal?.code == PlacementErrorCode.diskInUse.rawValue)
    }
    for bad in [sharing("d", leases: false), sharing("d", readOnly: true)] {
        bench.feed(.define("r", bad))
        #expect(bench.refusal?.code == PlacementErrorCode.badDefinition.rawValue && bench.refusal?.details?["key"] == "disks[1].shareable")
    }
}

@Test func whoSharesADiskRunsOnAHostOfItsOwn() {
    var bench = Bench()
    for name in ["a", "b", "c"] { bench.define(sharing(name)) }
    for name in ["a", "b"] {
        bench.start(name)
        bench.answer(name, .observed(Bench.running(name, 1)))
    }
    #expect(bench.starts == ["a.1@host1", "b.1@host2"])
    bench.start("c")
    #expect(bench.refusal?.code == PlacementErrorCode.noHost.rawValue && bench.refusal?.details?["host1"]?.contains("shares disk disk-shared") == true)
}
