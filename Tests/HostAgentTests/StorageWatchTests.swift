import HostAgentEngine
import Messages
import Testing

@Suite("Domains kept, probed and created")
struct StorageWatchTests {
    /// A watch with words for what it does, and a clock.
    private struct Bench {
        var watch = StorageWatch(probeInterval: .seconds(2))
        var now = Instant(nanoseconds: 0)

        mutating func send(_ input: StorageWatch.Input) -> [String] { watch.handle(input, at: now).map(Self.text) }

        /// Lets time pass until the watch wants to be woken.
        mutating func wake() -> [String] {
            now = max(now, watch.nextWake ?? now)
            return send(.wake)
        }

        mutating func pass(_ duration: Duration) { now = now + duration }

        static func text(_ step: StorageWatch.Step) -> String {
            switch step {
            case .probe(let number, let place, _): "probe \(number) \(place.domain)"
            case .join(let number, let join, _): "join \(number) \(join.lockspace) \(join.path)"
            case .leave(let number, let domain, _): "leave \(number) \(domain)"
            case .prepare(_, let create): "prepare \(create.domain)"
            case .initialize(_, let lockspace, _): "initialize \(lockspace.lockspace)"
            case .publish(_, let create): "publish \(create.domain)"
            case .tell(.probed(let probe)): "\(probe.domain) \(probe.ok == true ? "well" : "ill"): \(probe.detail)"
            case .tell(.quiesced(let holder)): "quiesced \(holder.name)"
            case .tell(.left(let domain)): "left \(domain)"
            case .tell(.storageCreated(let id, let error)): "created \(id) \(error?.code ?? "well")"
            case .tell(let other): "\(other)"
            }
        }
    }

    private let d1 = StoragePlace(domain: "d1", path: "/d1")
    private let d2 = StoragePlace(domain: "d2", path: "/d2")
    private let web = Holder(role: .vm, name: "web", attempt: 1)
    private let well = ProbeEnd.exited(0, output: "")
    private func lockspaces(_ state: LockspaceState) -> [AgentLockspace] { [AgentLockspace(lockspace: "d1", state: state, generation: 1, generationBefore: nil)] }

    // MARK: Probes

    @Test func aDomainIsProbedOneAtATime() {
        var bench = Bench()
        #expect(bench.send(.keep(d1)) == ["probe 1 d1"])
        #expect(bench.send(.keep(d1)) == [])
        #expect(bench.send(.probed(1, domain: "d1", well, took: .milliseconds(3))) == ["d1 well: answers"])
        #expect(bench.watch.nextWake == bench.now + .seconds(2))
        #expect(bench.wake() == ["probe 2 d1"])
        #expect(bench.send(.probed(1, domain: "d1", well, took: .zero)) == [], "the answer of another probe")
    }

    @Test func aProbeThatHangsIsToldWhileItIsWaitedFor() {
        var bench = Bench()
        _ = bench.send(.keep(d1))
        #expect(bench.watch.nextWake == bench.now + StorageWatch.patience)
        #expect(bench.wake() == ["d1 ill: has not answered a probe for 5 s"])
        #expect(bench.watch.nextWake == nil)
        #expect(bench.send(.probed(1, domain: "d1", .timedOut, took: .seconds(30))) == ["d1 ill: has not answered a probe for 5 s"])
        #expect(bench.wake() == ["probe 2 d1"])
    }

    @Test(arguments: [
        (.exited(1, output: "cannot read\n/d1\n"), "cannot read /d1"), (.exited(1, output: "\n"), "the probe failed"), (.signalled(9), "the probe ended by signal 9"),
        (.notStarted("no more descriptors"), "no probe could be started: no more descriptors"),
    ] as [(ProbeEnd, String)]) func whatAProbeSays(end: ProbeEnd, detail: String) {
        var bench = Bench()
        _ = bench.send(.keep(d1))
        #expect(bench.send(.probed(1, domain: "d1", end, took: .zero)) == ["d1 ill: \(detail)"])
    }

    /// S4: what was under way when the run ended says nothing of its writes.
    @Test func onlyAProbeThatBeganAfterTheEndSettlesIt() {
        var bench = Bench()
        _ = bench.send(.keep(d1))
        #expect(bench.send(.quiesce(web, [d1, d2])) == ["probe 2 d2"])
        #expect(bench.send(.probed(1, domain: "d1", well, took: .zero)) == ["d1 well: answers", "probe 3 d1"])
        #expect(bench.send(.probed(3, domain: "d1", well, took: .zero)) == ["d1 well: answers"])
        #expect(bench.send(.probed(2, domain: "d2", well, took: .zero)) == ["quiesced web"], "d2 is not kept and is told to nobody")
        #expect(bench.wake() == ["probe 4 d1"], "d2 is forgotten")
    }

    @Test func aFailedProbeIsRepeatedForAnEndedRun() {
        var bench = Bench()
        #expect(bench.send(.quiesce(web, [d1])) == ["probe 1 d1"])
        #expect(bench.send(.probed(1, domain: "d1", .timedOut, took: .zero)) == [])
        #expect(bench.watch.nextWake == bench.now + .seconds(1))
        #expect(bench.wake() == ["probe 2 d1"])
        #expect(bench.send(.probed(2, domain: "d1", well, took: .zero)) == ["quiesced web"])
        #expect(bench.watch.nextWake == nil)
    }

    @Test func aRunWithoutDomainsIsSettled() {
        var bench = Bench()
        #expect(bench.send(.quiesce(web, [])) == ["quiesced web"])
    }

    // MARK: Lockspaces

    @Test func aKeptDomainIsJoinedOnceMembershipsAreKnown() {
        var bench = Bench()
        #expect(bench.send(.keep(d1)) == ["probe 1 d1"])
        #expect(bench.send(.memberships(nil)) == [])
        #expect(bench.send(.memberships([])) == ["join 2 d1 /d1"])
        #expect(bench.send(.memberships([])) == [], "one at a time")
        #expect(bench.send(.joinAnswered(2, domain: "d1")) == [])
        #expect(bench.send(.memberships([])) == [], "not before its pause is over")
        bench.pass(.seconds(1))
        #expect(bench.send(.wake) == ["join 3 d1 /d1"])
        _ = bench.send(.joinAnswered(3, domain: "d1"))
        #expect(bench.send(.memberships(lockspaces(.joining))) == [])
        bench.pass(.seconds(1))
        #expect(bench.send(.wake) == [])
        #expect(bench.send(.memberships(lockspaces(.joined))) == [])
        #expect(bench.send(.memberships(lockspaces(.lost))) == ["join 4 d1 /d1"])
    }

    @Test func aDroppedDomainIsLeftUntilThatIsDone() {
        var bench = Bench()
        _ = bench.send(.keep(d1))
        #expect(bench.send(.drop(d1)) == ["leave 2 d1"])
        #expect(bench.send(.memberships([])) == [])
        #expect(bench.send(.probed(1, domain: "d1", well, took: .zero)) == [])
        #expect(bench.send(.leaveAnswered(2, domain: "d1", RequestError(LeaseErrorCode.io, ""))) == [])
        #expect(bench.watch.nextWake == bench.now + .seconds(1))
        #expect(bench.wake() == ["leave 3 d1"])
        #expect(bench.send(.leaveAnswered(2, domain: "d1", nil)) == [], "the answer of another leave")
        #expect(bench.send(.leaveAnswered(3, domain: "d1", nil)) == ["left d1"])
        #expect(bench.watch.nextWake == nil)
    }

    @Test func aLeaveThatAKeepHasOvertakenSaysNothing() {
        var bench = Bench()
        #expect(bench.send(.drop(d1)) == ["leave 1 d1"])
        #expect(bench.send(.keep(d1)) == ["probe 2 d1"])
        #expect(bench.send(.leaveAnswered(1, domain: "d1", nil)) == [])
    }

    // MARK: Creation

    private let create = StorageCreate(domain: "d3", path: "/d3", name: "data", ioTimeout: 2)

    @Test(arguments: [nil, RequestError(LeaseErrorCode.exists, "of a creation that was cut off")]) func aDomainIsWholeWhenItsMetadataIsThere(initialized: RequestError?) {
        var bench = Bench()
        #expect(bench.send(.create("r1", create)) == ["prepare d3"])
        #expect(bench.send(.prepared("r1", .prepared)) == ["initialize d3"])
        #expect(bench.send(.initialized("r1", initialized)) == ["publish d3"])
        #expect(bench.send(.published("r1", nil)) == ["created r1 well"])
    }

    @Test func aCreationThatFailsPublishesNothing() {
        var bench = Bench()
        let error = RequestError(LeaseErrorCode.io, "")
        _ = bench.send(.create("r1", create))
        #expect(bench.send(.prepared("r1", .failed(error))) == ["created r1 lease.io"])
        _ = bench.send(.create("r2", create))
        #expect(bench.send(.prepared("r2", .isThere)) == ["created r2 well"])
        _ = bench.send(.create("r3", create))
        _ = bench.send(.prepared("r3", .prepared))
        #expect(bench.send(.initialized("r3", error)) == ["created r3 lease.io"])
    }

    // MARK: Walk

    /// At most one probe of a domain at a time; no run is settled before each of its domains has answered a probe that began after its end; and each is settled in the end.
    @Test(arguments: 0..<200 as Range<UInt64>) func noRunIsSettledEarlyAndNoneNever(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var bench = Bench()
        let places = [d1, d2, StoragePlace(domain: "d3", path: "/d3")]
        var probes: [String: (number: UInt64, serves: Set<String>)] = [:]
        /// Ended runs, and the domains whose answer is missing.
        var unsettled: [String: Set<String>] = [:]

        func follow(_ steps: [String]) {
            for step in steps {
                let words = step.split(separator: " ").map(String.init)
                switch words[0] {
                case "probe":
                    #expect(probes[words[2]] == nil, "two probes of \(words[2])")
                    probes[words[2]] = (UInt64(words[1]) ?? 0, Set(unsettled.filter { $0.value.contains(words[2]) }.keys))
                case "quiesced":
                    #expect(unsettled.removeValue(forKey: words[1]) == [], "\(words[1]) settled early")
                default: break
                }
            }
        }
        func answer(_ domain: String, _ end: ProbeEnd) {
            guard let probe = probes.removeValue(forKey: domain) else { return }
            if end == well { for run in probe.serves { unsettled[run]?.remove(domain) } }
            follow(bench.send(.probed(probe.number, domain: domain, end, took: .zero)))
        }
        for round in 0..<200 {
            let place = places[Int.random(in: 0..<3, using: &random)]
            switch Int.random(in: 0..<10, using: &random) {
            case 0: follow(bench.send(.keep(place)))
            case 1: follow(bench.send(.drop(place)))
            case 2:
                let chosen = places.filter { _ in Bool.random(using: &random) }
                unsettled["run\(round)"] = Set(chosen.map(\.domain))
                follow(bench.send(.quiesce(Holder(role: .vm, name: "run\(round)", attempt: 1), chosen)))
            case 3, 4: answer(place.domain, .timedOut)
            case 5, 6: answer(place.domain, well)
            case 7: bench.pass(.milliseconds(Int64.random(in: 0...3000, using: &random)))
            default: follow(bench.send(.wake))
            }
        }
        for _ in 0..<20 {
            for place in places { answer(place.domain, well) }
            follow(bench.wake())
        }
        #expect(unsettled.isEmpty)
    }
}

@Suite("When the agent asks and beats")
struct AgentPaceTests {
    private func snapshot(_ state: LockspaceState) -> LeaseSnapshot {
        LeaseSnapshot(host: "host1", hostID: 1, bootID: "b", lockspaces: ["d2", "d1"].map { LockspaceView(lockspace: $0, path: "/\($0)", state: state, hostID: 1, generation: 3) }, leases: [])
    }

    @Test func membershipsAreAskedForFasterWhileOneIsOnItsWay() {
        var follower = MembershipFollower()
        let now = Instant(nanoseconds: 0)
        #expect(follower.handle(.wake, at: now) == [.ask(timeout: .seconds(1))])
        #expect(follower.nextWake == nil && !follower.hasAnswered)
        guard case .tell(let joining)? = follower.handle(.answered(snapshot(.joining)), at: now).first else { return #expect(Bool(false)) }
        #expect(joining?.map(\.lockspace) == ["d1", "d2"])
        #expect(follower.nextWake == now + .milliseconds(250) && follower.hasAnswered)
        _ = follower.handle(.answered(snapshot(.joined)), at: now)
        #expect(follower.nextWake == now + .seconds(1))
    }

    @Test func aLeaseServiceThatMissesThreeTimesDoesNotAnswer() {
        var follower = MembershipFollower()
        let now = Instant(nanoseconds: 0)
        for _ in 0..<2 { #expect(follower.handle(.answered(nil), at: now) == []) }
        #expect(follower.handle(.answered(nil), at: now) == [.tell(nil)])
        #expect(follower.handle(.answered(nil), at: now) == [.tell(nil)])
        _ = follower.handle(.answered(snapshot(.joined)), at: now)
        #expect(follower.handle(.answered(nil), at: now) == [])
    }

    /// I7: the first heartbeat waits for the first look, but not for long.
    @Test func theFirstHeartbeatWaitsForAMoment() {
        let start = Instant(nanoseconds: 0)
        var ready = Heartbeats(every: .seconds(3))
        #expect(ready.beat(isInitializing: true, hasMemberships: true, at: start) == nil)
        #expect(ready.beat(isInitializing: false, hasMemberships: false, at: start) == nil)
        #expect(ready.nextWake == start + .milliseconds(20))
        #expect(ready.beat(isInitializing: false, hasMemberships: true, at: start) == 1)
        #expect(ready.nextWake == start + .seconds(3))
        #expect(ready.beat(isInitializing: true, hasMemberships: false, at: start) == 2)
        var late = Heartbeats(every: .seconds(3))
        #expect(late.beat(isInitializing: true, hasMemberships: false, at: start) == nil)
        #expect(late.beat(isInitializing: true, hasMemberships: false, at: start + .milliseconds(999)) == nil)
        #expect(late.beat(isInitializing: true, hasMemberships: false, at: start + .seconds(1)) == 1)
    }
}
