import Foundation
import Testing

/// Hosts on which nothing runs are powered down, and are on again before they are missed.
@Suite(.serialized) struct PowerSavingTests {
    @Test func anEmptyHostIsPoweredDownAndOnAgainWhenItIsMissed() throws {
        let cluster = try TestCluster(
            grace: "5s",
            overriding: ["enabled=true", "emptyFor=5s", "pause=5s", "reserveHosts=0"].map { "placement-service.saving.\($0)" })
        defer { cluster.down() }
        try cluster.waitForAllUp()
        let spm = try #require(try cluster.spm())
        let spare = try #require(TestCluster.hostNames.first { $0 != spm })
        let other = try #require(TestCluster.hostNames.last { $0 != spm })
        let powered = cluster.powerActions()
        #expect(!powered.contains { $0.hasSuffix("power 0") }, "no host is empty")

        let guests = try cluster.vms(on: spare)
        #expect(!guests.isEmpty, "at least one VM on each host")
        for guest in guests {
            try cluster.bulwark("vm", "stop", guest)
            try cluster.wait("\(guest) is down", within: 20) { try cluster.vms().first { $0.name == guest }?.status == "down" }
            try cluster.bulwark("vm", "start", guest, "--host", other)
        }
        try cluster.wait("\(spare) is powered down", within: 60) {
            try cluster.hosts()[spare]?.status == "Down" && cluster.bulwark("host", "show", spare).text.contains("to save power")
        }
        try cluster.wait("its life is proven over", within: 30) { try cluster.explain("host", spare).contains("proven over") }
        let offs = Set(cluster.powerActions()).subtracting(powered)
        #expect(offs.count == 1 && offs.allSatisfy { $0.hasPrefix("\(spare):") && $0.hasSuffix("power 0") }, "\(offs)")
        let quiet = try cluster.quietState()
        #expect(try cluster.vms().allSatisfy { $0.status == "up" && $0.host != spare })

        // Once the last other one that may be SPM is lost, this one is missed.
        try cluster.lab("bmc-dead", other)
        try cluster.lab("crash", other)
        try cluster.waitForHost(spare, "Up", within: 60)
        #expect(try cluster.quietState().filter { $0.contains(" \(spm) ") } == quiet.filter { $0.contains(" \(spm) ") })
        try cluster.lab("heal", other)
        try cluster.waitForVMsElsewhere(than: other, within: 60)
        try cluster.expectTicking()
        try cluster.expectOneWriter()
        try cluster.expectSameDecisionsAgain()
    }
}
