import CLinux
import Foundation
import Testing

/// `compose/compose.yaml` on a real container engine. The tests share one cluster; each leaves it well.
@Suite(.serialized, .onContainerEngine) struct ComposeTests {
    private func engine() throws -> ContainerEngine { try #require(ContainerEngine.current) }

    @Test func everyServiceIsHealthyAndHasNoMorePrivilegeThanItNeeds() throws {
        let engine = try engine()
        try engine.waitUntilWell("up")
        let long = ContainerEngine.controlServices + ["operator"] + ContainerEngine.hosts
        for service in long {
            let state = try engine.docker(
                "inspect", "--format", "{{.State.Health.Status}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}",
                "bulwark-\(service)-1")
            #expect(state == "healthy always false true [ALL]", "\(service)")
        }
        for service in ContainerEngine.controlServices + ["operator"] {
            let pid = try engine.mainProcess(service)
            let status = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8).split(separator: "\n").map { $0.split(whereSeparator: \.isWhitespace).map(String.init) }
            func value(_ key: String) -> [String] { status.first { $0.first == key }.map { Array($0.dropFirst()) } ?? [] }
            #expect(value("Uid:") == Array(repeating: "10001", count: 4), "\(service)")
            for set in ["CapPrm:", "CapEff:", "CapBnd:"] { #expect(value(set) == ["0000000000000000"], "\(service) \(set)") }
            #expect(value("NoNewPrivs:") == ["1"], "\(service)")
        }
    }

    @Test func restartingEachServiceAndAllAtOnceChangesNothing() throws {
        let engine = try engine()
        try engine.waitUntilWell("up")
        let before = try engine.quietState()
        for service in ContainerEngine.controlServices + ["operator"] {
            try engine.compose("restart", service)
            try engine.waitUntilWell("a restart of \(service)")
            #expect(try engine.quietState() == before, "after a restart of \(service)")
        }
        // In a host, its PID 1 restarts them: guards and guests are no children of theirs.
        for host in ContainerEngine.hosts {
            try engine.bulwark("lab", "kill", "\(host)/lease-service", "\(host)/host-agent", in: host)
            try engine.waitUntilWell("kill -9 of the services of \(host)")
            #expect(try engine.quietState() == before, "after kill -9 of the services of \(host)")
        }
        for host in ContainerEngine.hosts { try engine.bulwark("lab", "kill", "\(host)/lease-service", "\(host)/host-agent", in: host) }
        try engine.compose("restart", "fencing-service", "spm-coordinator", "placement-service", "domain-monitor", "operator")
        try engine.waitUntilWell("a restart of all at once")
        // A wrong decision would need a while: silence begins to count anew.
        sleep(7)
        try engine.waitUntilWell("some time")
        #expect(try engine.quietState() == before, "after a restart of all at once")
        try engine.expectOneWriter()
    }

    @Test func aKilledProcessIsStartedAgainAndChangesNothing() throws {
        let engine = try engine()
        try engine.waitUntilWell("up")
        let before = try engine.quietState()
        for service in ContainerEngine.controlServices {
            let pid = try engine.mainProcess(service)
            #expect(kill(pid, SIGKILL) == 0)
            try engine.wait("\(service) is started again", within: 20) { try engine.mainProcess(service) != pid ? nil : "no" }
        }
        try engine.waitUntilWell("kill -9 of every control service", within: 30)
        #expect(try engine.quietState() == before)
    }

    @Test func theOthersServeWithoutFencingService() throws {
        let engine = try engine()
        try engine.waitUntilWell("up")
        try engine.compose("stop", "fencing-service")
        defer { _ = try? engine.compose("start", "fencing-service") }
        for service in ["spm-coordinator", "placement-service", "domain-monitor"] { try engine.bulwark("health", service) }
        let host = try #require(try engine.rows("vm").first { $0.name == "app1" }?.host)
        try engine.bulwark("vm", "stop", "app1")
        try engine.wait("app1 is stopped", within: 10) { try engine.rows("vm").first { $0.name == "app1" }?.status == "down" ? nil : "no" }
        try engine.bulwark("vm", "start", "app1")
        try engine.wait("app1 is up", within: 10) { try engine.rows("vm").first { $0.name == "app1" }?.status == "up" ? nil : "no" }
        let quiet = try engine.quietState()
        #expect(try engine.rows("vm").first { $0.name == "app1" }?.host != nil, "it ran on \(host)")
        try engine.compose("start", "fencing-service")
        try engine.waitUntilWell("the return of fencing-service")
        #expect(try engine.quietState() == quiet)
    }

    @Test func vmsOfACrashedHostStartElsewhereByProofOfItsPower() throws {
        let engine = try engine()
        try engine.waitUntilWell("up")
        let incarnation = try #require(try engine.rows("host").first { $0.name == "host2" }?.incarnation)
        let vms = try engine.rows("vm").filter { $0.host == "host2" }.map(\.name)
        #expect(!vms.isEmpty || incarnation > 1)
        // kill -9 of everything in the host's control group, from its container: no Bulwark process is told.
        try engine.bulwark("lab", "crash", "host2", in: "host2")
        try engine.wait("VMs run elsewhere", within: 40) {
            let rows = try engine.rows("vm")
            let wrong = rows.filter { $0.status != "up" || (vms.contains($0.name) && $0.host == "host2") }
            return wrong.isEmpty ? nil : wrong.map { "\($0.name) \($0.status)" }.joined(separator: ", ")
        }
        try engine.waitUntilWell("the crash of host2", within: 40)
        #expect(try engine.rows("host").first { $0.name == "host2" }?.incarnation == incarnation + 1)
        #expect(try engine.bulwark("explain", "host", "host2").contains("powerOff"))
        try engine.expectOneWriter()
    }

    @Test func downLeavesNothingAndUpFindsTheClusterAgain() throws {
        let engine = try engine()
        try engine.waitUntilWell("up")
        let disks = try engine.rows("vm").map(\.name)
        let inits = try ContainerEngine.hosts.map { try engine.mainProcess($0) }
        let ids = try ContainerEngine.hosts.map { try engine.docker("inspect", "--format", "{{.Config.Hostname}}", "bulwark-\($0)-1") }
        try engine.compose("down")
        #expect(try engine.docker("ps", "-aq") == "")
        #expect(try engine.docker("network", "ls", "-q", "--filter", "type=custom") == "")
        #expect(try engine.docker("volume", "ls", "-q").split(separator: "\n").count == 2, "state stays")
        for pid in inits { #expect(kill(pid, 0) != 0) }
        let groups = try #require(FileManager.default.enumerator(atPath: "/sys/fs/cgroup")?.allObjects as? [String])
        for id in ids { #expect(!groups.contains { $0.contains(id) }, "no control group of \(id)") }
        try engine.compose("up", "--detach", "--wait", "--no-build", deadline: 120)
        try engine.waitUntilWell("up again", within: 40)
        #expect(try engine.rows("vm").map(\.name) == disks)
        try engine.expectOneWriter()
    }

    /// As the head of the file tells it: a manager, and a host that gets its keys as a tar file; here two projects on one engine stand for two machines.
    @Test func managerAndHostRunOnMachinesOfTheirOwn() throws {
        let engine = try engine()
        let directory = engine.directory + "/machine"
        try FileManager.default.createDirectory(atPath: directory + "/demo", withIntermediateDirectories: true)
        try FileManager.default.createDirectory(atPath: engine.directory + "/shared", withIntermediateDirectories: true)
        // This machine may have no identity of its own (DMI).
        try Data("services: {host: {environment: {BULWARK_HOST_HARDWARE_IDFILE: /var/lib/bulwark/demo/hardware-id}}}\n".utf8)
            .write(to: URL(fileURLWithPath: engine.directory + "/machine.yaml"))
        let (manager, machine) = ("manager", "machine1")
        defer {
            _ = try? engine.composeMachine(machine, "--profile", "host", "down", "--volumes")
            _ = try? engine.composeMachine(manager, "--profile", "manager", "down", "--volumes")
        }
        func bulwark(_ arguments: String) throws -> String { try engine.composeMachine(manager, "exec", "-T", "operator", "sh", "-c", "bulwark " + arguments) }

        try engine.composeMachine(manager, "--profile", "manager", "up", "--detach", "--wait", "--no-build")
        _ = try bulwark("container host host1 --id 1 --address 127.0.0.1 --to /tmp/host1/demo && echo 0123456789abcdef0123456789abcdef >/tmp/host1/demo/hardware-id")
        let files = try engine.composeMachine(manager, "exec", "-T", "operator", "sh", "-c", "tar -C /tmp/host1 -c demo | base64")
        let tar = try #require(Data(base64Encoded: files, options: .ignoreUnknownCharacters))
        try tar.write(to: URL(fileURLWithPath: directory + "/host1.tar"))
        let definition = try engine.composeMachine(manager, "exec", "-T", "operator", "cat", "/tmp/host1/demo/host1.yaml")
        try Data(definition.utf8).write(to: URL(fileURLWithPath: directory + "/host1.yaml"))
        try engine.composeMachine(manager, "--profile", "manager", "restart")

        try engine.composeMachine(
            machine, "--profile", "host", "run", "--rm", "--no-deps", "-T", "--entrypoint", "tar", "host", "-C", "/var/lib/bulwark", "--no-same-owner", "-x",
            input: directory + "/host1.tar")
        try engine.composeMachine(machine, "--profile", "host", "up", "--detach", "--wait", "--no-build")
        try engine.composeMachine(
            manager, "exec", "-T", "operator", "sh", "-c", "cat >/tmp/host1.yaml && bulwark host add /tmp/host1.yaml", input: directory + "/host1.yaml")
        try engine.wait("host1 is Up", within: 20) { try bulwark("host list").contains(" Up ") ? nil : "no" }
        _ = try bulwark("domain create data --io-timeout 2 --directory \(engine.directory)/shared")
        _ = try bulwark("pool create main --master data")
        try engine.wait("host1 is SPM", within: 20) { try bulwark("pool show").contains("host1 serves") ? nil : try bulwark("pool show") }
    }
}
