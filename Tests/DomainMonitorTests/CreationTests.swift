import DomainMonitorEngine
import Messages
import Testing

@Test func aDomainIsMadeByOneUpHostAndConnectedOnAllThatAnswer() throws {
    var bench = Bench([Bench.host(1, .connecting), Bench.host(2), Bench.host(3, .initializing)])
    bench.reportNothing(2)
    bench.reportNothing(3)
    bench.give(.create("c", Bench.create()))
    let ask = try #require(bench.takeCreates().first)
    #expect(ask.host == "host2" && bench.view?.status == .locked && bench.replies.isEmpty)
    bench.give(.created(ask, .done))
    guard case .success(let body)? = bench.replies.first?.reply, let view = body as? DomainView else { return #expect(Bool(false)) }
    #expect(view.path == "/srv/shared/\(Bench.uuid)" && view.status == .activating)
    #expect(bench.takeConnects().map(\.host) == ["host2", "host3"])
}

@Test func creatingIsIdempotentForTheSameUuidAndDirectory() throws {
    var bench = Bench()
    bench.give(.create("c", Bench.create()))
    bench.give(.create("d", Bench.create()))
    let asks = bench.takeCreates()
    #expect(asks.count == 1)
    bench.give(.created(asks[0], .done))
    bench.give(.create("e", Bench.create()))
    #expect(bench.replies.map(\.id) == ["c", "d", "e"] && bench.takeCreates().isEmpty)
}

@Test(arguments: [
    (Bench.create(directory: "/elsewhere"), "domain.exists"), (Bench.create(uuid: "6a1e8f5e-0000-4000-8000-000000000002"), "domain.exists"),
    (Bench.create("x", uuid: "UPPER"), "request.invalid"), (Bench.create("x", uuid: "6a1e8f5e-0000-4000-8000-000000000003", directory: "srv"), "request.invalid"),
])
func unusableRequestsAreRefused(request: DomainCreate, code: String) throws {
    var bench = Bench()
    try bench.make()
    bench.give(.create("bad", request))
    #expect(bench.refusal("bad")?.code == code && bench.takeCreates().isEmpty)
}

@Test func withoutAnUpHostCreationIsRefused() {
    var bench = Bench([Bench.host(1, .connecting)])
    bench.give(.create("c", Bench.create()))
    #expect(bench.refusal("c")?.code == DomainErrorCode.noHost.rawValue && bench.engine.views.isEmpty)
}

@Test func anUnknownOutcomeIsAskedAgainOnTheSameHost() throws {
    var bench = Bench()
    bench.give(.create("c", Bench.create()))
    let first = try #require(bench.takeCreates().first)
    bench.give(.created(first, .unanswered))
    #expect(bench.takeCreates().isEmpty)
    bench.pass(.seconds(2))
    #expect(bench.takeCreates() == [first])
}

/// Its first maker may still write: another one begins only after a proof (I3, I4).
@Test func anotherHostMakesItOnlyAfterAProof() throws {
    var bench = Bench()
    bench.give(.create("c", Bench.create()))
    bench.give(.created(try #require(bench.takeCreates().first), .unanswered))
    bench.give(.host(Bench.host(1, .nonResponsive)))
    bench.pass(.seconds(600))
    #expect(bench.takeCreates().isEmpty && bench.view?.reason.contains("proven over") == true)
    bench.give(.host(Bench.host(1, incarnation: 2)))
    bench.pass(.seconds(10))
    #expect(bench.takeCreates().isEmpty)
    bench.give(.host(Bench.host(1, .down, over: 1)))
    bench.pass(.seconds(2))
    #expect(bench.takeCreates().map(\.host) == ["host2"])
}

@Test func aRefusalFailsItAndFreesTheName() throws {
    var bench = Bench()
    bench.give(.create("c", Bench.create()))
    bench.give(.created(try #require(bench.takeCreates().first), .refused(RequestError(code: "lease.exists", message: "there is one"))))
    #expect(bench.refusal("c")?.code == DomainErrorCode.createFailed.rawValue && bench.engine.views.isEmpty)
    bench.give(.create("again", Bench.create()))
    #expect(bench.takeCreates().map(\.number) == [2])
}

@Test func aHostsOwnRefusalGoesToTheNextHost() throws {
    var bench = Bench()
    bench.give(.create("c", Bench.create()))
    bench.give(.created(try #require(bench.takeCreates().first), .refused(RequestError(RequestErrorCode.journalFull, "full"))))
    #expect(bench.takeCreates().map(\.host) == ["host2"])
}

@Test func aRestartAsksTheSameHostAgain() throws {
    var bench = Bench()
    bench.give(.create("c", Bench.create()))
    let first = try #require(bench.takeCreates().first)
    bench.give(.started(Bench.policy))
    #expect(bench.takeCreates().isEmpty)
    bench.give(.hosts([Bench.host(1), Bench.host(2)]))
    #expect(bench.takeCreates() == [first])
}
