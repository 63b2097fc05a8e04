@testable import Invariants
import Messages
import Testing

/// For each invariant stories that break it, and beside each one that does not.
struct CheckerTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var breaks: Set<Invariant>
        var facts: [Fact]
        var testDescription: String { name }
        init(_ name: String, _ breaks: Set<Invariant>, _ facts: [Fact]) {
            self.name = name
            self.breaks = breaks
            self.facts = facts
        }
    }

    @Test(arguments: writers + shared + workers + starts + stops + promises)
    func breaks(_ story: Case) {
        var told = Story()
        for fact in story.facts { told.tell(fact) }
        #expect(told.broken == story.breaks, "\(told.violations.map(\.description))")
        #expect(told.violations.allSatisfy { !$0.facts.isEmpty })
    }

    // MARK: I1

    static let first = Make.web(1, "host1")
    static let second = Make.web(2, "host2")
    static let other = Run.vm("db", 1, host: "host2", boot: "host2-boot1")

    static let writers = [
        Case("two VMs write one disk", [.I1], [Make.began(first), Make.began(other)]),
        Case("one after the other", [], [Make.began(first), .guestEnded(first, .guest), Make.began(other)]),
        Case("a run ended by power writes no more", [], [Make.began(first), Make.off("host1"), Make.began(other)]),
        Case("a late write after another run began", [.I1], [Make.began(first), .guestEnded(first, .guest), Make.began(other), .writeLanded(first, disk: "disk1")]),
        Case("a late write before anybody else", [], [Make.began(first), .guestEnded(first, .guest), .writeLanded(first, disk: "disk1"), Make.began(other)]),
        Case("the lease of a living run becomes another's", [.I1], [
            .leaseChanged(Make.lease, LeaseOwner(host: "host1", generation: 1, lver: 4)), Make.holding(first, lver: 4),
            .leaseChanged(Make.lease, LeaseOwner(host: "host2", generation: 1, lver: 5)),
        ]),
        Case("the same after it ended", [], [
            .leaseChanged(Make.lease, LeaseOwner(host: "host1", generation: 1, lver: 4)), Make.holding(first, lver: 4), .guestEnded(first, .deadline),
            .leaseChanged(Make.lease, LeaseOwner(host: "host2", generation: 1, lver: 5)),
        ]),
        Case("the lease of a living run is freed", [.I1], [Make.holding(first, lver: 4), .leaseChanged(Make.lease, nil)]),
        Case("a quick re-join voids the lease under its guest", [.I1], [
            Make.holding(first, lver: 4, generation: 1), .leaseChanged(Make.lease, LeaseOwner(host: "host1", generation: 2, lver: 5)),
        ]),
        Case("a run begins without its lease", [.I1], [.leaseChanged(Make.lease, LeaseOwner(host: "host2", generation: 1, lver: 4)), Make.holding(first, lver: 4)]),
    ]

    // MARK: I1, I6: leases of programs

    private static func shares(_ run: Run) -> Fact { .leaseUsed(run, GuardLease(name: Make.lease, lver: 4, generation: 1, mode: .shared), writes: []) }
    private static func isAlone(_ run: Run, lver: UInt64 = 4) -> Fact { .leaseUsed(run, GuardLease(name: Make.lease, lver: lver, generation: 1), writes: ["disk1"]) }
    private static func owned(by host: String, lver: UInt64, isSharing: Bool = false) -> Fact {
        .leaseChanged(Make.lease, LeaseOwner(host: host, generation: 1, lver: lver, isSharing: isSharing))
    }

    static let shared = [
        Case("many share", [], [owned(by: "host1", lver: 4, isSharing: true), .leaseChanged(Make.lease, nil), shares(first), owned(by: "host2", lver: 5, isSharing: true), shares(other)]),
        Case("one is alone beside a share", [.I1], [shares(first), isAlone(other)]),
        Case("one shares beside who is alone", [.I1], [isAlone(first), shares(other)]),
        Case("the lease is somebody's while another one shares it", [.I1], [shares(first), owned(by: "host2", lver: 5)]),
        Case("alone after the shares", [], [shares(first), shares(other), .leaseUnused(first), .leaseUnused(other), isAlone(first), .leaseUnused(first), isAlone(other)]),
        Case("converted, and others share then", [], [isAlone(first), shares(first), .leaseChanged(Make.lease, nil), shares(other)]),
        Case("converted beside another share", [.I1], [shares(first), shares(other), isAlone(first)]),
        Case("a late write after a conversion", [.I1], [isAlone(first), shares(first), .leaseUnused(first), isAlone(other), .writeLanded(first, disk: "disk1")]),
        Case("the last value is read", [], [.valueAsked(Make.lease, first, 1), .valueWritten(Make.lease, first, 1), .valueAsked(Make.lease, first, 2), .valueRead(Make.lease, other, 2)]),
        Case("a value goes back", [.I6], [.valueAsked(Make.lease, first, 1), .valueAsked(Make.lease, first, 2), .valueWritten(Make.lease, first, 2), .valueRead(Make.lease, other, 1)]),
        Case("a value comes after its holder's time", [.I6], [
            .valueAsked(Make.lease, first, 1), .valueWritten(Make.lease, first, 1), .valueAsked(Make.lease, first, 2), .valueRead(Make.lease, other, 1), .valueRead(Make.lease, other, 2),
        ]),
        Case("a value is gone with its lease", [], [.valueAsked(Make.lease, first, 1), .valueWritten(Make.lease, first, 1), .leaseMade(Make.lease), .valueRead(Make.lease, other, 0)]),
    ]

    // MARK: I2

    static let spm1 = Make.spm(1, "host1")
    static let spm2 = Make.spm(2, "host2")

    static let workers = [
        Case("two workers of a pool", [.I2], [Make.serves(spm1, lver: 1), Make.serves(spm2, lver: 2)]),
        Case("a worker after a proven end", [], [
            Make.serves(spm1, lver: 1), .workerEnded(spm1), .proofMade(Make.ended(spm1)), Make.serves(spm2, lver: 2), .published(spm2, lver: 2, what: "task 1"),
        ]),
        Case("a deposed worker publishes", [.I2], [
            Make.serves(spm1, lver: 1), .workerEnded(spm1), .proofMade(Make.ended(spm1)), Make.serves(spm2, lver: 2), .published(spm1, lver: 1, what: "task 1"),
        ]),
        Case("SDM is taken while its worker lives", [.I2], [Make.serves(spm1, lver: 1), .leaseChanged(Make.sdm, LeaseOwner(host: "host2", generation: 1, lver: 2))]),
        Case("an SPM without proof about the last", [.I3], [Make.serves(spm1, lver: 1), .workerEnded(spm1), Make.sent(spm2), Make.serves(spm2, lver: 2)]),
        Case("a result twice", [.I6], [Make.serves(spm1, lver: 1), .published(spm1, lver: 1, what: "task 1"), .published(spm1, lver: 1, what: "task 1")]),
    ]

    // MARK: I3

    static let starts = [
        Case("start sent while the last run lives", [.I3], [Make.sent(first), Make.began(first), Make.sent(second)]),
        Case("start sent when the last run is over, unproven", [.I3], [Make.sent(first), Make.began(first), Make.off("host1"), Make.sent(second)]),
        Case("start sent after a proof of the host", [], [
            Make.sent(first), Make.began(first), Make.off("host1"), .proofMade(Make.proof("host1")), Make.sent(second), Make.began(second),
        ]),
        Case("a proof of an older incarnation", [.I3], [
            Make.sent(first, 2), Make.began(first), Make.off("host1"), .proofMade(Make.proof("host1", 1)), Make.sent(second),
        ]),
        Case("a revoked proof", [.I3], [
            Make.sent(first), Make.began(first), Make.off("host1"), .proofMade(Make.proof("host1")), .proofRevoked(Make.proof("host1")), Make.sent(second),
        ]),
        Case("start sent after an ended proof", [], [Make.sent(first), Make.began(first), .guestEnded(first, .guest), .proofMade(Make.ended(first)), Make.sent(second)]),
        Case("an ended proof of another attempt", [.I3], [
            Make.sent(Make.web(2, "host1")), Make.began(Make.web(2, "host1")), .guestEnded(Make.web(2, "host1"), .guest), .proofMade(Make.ended(first)), Make.sent(Make.web(3, "host2")),
        ]),
        Case("a failed start leaves nothing", [], [
            Make.sent(first), Make.began(first), .guestEnded(first, .startFailed), .saidOver(first), Make.sent(second), Make.began(second),
        ]),
        Case("the same boot refuses by itself", [], [Make.sent(first), Make.began(first), .guestEnded(first, .guest), Make.sent(Make.web(2, "host1"))]),
        Case("a begun run that nobody was told to start", [.I3], [Make.began(first), .guestEnded(first, .guest), Make.began(second)]),
        Case("a superseded attempt begins late", [.I3], [Make.sent(first), Make.sent(second), Make.began(first)]),
        Case("a start that is repeated", [], [Make.sent(first), Make.sent(first), Make.began(first), Make.sent(first)]),
        Case("one number on two hosts", [.I3], [Make.sent(first), Make.sent(Make.web(1, "host2"))]),
        Case("a proof about a living run", [.I3], [Make.sent(first), Make.began(first), .proofMade(Make.proof("host1"))]),
        Case("a proof about the life before", [], [.bootNumbered(host: "host1", boot: "host1-boot1", Incarnation(2)), Make.began(first), .proofMade(Make.proof("host1", 1))]),
        Case("an ended proof about a living run", [.I3], [Make.began(first), .proofMade(Make.ended(first))]),
        Case("a run that outlives its proof", [.I3], [
            .bootNumbered(host: "host1", boot: "host1-boot1", Incarnation(1)), Make.began(first), Make.off("host1"), .proofMade(Make.proof("host1")),
            .outlived(first, writes: ["disk1"]),
        ]),
        Case("a run that was thought to be over, and nobody else began", [], [Make.began(first), .guestEnded(first, .unknown), .outlived(first, writes: ["disk1"])]),
    ]

    // MARK: I4, I7: stops

    static let wanted: [Fact] = [.asked("r1", .wanted(vm: "web", true)), .acknowledged("r1"), Make.sent(first), Make.began(first)]

    static let stops = [
        Case("a stop that nobody wanted", [.I4], wanted + [.guestEnded(first, .command)]),
        Case("a stop on its way to be acknowledged", [], wanted + [.asked("r2", .wanted(vm: "web", false)), .guestEnded(first, .command)]),
        Case("an acknowledged stop", [], wanted + [.asked("r2", .wanted(vm: "web", false)), .acknowledged("r2"), .guestEnded(first, .command)]),
        Case("a refused stop", [.I4], wanted + [.asked("r2", .wanted(vm: "web", false)), .refused("r2"), .guestEnded(first, .command)]),
        Case("a superseded attempt is stopped", [], wanted + [.saidOver(first), Make.sent(Make.web(2, "host1")), .guestEnded(first, .command)]),
        Case("it ended by itself", [], wanted + [.guestEnded(first, .guest)]),
        Case("the end of an agent is the end of its guest", [.I7], wanted + [.guestEnded(first, .restart(of: "host-agent"))]),
        Case("ended for nothing", [.I4], wanted + [.guestEnded(first, .none)]),
        Case("its source cannot tell why", [], wanted + [.guestEnded(first, .unknown)]),
        Case("power for no reason", [.I7], [.powerCommanded(host: "host1", .on, .none)]),
        Case("an operator's power", [], [.hostHeard(host: "host1", boot: "b"), .powerCommanded(host: "host1", .off, .operatorAsked)]),
        Case("power for a closed case", [.I7], [
            .caseOpened("c1", host: "host1", .silent), .caseClosed("c1", host: "host1"), .powerCommanded(host: "host1", .off, .fenceCase("c1")),
        ]),
        Case("power for another host's case", [.I7], [.caseOpened("c1", host: "host1", .silent), .powerCommanded(host: "host2", .off, .fenceCase("c1"))]),
    ]

    // MARK: I6

    static let promises = [
        Case("an acknowledged definition is gone", [.I6], [.asked("r1", .defined(vm: "web")), .acknowledged("r1"), .found(.removed(vm: "web"))]),
        Case("it is still there", [], [.asked("r1", .defined(vm: "web")), .acknowledged("r1"), .found(.defined(vm: "web"))]),
        Case("a removal without an answer may have been done", [], [
            .asked("r1", .defined(vm: "web")), .acknowledged("r1"), .asked("r2", .removed(vm: "web")), .found(.removed(vm: "web")),
        ]),
        Case("a refused removal was done", [.I6], [
            .asked("r1", .defined(vm: "web")), .acknowledged("r1"), .asked("r2", .removed(vm: "web")), .refused("r2"), .found(.removed(vm: "web")),
        ]),
        Case("a VM that was removed and defined anew is not wanted", [], wanted + [
            .asked("r2", .wanted(vm: "web", false)), .asked("r3", .removed(vm: "web")), .acknowledged("r3"), .refused("r2"),
            .found(.wanted(vm: "web", false)),
        ]),
        Case("nor is it started", [.I6], wanted + [.guestEnded(first, .guest), .saidOver(first), .asked("r2", .removed(vm: "web")), .acknowledged("r2"), Make.sent(Make.web(2, "host1"))]),
        Case("what was not acknowledged may be lost", [], [.asked("r1", .maintenance(host: "host1", true)), .found(.maintenance(host: "host1", false))]),
        Case("one attempt begins twice", [.I6], [Make.began(first), .guestEnded(first, .guest), Make.began(first)]),
        Case("of two that overlapped either may have been last", [], [
            .asked("r1", .maintenance(host: "host1", true)), .asked("r2", .maintenance(host: "host1", false)), .acknowledged("r2"), .acknowledged("r1"),
            .found(.maintenance(host: "host1", false)), .found(.maintenance(host: "host1", true)),
        ]),
        Case("of two that did not the second was", [.I6], [
            .asked("r1", .maintenance(host: "host1", true)), .acknowledged("r1"), .asked("r2", .maintenance(host: "host1", false)), .acknowledged("r2"),
            .found(.maintenance(host: "host1", true)),
        ]),
        Case("a start against an acknowledged stop", [.I6], [.asked("r1", .wanted(vm: "web", false)), .acknowledged("r1"), Make.sent(first)]),
        Case("a start that was sent before is repeated", [], [Make.sent(first), .asked("r1", .wanted(vm: "web", false)), .acknowledged("r1"), Make.sent(first)]),
        Case("an effect is done again", [.I6], [.effectBegan("task 1"), .effectDone("task 1"), .effectBegan("task 1")]),
        Case("an effect that was cut off is begun again", [], [.effectBegan("task 1"), .effectBegan("task 1"), .effectDone("task 1")]),
    ]

    // MARK: I4, I5: silence

    @Test(arguments: [(10, true), (31, false)]) func offAfterSilence(seconds: Int64, isBroken: Bool) {
        var story = Story(.hostHeard(host: "host1", boot: "b"))
        story.wait(seconds)
        story.tell(.caseOpened("c1", host: "host1", .silent))
        story.tell(.powerCommanded(host: "host1", .off, .fenceCase("c1")))
        #expect(story.broken == (isBroken ? [.I5] : []))
    }

    /// The first heartbeat after the silence crosses the command.
    @Test func aHeartbeatThatCrossesTheOff() {
        var story = Story(.hostHeard(host: "host1", boot: "b"))
        story.wait(31)
        story.tell(.caseOpened("c1", host: "host1", .silent))
        story.tell(.hostHeard(host: "host1", boot: "b"))
        story.tell(.powerCommanded(host: "host1", .off, .fenceCase("c1")))
        #expect(story.violations == [])
        story.wait(5)
        story.tell(.powerCommanded(host: "host1", .off, .fenceCase("c1")))
        #expect(story.broken == [.I5])
    }

    /// Heartbeats are fine, its guests are not (S13).
    @Test func aHostThatAnswersAndCannotEndItsGuests() {
        var story = Story(.hostHeard(host: "host1", boot: "b"), .caseOpened("c1", host: "host1", .unreaped))
        story.wait(1)
        story.tell(.powerCommanded(host: "host1", .off, .fenceCase("c1")))
        #expect(story.violations == [])
    }

    /// It is of no use to anybody, but its guests are.
    @Test(arguments: [true, false]) func aHostThatAnswersAndIsNotOperational(isEmpty: Bool) {
        var story = Story(.hostHeard(host: "host1", boot: "b"), Make.sent(Self.first), Make.began(Self.first))
        if isEmpty { story.tell(.guestEnded(Self.first, .guest)) }
        story.tell(.caseOpened("c1", host: "host1", .nonOperational))
        story.tell(.powerCommanded(host: "host1", .off, .fenceCase("c1")))
        #expect(story.broken == (isEmpty ? [] : [.I7]))
    }

    @Test(arguments: [(false, 10, true, false), (false, 31, false, false), (true, 10, false, false), (true, 10, true, true), (true, 31, false, true)])
    func offByAServiceThatHasJustStarted(wasOpen: Bool, seconds: Int64, isBroken: Bool, knowsStarts: Bool) {
        var story = Story()
        story.checker.settings.knowsStarts = knowsStarts
        if wasOpen { story.tell(.caseOpened("c1", host: "host1", .silent)) }
        story.wait(1)
        story.tell(.serviceStarted("fencing-service"))
        story.wait(1)
        if !wasOpen { story.tell(.caseOpened("c1", host: "host1", .silent)) }
        story.wait(seconds - 1)
        story.tell(.powerCommanded(host: "host1", .off, .fenceCase("c1")))
        #expect(story.broken == (isBroken ? [.I5] : []))
    }

    @Test func aStartOnMereSilence() {
        var story = Story(.hostHeard(host: "host1", boot: "b"), Make.sent(Self.first), Make.began(Self.first))
        story.wait(40)
        story.tell(Make.sent(Self.second))
        #expect(story.broken == [.I3, .I4])
    }
}
