import Messages
import SPMEngine
import Testing

@Test func creatingAPoolIsIdempotentForTheSameMaster() {
    var bench = Bench()
    bench.give(.createPool("again", PoolCreate(pool: "p", master: Bench.master)))
    bench.give(.createPool("other", PoolCreate(pool: "p", master: "another")))
    #expect(bench.replies.count == 3)
    guard case .success = bench.replies[1].reply, case .refused(let error) = bench.replies[2].reply else { return #expect(Bool(false)) }
    #expect(error.code == SPMErrorCode.poolExists.rawValue)
}

@Test(arguments: [
    ([Bench.host(1), Bench.host(2, priority: 6), Bench.host(3)], "host2", "priority"),
    ([Bench.host(2), Bench.host(1)], "host1", "name"),
    ([Bench.host(1, .connecting), Bench.host(2)], "host2", "status"),
    ([Bench.host(1, priority: -1), Bench.host(2, priority: 0)], "host2", "-1 is never"),
    ([Bench.host(1, joined: false), Bench.host(2)], "host2", "joined"),
])
func electsTheBestCandidate(hosts: [SPMHost], chosen: String, rule: String) throws {
    var bench = Bench(hosts)
    let (ask, start) = try bench.takeStart()
    #expect(ask.host == chosen, "\(rule)")
    #expect(ask.term == 1 && start.term == 1 && start.domain == Bench.master && start.generations[Bench.master] == 1)
    #expect(bench.view.status == .contend)
}

@Test func theTermIsInTheStateBeforeTheCommandLeaves() throws {
    var bench = Bench()
    let (ask, _) = try bench.takeStart()
    let term = try #require(bench.engine.pools["p"]?.term)
    #expect(term.host == ask.host && term.bootID == ask.bootID && term.incarnation == Incarnation(1) && term.generations == [Bench.master: 1])
}

@Test func withoutACandidateThePoolSaysWhatIsMissing() {
    let bench = Bench([Bench.host(1, .initializing), Bench.host(2, joined: false)])
    #expect(bench.starts == 0 && bench.view.status == .nonResponsive)
    #expect(bench.view.reason.contains("host1 is Initializing") && bench.view.reason.contains("host2 has not joined"))
    #expect(bench.decisions.last?.what == "waits")
}

@Test func success() throws {
    var bench = Bench()
    _ = try bench.serve()
    #expect(bench.view.status == .up && bench.view.spm == "host1" && bench.view.lver == 1)
    #expect(bench.events.map(\.topic).suffix(2) == ["pool.status.p", "spm.elected.p"])
}

@Test func refusalsGoToTheNextHostAndBackOffWhenAllRefused() throws {
    var bench = Bench()
    for expected in ["host1", "host2", "host3"] {
        let (ask, _) = try bench.takeStart()
        #expect(ask.host == expected)
        bench.give(.answer(ask, .refused(RequestError(AgentErrorCode.spmStartFailed, "lease SDM is held"))))
    }
    #expect(bench.starts == 0)
    #expect(bench.view.reason.contains("lease SDM is held"))
    bench.pass(.milliseconds(900))
    #expect(bench.starts == 0)
    bench.pass(.milliseconds(200))
    let (ask, _) = try bench.takeStart()
    #expect(ask.host == "host1" && ask.term == 4)
}

@Test func theBackOffDoublesToItsLimit() throws {
    var bench = Bench([Bench.host(1)])
    var waits: [Int64] = []
    for _ in 0..<9 {
        let (ask, _) = try bench.takeStart()
        bench.give(.answer(ask, .refused(RequestError(AgentErrorCode.spmStartFailed, "no"))))
        let at = bench.now
        while bench.starts == 0 { bench.pass(.milliseconds(500)) }
        waits.append((bench.now - at).milliseconds)
    }
    #expect(waits == [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000])
}

/// Also when the host could not prove the end at once, so that the term had to be stopped first.
@Test(arguments: [true, false]) func termsThatEndSoonAreElectedAgainLaterAndLater(isProvenAtOnce: Bool) throws {
    var bench = Bench([Bench.host(1)])
    var waits: [Int64] = []
    for _ in 0..<4 {
        let ask = try bench.serve()
        bench.pass(.seconds(5))
        bench.give(.answer(try bench.takeAsk(.status), Bench.status(.free, term: ask.term, ended: isProvenAtOnce ? Bench.ended(ask.term) : nil)))
        if !isProvenAtOnce { bench.give(.answer(try bench.takeAsk(.stop), Bench.status(.free, term: ask.term, ended: Bench.ended(ask.term)))) }
        let at = bench.now
        while bench.starts == 0, bench.now - at < .seconds(20) { bench.pass(.milliseconds(500)) }
        waits.append((bench.now - at).milliseconds)
    }
    #expect(waits == [1000, 2000, 4000, 8000])
}

@Test func anOperatorsChoiceIsElectedOnceTheRoleIsFree() throws {
    var bench = Bench()
    let first = try bench.serve()
    bench.give(.move("m", PoolRequest(pool: nil, host: "host3")))
    let stop = try bench.takeAsk(.stop)
    #expect(stop.term == first.term && bench.starts == 0)
    bench.give(.answer(stop, Bench.status(.spm, term: first.term)))
    #expect(bench.starts == 0)
    bench.pass(.seconds(1))
    bench.give(.answer(try bench.takeAsk(.stop), Bench.status(.free, term: first.term)))
    #expect(try bench.serve().host == "host3")
    bench.give(.move("n", PoolRequest(host: "host3")))
    #expect(bench.view.status == .up && bench.actions.isEmpty)
}

@Test func anUnfitChoiceIsRefusedAndChangesNothing() throws {
    var bench = Bench([Bench.host(1), Bench.host(2, priority: -1)])
    _ = try bench.serve()
    bench.give(.move("m", PoolRequest(host: "host2")))
    guard case .refused(let error) = bench.replies[1].reply else { return #expect(Bool(false)) }
    #expect(error.message.contains("priority -1") && bench.actions.isEmpty && bench.view.status == .up)
}

@Test func theRoleLeavesAHostThatGoesToMaintenance() throws {
    var bench = Bench()
    let first = try bench.serve()
    bench.give(.host(Bench.host(1, .preparingForMaintenance)))
    bench.give(.answer(try bench.takeAsk(.stop), Bench.status(.free, term: first.term)))
    #expect(try bench.takeStart().ask.host == "host2")
}

/// Both pools would have one lease SDM.
@Test func aMasterDomainBelongsToOnePool() {
    var bench = Bench()
    bench.give(.createPool("second", PoolCreate(pool: "q", master: Bench.master)))
    guard case .refused(let error)? = bench.replies.last?.reply else { Issue.record("two pools share a master"); return }
    #expect(error.code == SPMErrorCode.poolExists.rawValue && error.message.contains("pool p") && bench.engine.poolViews.count == 1)
}
