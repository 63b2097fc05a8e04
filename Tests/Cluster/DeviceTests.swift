import Foundation
import Testing

/// Real agents against real devices that fail: `fence_redfish` on sushy-emulator, `fence_ipmilan` on ipmi_sim, `fence_dummy` as a second power supply.
/// Each test has one cluster for several faults; whatever is said to be unknown stays so until a device that can be believed says otherwise.
@Suite(.serialized) struct DeviceTests {
    private func deviceCluster(function: String = #function, _ scenario: (TestCluster) throws -> Void) throws {
        let cluster = try TestCluster(
            grace: "3s", "--config-override", "fencing-service.fence.retry=1s", "--config-override", "fencing-service.fence.agentTimeout=6s", function: function)
        defer { cluster.down() }
        try scenario(cluster)
        try cluster.expectSameDecisionsAgain()
    }

    private func expectNotRestarted(_ cluster: TestCluster, _ victims: [String]) throws {
        for vm in try cluster.vms() where victims.contains(vm.name) { #expect(vm.status == "unknown" && vm.attempt == 1, "\(vm)") }
    }

    @Test func faultsOfARedfishDevice() throws {
        try deviceCluster { cluster in
            let bmc = try RedfishBMC(of: "host2", in: cluster)
            defer { bmc.kill() }
            try cluster.give("host2", bmc.device())
            #expect(try cluster.rehearsal(of: "host2", works: true).contains("host2 can be fenced in 1 way"))
            try aWrongPasswordThenADeadDevice(cluster, bmc)
            try theDeviceDiesBetweenOffAndOn(cluster, bmc)
            try anOffThatIsAnsweredAfterTheAgentsTime(cluster, bmc)
            try aDeviceThatReadsOffWhileItsHostRuns(cluster, bmc)
            try cluster.expectTicking()
            try cluster.expectOneWriter()
        }
    }

    /// The case says what the agent said, and goes on once it can.
    private func aWrongPasswordThenADeadDevice(_ cluster: TestCluster, _ bmc: RedfishBMC) throws {
        try bmc.secret("wrong", to: "wrong-secret")
        try cluster.give("host2", bmc.device(secret: "wrong-secret"))
        let rehearsal = try cluster.rehearsal(of: "host2", works: false)
        #expect(rehearsal.contains("host2 CANNOT be fenced"), "\(rehearsal)")
        let victims = try cluster.vms(on: "host2")
        let actions = cluster.powerActions()
        try cluster.lab("crash", "host2")
        try cluster.waitForCase("host2", "failed", saying: "Unable to get PowerState")
        try expectNotRestarted(cluster, victims)
        #expect(cluster.powerActions() == actions)
        bmc.kill()
        try cluster.give("host2", bmc.device())
        try cluster.waitForCase("host2", "failed", saying: "Connection refused")
        try expectNotRestarted(cluster, victims)
        #expect(cluster.powerActions() == actions)
        let history = try cluster.bulwark("fence", "history", "host2", "--steps").text
        #expect(!history.contains("wrong") && !history.contains("sesame"), "no password is told:\n\(history)")
    }

    /// What was proven stays: its VMs run elsewhere, itself it stays down until it can be switched on.
    private func theDeviceDiesBetweenOffAndOn(_ cluster: TestCluster, _ bmc: RedfishBMC) throws {
        try bmc.fail("dies-at-on")
        let before = try cluster.hosts()["host2"]?.incarnation ?? 0
        try bmc.start()
        try cluster.waitForVMsElsewhere(than: "host2", within: 40)
        try cluster.wait("the device died when it was to switch on", within: 30) { !bmc.isRunning }
        try cluster.wait("the case notices", within: 30) { try cluster.openCase("host2")?.step == "failed" }
        let host = try cluster.hosts()["host2"]
        #expect(host?.status == "Reboot" && host?.incarnation == before)
        bmc.heal("dies-at-on")
        try bmc.start()
        try cluster.wait("host2 is back", within: 60) { try cluster.hosts()["host2"].map { $0.status == "Up" && $0.incarnation ?? 0 > before } ?? false }
        try cluster.waitForAllUp()
    }

    /// The agent is killed, what it did is unknown, and a status says it.
    private func anOffThatIsAnsweredAfterTheAgentsTime(_ cluster: TestCluster, _ bmc: RedfishBMC) throws {
        try runWeb1OnHost2(cluster)
        try bmc.fail("slow-reset", "30")
        try cluster.lab("hang", "host2")
        try cluster.waitForVMsElsewhere(than: "host2", within: 60)
        bmc.heal("slow-reset")
        let history = try cluster.bulwark("fence", "history", "host2", "--steps").text
        let runs = history.split(separator: "\n").map(String.init).filter { $0.contains("  fence_redfish ") }
        let late = runs.lastIndex { $0.contains(" off at ") }
        #expect(late.map { runs[$0].contains("timed out") && runs.dropFirst($0 + 1).first?.contains("status at 10.77.1.2: off") == true } == true, "\(history)")
        try cluster.waitForAllUp(within: 90)
    }

    private func runWeb1OnHost2(_ cluster: TestCluster) throws {
        try cluster.bulwark("vm", "stop", "web1")
        try cluster.wait("web1 is down", within: 20) { try cluster.vms().first { $0.name == "web1" }?.status == "down" }
        try cluster.bulwark("vm", "start", "web1", "--host", "host2")
        try cluster.wait("web1 runs on host2", within: 20) { try cluster.vms(on: "host2").contains("web1") && cluster.vms().allSatisfy { $0.status == "up" } }
    }

    /// Nobody vouches for it, and the host's lease renewals go on: its off says nothing (S10).
    private func aDeviceThatReadsOffWhileItsHostRuns(_ cluster: TestCluster, _ bmc: RedfishBMC) throws {
        try runWeb1OnHost2(cluster)
        try cluster.give("host2", bmc.device(vouched: false))
        try bmc.fail("lies")
        let before = try cluster.vms()
        let actions = cluster.powerActions()
        try cluster.lab("cut-network", "host2")
        try cluster.waitForCase("host2", "failed", saying: "renewals")
        for vm in try cluster.vms() { #expect(vm.attempt == before.first { $0.name == vm.name }?.attempt, "\(vm)") }
        bmc.heal("lies")
        try cluster.lab("heal", "host2")
        try cluster.waitForAllUp()
        let after = try cluster.vms()
        #expect(after == before && cluster.powerActions() == actions)
    }

    @Test func anotherMachinesDeviceAndTwoSupplies() throws {
        try deviceCluster { cluster in
            let supply = try DummySupply(in: cluster)
            let victims = try cluster.vms(on: "host3")
            let neighbour = try cluster.hosts()["host1"]?.incarnation

            // Its definition names the BMC of host1, by mistake.
            let actions = cluster.powerActions()
            try cluster.give("host3", cluster.ownDevice("host1"))
            try cluster.lab("crash", "host3")
            try cluster.waitForHost("host3", "NonResponsive", within: 30)
            try cluster.wait("the case says whose device it is", within: 30) { try cluster.openCase("host3")?.reason.contains("belongs to another machine") == true }
            try expectNotRestarted(cluster, victims)
            #expect(cluster.powerActions() == actions)

            // Two supplies of one level: the second does not switch off, so the host may have power.
            try supply.stick(true)
            try cluster.give("host3", cluster.ownDevice("host3"), supply.device(cluster))
            try cluster.waitForCase("host3", "failed", saying: "still reads on after off")
            try expectNotRestarted(cluster, victims)
            #expect(supply.reads == "on")
            try supply.stick(false)
            try cluster.waitForVMsElsewhere(than: "host3", within: 40)
            try cluster.waitForAllUp()
            let incarnation = try cluster.hosts()["host1"]?.incarnation
            #expect(supply.reads == "on" && incarnation == neighbour)
            #expect(try cluster.rehearsal(of: "host3", works: true).contains("host3 can be fenced in 1 way"))
            try cluster.expectOneWriter()
        }
    }
}
