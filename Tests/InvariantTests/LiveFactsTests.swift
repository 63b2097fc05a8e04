@testable import Invariants
import Messages
import Testing

/// What the event stream says, and what may be concluded from it: an alarm means something real.
struct LiveFactsTests {
    /// A cluster of two hosts, followed: reports in, alarms out.
    struct Stream {
        var live = LiveFacts()
        var checker = InvariantChecker(.init(grace: .seconds(5)))
        var now = Instant(nanoseconds: 1_000_000_000_000)
        var facts: [Fact] = []
        var violations: [Violation] = []

        init() {
            fencing(.host(Self.view("host1")))
            fencing(.host(Self.view("host2")))
        }

        static func view(_ host: String) -> HostView {
            HostView(
                name: host, id: 1, status: .up, reason: "", incarnation: Incarnation(1), bootID: "\(host)-boot1",
                endpoints: HostEndpoints(agentRequests: "", agentEvents: "", leaseRequests: "", leaseEvents: ""))
        }

        mutating func fencing(_ report: LiveFacts.Report, epoch: String = "j.1") { judge(live.takeFencing(report, epoch: epoch, at: now)) }
        mutating func hear(_ report: LiveFacts.Report) { judge(live.take(report, at: now)) }

        mutating func reports(_ host: String, _ attempts: UInt64..., state: RunState = .running, complete: Bool = true) {
            let seen = attempts.map { VMObservation(vm: "web", attempt: $0, state: state, evidence: "") }
            hear(.vms(AgentVMs(host: host, bootID: "\(host)-boot1", complete: complete, vms: seen)))
        }

        /// Time passes, fencing-service is heard.
        mutating func wait(_ seconds: Int, hearing: Bool = true) {
            for _ in 0..<seconds {
                now = now + .seconds(1)
                if hearing { fencing(.alive) }
                judge(live.tick(at: now))
            }
        }

        private mutating func judge(_ news: [Fact]) {
            facts += news
            for fact in news { violations += checker.note(fact, at: now) }
        }
    }

    @Test func oneReportIsNone() {
        var stream = Stream()
        stream.reports("host1", 1)
        stream.wait(20)
        #expect(stream.checker.liveRunCount == 0)
        stream.reports("host1", 1)
        #expect(stream.checker.liveRunCount == 1)
    }

    @Test func twoHostsReportOneVM() {
        var stream = Stream()
        for _ in 0..<2 {
            stream.reports("host1", 1)
            stream.reports("host2", 2)
            stream.wait(5)
        }
        #expect(stream.violations.map(\.invariant) == [.I3])
    }

    /// A second QEMU without a record, as an agent's scan finds it.
    @Test func aStrayBesideItsVM() {
        var stream = Stream()
        stream.hear(.definition(VMDefinition(name: "web", memoryMiB: 1, disks: [DiskDefinition(image: "disk1", domain: "d", size: 512)])))
        for _ in 0..<2 {
            stream.reports("host1", 1)
            stream.reports("host2", 0, state: .unknown)
            stream.wait(5)
        }
        #expect(Set(stream.violations.map(\.invariant)) == [.I1, .I3])
    }

    @Test func aFailoverWhoseProofComesLast() {
        var stream = Stream()
        stream.reports("host1", 1)
        stream.wait(5)
        stream.reports("host1", 1)
        // host1 dies; what its agent had said last is heard after the new run, the proof after both.
        stream.reports("host2", 2)
        stream.reports("host1", 1)
        stream.wait(2)
        stream.fencing(.proof(Make.proof("host1")))
        stream.wait(3)
        stream.reports("host2", 2)
        stream.wait(20)
        #expect(stream.violations == [])
        #expect(stream.facts.contains(.guestBegan(Make.web(2, "host2"), writes: [], leases: [])))
    }

    @Test(arguments: [true, false]) func aStartElsewhereWithoutAnyProof(fencingIsHeard: Bool) {
        var stream = Stream()
        stream.reports("host1", 1)
        stream.wait(5)
        stream.reports("host1", 1)
        stream.wait(30)
        for _ in 0..<4 {
            stream.reports("host2", 2)
            stream.wait(5, hearing: fencingIsHeard)
        }
        #expect(stream.violations.map(\.invariant) == (fencingIsHeard ? [.I3] : []), "what fencing-service knows is not known while it is silent")
    }

    @Test func aRunThatItsAgentEnded() {
        var stream = Stream()
        for _ in 0..<2 {
            stream.reports("host1", 1)
            stream.wait(5)
        }
        stream.reports("host1")
        for _ in 0..<3 {
            stream.reports("host2", 2)
            stream.wait(5)
        }
        #expect(stream.violations == [])
        #expect(stream.checker.liveRunCount == 1)
    }

    /// Its machine boots anew within the grace: its agent knows that before fencing-service does.
    @Test func aRunThatIsOverByAReboot() {
        var stream = Stream()
        for _ in 0..<2 {
            stream.reports("host1", 1)
            stream.wait(5)
        }
        let proof = Proof(id: "ended", kind: .ended, host: "host1", hostID: 1, holder: "web", attempt: 1, statement: "booted anew")
        let over = VMObservation(vm: "web", attempt: 1, state: .stopped, evidence: "", ended: SignedProof(proof: proof, statement: "", signature: "", key: ""))
        stream.hear(.vms(AgentVMs(host: "host1", bootID: "host1-boot2", complete: true, vms: [over])))
        #expect(stream.checker.liveRunCount == 0)
        for _ in 0..<3 {
            stream.reports("host2", 2)
            stream.wait(5)
        }
        #expect(stream.violations == [])
        // What is over by such a word and still reported is told.
        for _ in 0..<3 {
            stream.reports("host1", 1)
            stream.wait(5)
        }
        #expect(stream.violations.map(\.invariant) == [.I3])
    }

    /// An agent that has just started does not know yet what runs.
    @Test func anIncompleteReportEndsNothing() {
        var stream = Stream()
        for _ in 0..<2 {
            stream.reports("host1", 1)
            stream.wait(5)
        }
        stream.reports("host1", complete: false)
        #expect(stream.checker.liveRunCount == 1)
    }

    @Test(arguments: [1, 3]) func reportsOfAHostThatIsProvenOff(count: Int) {
        var stream = Stream()
        for _ in 0..<2 {
            stream.reports("host1", 1)
            stream.wait(5)
        }
        stream.fencing(.proof(Make.proof("host1")))
        for _ in 0..<count {
            stream.reports("host1", 1)
            stream.wait(5)
        }
        #expect(stream.violations.map(\.invariant) == (count > 1 ? [.I3] : []), "one late report is none")
    }

    /// The watching process was stopped meanwhile, and reads old reports in a row.
    @Test func oldNewsAfterAPause() {
        var stream = Stream()
        for _ in 0..<2 {
            stream.reports("host1", 1)
            stream.wait(5)
        }
        stream.reports("host2", 2)
        stream.now = stream.now + .seconds(60)
        stream.live.resume(at: stream.now)
        stream.reports("host1", 1)
        stream.reports("host2", 2)
        #expect(stream.violations == [])
        stream.fencing(.proof(Make.proof("host1")))
        stream.wait(5)
        stream.reports("host2", 2)
        #expect(stream.violations == [])
        #expect(stream.checker.liveRunCount == 1)
    }

    // MARK: SPM

    private func leases(_ host: String, _ term: UInt64?) -> LiveFacts.Report {
        let view = term.map {
            LeaseView(lease: Make.sdm, path: "", offset: 0, status: .exclusive, ownerID: 1, ownerName: host, ownerGeneration: 1, lver: $0, holder: "spm:pool:\($0)")
        }
        return .leases(LeaseSnapshot(host: host, hostID: 1, bootID: "\(host)-boot1", lockspaces: [], leases: view.map { [$0] } ?? []))
    }

    @Test(arguments: [true, false]) func twoHoldersOfSDM(firstRenews: Bool) {
        var stream = Stream()
        stream.hear(leases("host1", 1))
        stream.hear(leases("host2", nil))
        let renewal = LockspaceRenewal(lockspace: "domain", latency: .zero, ok: true)
        stream.wait(4)
        stream.hear(.renewal(renewal, host: "host1"))
        let acquired = LeaseEvent(lease: Make.sdm, holder: "spm:pool:2", lver: 2, generation: 1, reason: "")
        if !firstRenews { stream.hear(.lease("lease.released", LeaseEvent(lease: Make.sdm, holder: "spm:pool:1", lver: 1, generation: 1, reason: ""), host: "host1")) }
        stream.hear(.lease("lease.acquired", acquired, host: "host2"))
        for _ in 0..<2 {
            stream.wait(4)
            stream.hear(.renewal(renewal, host: "host1"))
            stream.hear(.renewal(renewal, host: "host2"))
        }
        #expect(stream.violations.map(\.invariant).contains(.I2) == firstRenews)
        #expect(firstRenews || stream.violations == [])
    }

    // MARK: fencing-service

    private func fenceCase(_ step: String, _ cause: String = "silent") -> FenceCaseView {
        FenceCaseView(id: "c1", host: "host1", incarnation: Incarnation(1), step: step, reason: "", cause: cause)
    }

    @Test(arguments: ["silent", "unreaped"]) func offRightAfterARestart(cause: String) {
        var stream = Stream()
        stream.fencing(.fencing(FencingSnapshot(hosts: [], cases: [], ha: HAState(enabled: true, hold: nil, recoveryAllowed: true), signingKey: "")), epoch: "j.2")
        stream.wait(0)
        stream.now = stream.now + .seconds(1)
        stream.fencing(.fenceCase("fence.started", fenceCase("observing", cause)), epoch: "j.2")
        stream.fencing(.fenceCase("fence.step", fenceCase("off", cause)), epoch: "j.2")
        #expect(stream.violations.map(\.invariant) == (cause == "silent" ? [.I5] : []))
    }

    @Test func aCaseThatIsOlderThanTheRestart() {
        var stream = Stream()
        let snapshot = FencingSnapshot(hosts: [], cases: [fenceCase("accepting")], ha: HAState(enabled: true, hold: nil, recoveryAllowed: true), signingKey: "")
        stream.fencing(.fencing(snapshot), epoch: "j.2")
        stream.now = stream.now + .seconds(1)
        stream.fencing(.fenceCase("fence.step", fenceCase("off")), epoch: "j.2")
        stream.fencing(.fenceCase("fence.step", fenceCase("closed")), epoch: "j.2")
        #expect(stream.violations == [])
        #expect(stream.facts.contains(.caseClosed("c1", host: "host1")))
    }
}
