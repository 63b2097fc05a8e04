import FencingEngine
import Messages
import Simulation
import Testing

/// Sentences of scenarios: what is written is what is read, and what cannot be read is told by the word.
@Suite struct SentenceTests {
    static let names = Vocabulary(hosts: ["host1", "host2"], vms: ["web1"], domains: ["dom1"], resources: ["pool1"])

    static let happenings = machines + processes + network + storage + commands + leases + BMCFault.allCases.map { .bmc(host: "host1", $0) }

    private static let machines: [Happening] = [
        .crash(host: "host1"), .hang(host: "host1"), .thaw(host: "host1"), .halt(host: "host1"), .suspend(host: "host1"), .resume(host: "host1"), .reboot(host: "host1"),
        .switchOn(host: "host1"), .switchOff(host: "host1"), .loseAllPower, .returnAllPower,
        .clone(host: "host1"), .twin(host: "host1"), .endClone(host: "host1"), .replace(host: "host1"), .switchOnOld(host: "host1"), .switchOffOld(host: "host1"),
    ]

    private static let processes: [Happening] = [
        .kill(.fencingService), .stop(.hostAgent(host: "host1")), .start(.leaseService(host: "host2")), .freeze(.vmGuard(vm: "web1")), .unfreeze(.worker(host: "host1")),
        .kill(.placementService), .kill(.spmCoordinator), .kill(.domainMonitor),
    ]

    private static let network: [Happening] = [
        .cut(from: "host1", to: "manager"), .cutBoth("host1", "host2"), .isolate("host1"), .heal("host1", "manager"), .healNetwork,
    ]

    private static let storage: [Happening] = [
        .storageHangs(domain: "dom1", host: "host1"), .storageFails(domain: "all", host: "host1"), .storageSlow(domain: "dom1", host: "all"),
        .storageHeals(domain: "all", host: "all"),
        .startsFail(host: "host1", count: 2), .startsSlow(host: "host2"), .startsWork(host: "host2"), .watchdogBusy(host: "host1"), .watchdogFree(host: "all"), .guestCrash(vm: "web1"), .guestStuck(vm: "web1"),
        .guestUnstuck(vm: "web1"),
    ]

    private static let commands: [Happening] = [
        .vmStart(vm: "web1", host: nil), .vmStart(vm: "web1", host: "host2"), .vmStop(vm: "web1"), .vmRemove(vm: "web1"), .vmResume(vm: "web1"), .vmResetPowerState(vm: "web1"),
        .hostMaintenance(host: "host1"), .hostActivate(host: "host1"), .hostConfirmOff(host: "host1"), .hostForget(host: "host1"), .hostAdd(host: "host1"), .hostUpdate(host: "host1", bmcOf: "host2"), .fenceNow(host: "host1"),
        .power(host: "host1", .on), .power(host: "host1", .off), .power(host: "host1", .cycle), .haHold, .haRelease, .haEnable, .haDisable,
        .spmSelect(host: "host2"), .spmMove, .domainMaintenance(domain: "dom1"), .domainActivate(domain: "dom1"),
    ]

    private static let leases: [Happening] = [
        .leaseTake(resource: "pool1", host: "host1", .exclusive), .leaseTake(resource: "pool1", host: "host1", .shared), .leaseConvert(resource: "pool1", host: "host1", .exclusive),
        .leaseConvert(resource: "pool1", host: "host1", .shared), .leaseDrop(resource: "pool1", host: "host1"), .leaseRequest(resource: "pool1", host: "host1", .graceful),
        .leaseRequest(resource: "pool1", host: "host1", .force), .leaseVoid(host: "host1", domain: "dom1", by: "host2"), .leaseCreate(resource: "pool1"),
        .leaseRemove(resource: "pool1"), .indexRebuild(domain: "dom1"), .lockspaceNotify(host: "host1", domain: "dom1", by: "host2"), .lockspaceDrain(domain: "dom1"),
        .lockspaceOpen(domain: "dom1"), .lockspaceBackup(domain: "dom1", host: "host1"), .lockspaceReinitialize(domain: "dom1", host: "host1"),
        .lockspaceReinitialize(domain: "dom1", host: "host1", byForce: true), .lockspaceReinitialize(domain: "dom1", host: "host1", sectorSize: 4096),
        .lockspaceReinitialize(domain: "dom1", host: "host1", ioTimeout: 5), .lockspaceRestore(domain: "dom1", host: "host1"),
    ]

    static let occurrences: [Occurrence] = [
        .lease(resource: "pool1", .exclusive, host: nil), .lease(resource: "pool1", .shared, host: "host1"), .leaseEnded(resource: "pool1", host: "host2"),
        .start(vm: "web1", host: nil), .start(vm: "web1", host: "host2"), .end(vm: "web1"), .off(host: "host1"), .on(host: "host1"), .caseOpened(host: "host1"),
        .proof(host: "host1", nil), .proof(host: "host1", .rebooted), .revoked(host: "host1"), .spm(host: "host2"), .hostStatus(host: "host1", .nonResponsive),
        .vmStatus(vm: "web1", .unknown), .domainStatus(domain: "dom1", .inactive),
    ]

    static let expectations = states + counts + Scenario.Expectation.CaseState.allCases.map { .fenceCase(host: "host1", $0) }
        + occurrences.flatMap { [.never($0), .happens($0), .order($0, before: .start(vm: "web1", host: nil))] }

    private static let states: [Scenario.Expectation] = [
        .vm("web1", .up, host: nil), .vm("web1", .up, host: "host2"), .vmNotOn("web1", .up, host: "host1"), .host("host1", .up), .power(host: "host1", isOn: true),
        .power(host: "host1", isOn: false), .spm(host: "host1"), .spmServes, .noSPM, .domain("dom1", .active), .recovery(allowed: true), .recovery(allowed: false),
        .lease(resource: "pool1", .exclusive, host: "host1"), .lease(resource: "pool1", .shared, host: "host2"),
    ]

    private static let counts: [Scenario.Expectation] = [
        .starts(vm: "web1", .exactly(1)), .starts(vm: "web1", .atLeast(2)), .starts(vm: "web1", .atMost(3)), .powerOffs(host: "host1", .exactly(0)),
        .powerOffs(host: "host1", .atLeast(1)), .powerOffs(host: "host1", .atMost(1)), .refused(.vmStart(vm: "web1", host: nil), code: nil),
        .refused(.vmStart(vm: "web1", host: "host1"), code: "placement.no-host"), .accepted(.haHold),
    ]

    @Test(arguments: happenings) func whatHappens(_ happening: Happening) throws {
        #expect(try Happening(sentence: happening.sentence, names: Self.names) == happening)
    }

    @Test(arguments: expectations) func whatIsExpected(_ expectation: Scenario.Expectation) throws {
        #expect(try Scenario.Expectation(sentence: expectation.sentence, names: Self.names) == expectation)
    }

    @Test(arguments: [
        ("crush host1", "\"crush\" in \"crush host1\" is not known; possible: crash, hang"),
        ("crash host9", "\"host9\" in \"crash host9\" is not known; possible: host1, host2"),
        ("crash", "\"crash\" is not complete; possible: host1, host2"),
        ("crash host1 now", "\"now\" in \"crash host1 now\" is not known; the sentence ends before it"),
        ("cut host1 to manager", "possible: ->, <->"),
        ("kill placement", "possible: a process: fencing-service"),
        ("kill guard@web9", "possible: a process"),
        ("bmc of host1 sleeps", "possible: works, is, hangs, says, acts, refuses"),
        ("storage dom1 hangs at host1", "possible: on"),
        ("", "is not complete; possible: crash"),
    ]) func whatCannotBeRead(_ sentence: String, _ message: String) {
        let error = #expect(throws: SentenceError.self) { try Happening(sentence: sentence, names: Self.names) }
        #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
    }

    @Test(arguments: [
        ("vm web1 running", "possible: up, down, paused"),
        ("host host1 up", "\"up\" in \"host host1 up\" is not known; possible: Unassigned"),
        ("prof host1 before start web1", "\"prof\" in \"prof host1\" is not known; possible: start, end, pause, resume, off"),
        ("proof host1 before", "possible: start"),
        ("starts web1 twice", "possible: a number, at"),
        ("refused vm begin web1", "\"begin\""),
        ("web1 up", "possible: vm, host, power, spm, domain, lease, recovery, starts, power-offs, case, never, happens, refused, accepted"),
    ]) func whatCannotBeExpected(_ sentence: String, _ message: String) {
        let error = #expect(throws: SentenceError.self) { try Scenario.Expectation(sentence: sentence, names: Self.names) }
        #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
    }

    /// Against a run that went wrong in every way; each says what was true instead.
    @Test func whatIsNotMet() {
        var seen = Observed()
        seen.vms["web1"] = .init(status: .unknown, host: nil)
        seen.hosts["host1"] = .init(status: .nonResponsive, isOn: true, caseStep: "held")
        seen.domains["dom1"] = .inactive
        seen.occurrences = [.start(vm: "web1", host: "host2"), .proof(host: "host1", .rebooted), .off(host: "host1")]
        seen.answers = [.init(command: .vmStart(vm: "web1", host: nil), refusal: RequestError(PlacementErrorCode.noHost, "no host"))]
        for sentence in [
            "vm web1 up", "vm web1 unknown on host1", "host host1 Up", "power host1 off", "case host1 none", "case host1 failed", "spm serves", "spm host1", "domain dom1 Active",
            "recovery held", "starts web1 2", "starts web1 at least 2", "power-offs host1 0", "power-offs host1 at most 0", "proof host1 before start web1",
            "proof host1 before start web1 on host1", "never start web1", "never off host1", "happens revoked host1", "happens start web1 on host1",
            "accepted vm start web1", "refused vm start web1 with vm.not-proven-over", "refused vm stop web1", "accepted ha hold",
        ] {
            #expect((try? Scenario.Expectation(sentence: sentence, names: Self.names).unmet(in: seen)) ?? nil != nil, "\(sentence)")
        }
        for sentence in [
            "vm web1 unknown", "host host1 NonResponsive", "power host1 on", "case host1 open", "case host1 held", "spm none", "domain dom1 Inactive", "recovery allowed",
            "starts web1 1", "starts web1 at most 1", "power-offs host1 1", "start web1 before proof host1", "start web1 on host2 before off host1", "never proof host1 powerOff",
            "happens proof host1", "happens proof host1 rebooted", "refused vm start web1", "refused vm start web1 with placement.no-host",
        ] {
            #expect(throws: Never.self) {
                let unmet = try Scenario.Expectation(sentence: sentence, names: Self.names).unmet(in: seen)
                #expect(unmet == nil, "\(sentence): \(unmet ?? "")")
            }
        }
    }
}
