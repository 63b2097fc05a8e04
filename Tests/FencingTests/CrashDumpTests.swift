@testable import FencingEngine
import Messages
import Testing

/// A host that says that it writes a crash dump is switched off later, and nothing else follows from that.
@Suite struct CrashDumpTests {
    private func world(_ prepare: (World) -> Void = { _ in }) -> World {
        World {
            $0.policy.kdumpLimit = .seconds(120)
            for index in 1...3 { $0.machines["host\(index)"]?.kdump = ["10.0.0.\(index)"] }
            prepare($0)
        }
    }

    /// Its kernel has crashed: nothing of it runs, and its power is on.
    private func crash(_ name: String, in world: World) { world.machines[name]?.frozen = true }

    private func dump(_ name: String, _ isWritten: Bool, in world: World) { world.machines[name]?.sendsDumpMessages = isWritten }

    @Test func theOffWaitsForTheFirstMessageAndGoesOnWithoutOne() {
        let world = world()
        crash("host1", in: world)
        world.run(until: 15, "awaits") { world.step("host1") == "awaiting-dump" }
        #expect(world.status("host1") == .nonResponsive)
        world.run(29)
        #expect(world.offs["host1"] == nil && world.step("host1") == "awaiting-dump")
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.offs["host1"] == 1 && world.violations == [], "\(world.story)")
    }

    @Test func theOffWaitsWhileMessagesComeAndThenGoesOn() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        #expect(world.status("host1") == .kdumping)
        world.run(60)
        #expect(world.offs["host1"] == nil && world.proofs.isEmpty && world.status("host1") == .kdumping)
        dump("host1", false, in: world)
        world.run(24)
        #expect(world.offs["host1"] == nil)
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.offs["host1"] == 1 && world.proofs.map(\.kind) == [.powerOff])
        #expect(world.statuses(of: "host1").contains(.kdumping))
        let seen = world.engine.history(of: "host1").cases.last?.steps ?? []
        #expect(seen.contains { $0.step == "dumping" && $0.reason.contains("10.0.0.1") })
        #expect(world.decisions.contains { $0.what == "writes no crash dump any more" && $0.evidence["from"] == "10.0.0.1" })
        #expect(world.violations == [], "\(world.story)")
    }

    /// The first message takes its time: the crash kernel boots, and its network comes up.
    @Test func aMessageInTimeTurnsTheWaitIntoADump() {
        let world = world()
        crash("host1", in: world)
        world.run(until: 15, "awaits") { world.step("host1") == "awaiting-dump" }
        world.run(20)
        dump("host1", true, in: world)
        world.run(until: 6, "dumping") { world.step("host1") == "dumping" }
        world.run(30)
        #expect(world.offs["host1"] == nil && world.status("host1") == .kdumping)
    }

    @Test func noLongerThanTheLimit() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        world.run(118)
        #expect(world.offs["host1"] == nil)
        world.run(until: 10, "off") { world.offs["host1"] == 1 }
        #expect(world.decisions.contains { $0.what == "power off" && $0.why.contains("fence.kdumpLimit") })
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    /// kill -9 of the service, again and again: messages are listened for anew, the limit stays.
    @Test func theLimitSurvivesRestartsAndTheDumpToo() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        let until = world.now + .seconds(120)
        for _ in 0..<8 {
            world.run(13)
            if world.now < until { #expect(world.offs["host1"] == nil, "\(world.story)") }
            world.restart()
        }
        world.run(until: 30, "off") { world.offs["host1"] == 1 }
        #expect(world.now >= until && world.now < until + .seconds(20))
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    /// Grace is shorter than the pause between two messages: what was known before the restart bridges that.
    @Test func aRestartInADumpDoesNotEndIt() {
        let world = world { $0.policy.grace = .seconds(3) }
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        dump("host1", false, in: world)
        world.restart()
        world.run(until: 15, "dumping again") { world.step("host1") == "dumping" }
        world.run(10)
        #expect(world.offs["host1"] == nil)
        world.run(until: 40, "off") { world.offs["host1"] == 1 }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func aHostThatIsHeardAgainIsSparedWhateverTheMessagesSay() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        world.machines["host1"]?.frozen = false
        world.run(until: 5, "Up") { world.allUp }
        #expect(world.offs["host1"] == nil && world.proofs.isEmpty && world.violations == [], "\(world.story)")
    }

    /// The crash kernel has booted the machine anew before it was switched off.
    @Test func aRebootEndsTheCase() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        world.reboot("host1")
        world.run(until: 20, "all Up") { world.allUp }
        #expect(world.offs["host1"] == nil && world.proofs.first?.kind == .rebooted && world.violations == [], "\(world.story)")
    }

    /// Off is fenced already, whoever still sends.
    @Test func notWhereItReadsOff() {
        let world = world()
        world.crash("host1")
        dump("host1", true, in: world)
        world.run(until: 25, "proven") { world.proofs.map(\.kind) == [.powerOff] }
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    /// And as soon as it reads off, while messages come.
    @Test func notAnyLongerOnceItReadsOff() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        world.crash("host1")
        world.run(until: 15, "proven") { world.proofs.map(\.kind) == [.powerOff] }
        #expect(world.offs["host1"] == nil && world.violations == [], "\(world.story)")
    }

    @Test func anOperatorsFenceDoesNotWait() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        world.submit(.fenceNow(world.request(), HostRequest(host: "host1")))
        world.run(until: 3, "off") { world.offs["host1"] == 1 }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func anOperatorsConfirmationDoesNotWait() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        world.run(10)
        world.machines["host1"]?.lastRenewal = Instant(nanoseconds: 0)
        // The machine itself was looked at; its device errs.
        world.machines["host1"]?.powered = false
        world.machines["host1"]?.bmc = .stuck
        let view = world.view("host1")
        world.submit(.confirmOff(world.request(), ConfirmOff(host: "host1", caseID: view.fenceCase?.id ?? "", incarnation: view.incarnation, who: "ann", why: "looked", checked: true)))
        world.run(until: 3, "proven") { world.proofs.map(\.kind) == [.operatorConfirmed] }
        world.run(until: 1, "believed") { world.status("host1") != .kdumping }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func messagesOfAHostWithoutKdumpAreNothing() {
        let world = world { $0.machines["host1"]?.kdump = nil }
        crash("host1", in: world)
        for input in world.monitor.onDumpMessage(from: "10.0.0.1", at: world.now) { world.submit(input) }
        world.run(until: 20, "off") { world.offs["host1"] == 1 }
        #expect(!world.decisions.contains { $0.what.contains("dump") })
    }

    /// Nobody listens: nobody waits.
    @Test func withoutAListenerNothingWaits() {
        let world = world { $0.policy.kdumpLimit = .zero }
        crash("host1", in: world)
        world.run(until: 10, "off") { world.offs["host1"] == 1 }
    }

    /// A wrong address, or a joker: the host answers, and that is all that counts.
    @Test func messagesOfAHostThatAnswersChangeNothing() {
        let world = world()
        dump("host1", true, in: world)
        world.run(200)
        #expect(world.allUp && world.statuses(of: "host1") == [.up] && world.offs.isEmpty && world.violations == [], "\(world.story)")
    }

    /// The soft restart begins at once: both waits run beside each other.
    @Test func aSoftRestartAndTheFirstMessageAreAwaitedTogether() {
        let world = world {
            $0.policy.softTimeout = .seconds(25)
            $0.softCommandWorks = true
        }
        crash("host1", in: world)
        world.run(until: 15, "soft") { world.step("host1") == "soft-restarting" }
        world.run(29)
        #expect(world.offs["host1"] == nil)
        world.run(until: 3, "off") { world.offs["host1"] == 1 }
        #expect(world.violations == [], "\(world.story)")
    }

    /// Whoever is not listened to any more says nothing, neither for nor against.
    @Test(arguments: [nil, ["10.0.0.9"]]) func aDumpIsOverWhenNobodyListensToItAnyMore(_ addresses: [String]?) {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        var definition = world.definition(1)
        definition.kdump = addresses
        world.submit(.hostUpdate(world.request(), definition))
        #expect(world.status("host1") != .kdumping && world.engine.hosts["host1"]?.dump == nil)
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.offs["host1"] == 1 && world.violations == [], "\(world.story)")
    }

    /// It counts anew from there.
    @Test func aDumpGoesOnFromItsNewAddress() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        world.machines["host1"]?.kdump = ["10.0.0.9"]
        world.submit(.hostUpdate(world.request(), world.definition(1)))
        world.run(until: 6, "dumping") { world.engine.hosts["host1"]?.dump?.address == "10.0.0.9" }
        dump("host1", false, in: world)
        world.run(until: 90, "all Up") { world.allUp }
        #expect(world.engine.hosts["host1"]?.dump == nil && world.violations == [], "\(world.story)")
    }

    /// The listener that starts anew cannot read where its host would send from.
    @Test func whatIsNotHeardAnyMoreAfterARestartIsOver() {
        let world = world()
        crash("host1", in: world)
        dump("host1", true, in: world)
        world.run(until: 15, "dumping") { world.step("host1") == "dumping" }
        var monitor = LivenessMonitor(policy: world.policy)
        _ = monitor.watch(HostWatch(host: "host1", events: "e", deadBoots: [], connection: 1, isDumping: true), at: world.now)
        #expect(monitor.nextWake.map { $0 <= world.now } == true)
        let told = monitor.onWake(at: world.now)
        #expect(told.contains { if case .dump(let news) = $0 { !news.isWritten && news.host == "host1" } else { false } })
    }

    @Test(arguments: ["10.0.0.1", "fd00::1", "::", "::1", "1::", "1:2:3:4:5:6:7:8", "::ffff:10.0.0.1", "1:2:3:4:5:6:10.0.0.1", "FE80::A"]) func isAnAddress(_ text: String) {
        #expect(IPAddress.isOne(text))
    }

    @Test(arguments: ["", "bad.cafe", "10.0.0", "10.0.0.256", "10.0.0.01", "10.0.0.1.", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::8:9", ":1", "1:", "1::2::3", ":::", "12345::", "10.0.0.1::", "fe80::1%eth0"])
    func isNoAddress(_ text: String) {
        #expect(!IPAddress.isOne(text))
    }

    @Test func addressesAreAddresses() {
        let world = world()
        var definition = world.definition(1)
        definition.kdump = ["crash.example"]
        let named = world.request()
        world.submit(.hostUpdate(named, definition))
        definition.kdump = []
        let none = world.request()
        world.submit(.hostUpdate(none, definition))
        #expect(world.refusal(named) == "request.invalid" && world.refusal(none) == "request.invalid")
        definition.endpoints.agentRequests = "tcp://[fd00::1]:7301"
        let derived = world.request()
        world.submit(.hostUpdate(derived, definition))
        #expect(world.accepted(derived) && definition.kdumpAddresses == ["fd00::1"])
    }
}
