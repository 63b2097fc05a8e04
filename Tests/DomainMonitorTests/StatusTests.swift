import DomainMonitorEngine
import Messages
import Testing

@Test(arguments: [
    ([true, true, true] as [Bool?], DomainStatus.active), ([true, false, nil], .active), ([false, false, true], .active),
    ([false, false, nil], .activating), ([nil, nil, nil], .activating), ([false, false, false], .inactive),
])
func statusAfterTheFailureTime(sights: [Bool?], status: DomainStatus) throws {
    var bench = Bench()
    try bench.make(sights)
    bench.pass(Bench.failure)
    #expect(bench.view?.status == status)
}

@Test func badEverywhereIsInactiveOnlyAfterTheFailureTime() throws {
    var bench = Bench()
    try bench.make()
    for n in 1...3 { bench.report(n, false) }
    bench.pass(.milliseconds(29_999))
    #expect(bench.view?.status == .active && bench.view?.reason.contains("read timeout") == true)
    bench.pass(.milliseconds(1))
    #expect(bench.view?.status == .inactive && bench.takeFlags().isEmpty)
    bench.report(2, true)
    #expect(bench.view?.status == .active)
}

@Test func oneGoodReportStopsTheClock() throws {
    var bench = Bench()
    try bench.make()
    for n in 1...3 { bench.report(n, false) }
    bench.pass(.seconds(29))
    bench.report(1, true)
    bench.report(1, false)
    bench.pass(.seconds(29))
    #expect(bench.view?.status == .active)
}

@Test func withoutAnUpHostItIsUnknown() throws {
    var bench = Bench()
    try bench.make()
    for n in 1...3 { bench.give(.host(Bench.host(n, .nonResponsive))) }
    #expect(bench.view?.status == .unknown && bench.view?.hosts.allSatisfy { $0.ok == nil } == true)
    bench.give(.host(Bench.host(1)))
    #expect(bench.view?.status == .active)
}

@Test func nothingIsConcludedAfterARestartUntilFreshReports() throws {
    var bench = Bench()
    try bench.make([false, false, false])
    bench.pass(.seconds(20))
    bench.events = []
    bench.give(.started(Bench.policy))
    bench.give(.hosts([Bench.host(1), Bench.host(2), Bench.host(3)]))
    bench.pass(.seconds(600))
    #expect(bench.view?.status == .activating && bench.takeFlags().isEmpty)
    for n in 1...3 { bench.report(n, false) }
    bench.pass(.milliseconds(29_999))
    #expect(bench.view?.status == .activating)
    bench.pass(.milliseconds(1))
    #expect(bench.view?.status == .inactive)
}

@Test func aHostThatAloneCannotUseItIsSetAsideAndTakenBack() throws {
    var bench = Bench()
    try bench.make()
    bench.report(2, false)
    bench.pass(.milliseconds(29_999))
    #expect(bench.takeFlags().isEmpty)
    bench.pass(.milliseconds(1))
    let flag = try #require(bench.takeFlags().first)
    #expect(flag.host == "host2" && flag.reason?.contains("data") == true)
    bench.give(.flagged(flag, .unanswered))
    bench.pass(.seconds(2))
    #expect(bench.takeFlags() == [flag])
    bench.give(.flagged(flag, .done))
    bench.give(.host(Bench.host(2, .nonOperational)))
    bench.pass(.seconds(100))
    #expect(bench.takeFlags().isEmpty && bench.view?.status == .active)
    bench.report(2, true)
    #expect(bench.takeFlags() == [HostSetStatus(host: "host2", reason: nil)])
}

@Test func aHostThatAnOperatorActivatedIsJudgedAnew() throws {
    var bench = Bench()
    try bench.make()
    bench.report(2, false)
    bench.pass(Bench.failure)
    let flag = try #require(bench.takeFlags().first)
    bench.give(.flagged(flag, .done))
    bench.give(.host(Bench.host(2, .nonOperational)))
    bench.give(.host(Bench.host(2)))
    bench.pass(.milliseconds(29_999))
    #expect(bench.takeFlags().isEmpty)
    bench.pass(.milliseconds(1))
    #expect(bench.takeFlags() == [flag])
}

@Test func theLastGoodHostIsNeverSetAside() throws {
    var bench = Bench([Bench.host(1), Bench.host(2)])
    try bench.make([true, false])
    bench.pass(Bench.failure)
    bench.give(.flagged(try #require(bench.takeFlags().first), .done))
    bench.give(.host(Bench.host(2, .nonOperational)))
    bench.report(1, false)
    bench.pass(.seconds(600))
    #expect(bench.takeFlags().isEmpty && bench.view?.status == .inactive)
}

@Test func aHostIsNotSetAsideAfterARestartOnOldReports() throws {
    var bench = Bench()
    try bench.make()
    bench.report(2, false)
    bench.pass(Bench.failure)
    _ = bench.takeFlags()  // on its way when the monitor ends
    bench.give(.started(Bench.policy))
    bench.give(.hosts([Bench.host(1), Bench.host(2), Bench.host(3)]))
    bench.pass(.seconds(60))
    #expect(bench.takeFlags().isEmpty)
    bench.report(2, false)
    #expect(bench.takeFlags().map(\.host) == ["host2"])
}

/// Whether fencing-service heard it is unknown: that all is well must be told.
@Test func aHostThatMayHaveBeenSetAsideIsTakenBack() throws {
    var bench = Bench()
    try bench.make()
    bench.report(2, false)
    bench.pass(Bench.failure)
    bench.give(.flagged(try #require(bench.takeFlags().first), .unanswered))
    bench.give(.started(Bench.policy))
    bench.give(.hosts([Bench.host(1), Bench.host(2, .nonOperational), Bench.host(3)]))
    bench.report(2, true)
    #expect(bench.takeFlags() == [HostSetStatus(host: "host2", reason: nil)])
}

@Test func aReportThatLacksTheDomainIsConnectedAgain() throws {
    var bench = Bench()
    try bench.make()
    bench.give(.host(Bench.host(2, .initializing, incarnation: 2)))
    bench.reportNothing(2, incarnation: 2)
    let ask = try #require(bench.takeConnects().first)
    #expect(ask.host == "host2" && ask.bootID == Bench.boot(2, 2))
    bench.give(.connected(ask, .unanswered))
    bench.pass(.seconds(2))
    #expect(bench.takeConnects() == [ask])
    bench.give(.connected(ask, .done))
    bench.pass(.seconds(4))
    #expect(bench.takeConnects().isEmpty)
    bench.pass(.seconds(1))
    #expect(bench.takeConnects() == [ask])
    bench.report(2, true, incarnation: 2)
    bench.pass(.seconds(60))
    #expect(bench.takeConnects().isEmpty)
}

@Test func aReportOfAnotherBootSaysNothing() throws {
    var bench = Bench([Bench.host(1)])
    try bench.make([true])
    bench.give(.host(Bench.host(1, incarnation: 2)))
    #expect(bench.view?.hosts[0].ok == nil)
    bench.report(1, true, incarnation: 2)
    #expect(bench.view?.hosts[0].ok == true)
}

@Test func inMaintenanceNothingIsConcluded() throws {
    var bench = Bench()
    try bench.make()
    bench.give(.maintenance("m", DomainRequest(domain: "data")))
    for n in 1...3 { bench.report(n, false) }
    bench.pass(.seconds(600))
    #expect(bench.view?.status == .maintenance && bench.takeFlags().isEmpty)
    bench.give(.activate("a", DomainRequest(domain: Bench.uuid)))
    bench.report(1, true)
    #expect(bench.view?.status == .active && bench.replies.count == 3)
}
