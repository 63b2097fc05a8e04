import Foundation
import Messages
import SPMEngine
import Testing

@Test func noAnswerElectsNobodyElse() throws {
    var bench = Bench()
    let (ask, _) = try bench.takeStart()
    bench.give(.answer(ask, .unanswered))
    for _ in 0..<200 {
        bench.pass(.seconds(1))
        if let status = try? bench.takeAsk(.status) { bench.give(.answer(status, .unanswered)) }
    }
    #expect(bench.starts == 0 && bench.view.status == .nonResponsive && bench.view.reason.contains("proven over"))
    bench.pass(.seconds(1))
    bench.give(.answer(try bench.takeAsk(.status), Bench.status(.spm, term: 1)))
    #expect(bench.view.status == .up && bench.starts == 0)
}

@Test func aSilentHolderBlocksUntilAProofCoversItsIncarnation() throws {
    var bench = Bench()
    _ = try bench.serve()
    bench.give(.host(Bench.host(1, .nonResponsive)))
    #expect(bench.view.status == .nonResponsive && bench.view.reason.contains("NonResponsive: waits"))
    bench.give(.host(Bench.host(1, .nonResponsive, proof: Bench.proof(1, through: 0))))
    bench.pass(.seconds(300))
    #expect(bench.starts == 0)
    bench.give(.host(Bench.host(1, .down, proof: Bench.proof(1, through: 1))))
    bench.pass(.seconds(60))
    let (ask, start) = try bench.takeStart()
    #expect(ask.host == "host2" && start.proofs.map(\.proof.id) == ["proof-host1-1"])
    #expect(bench.events.contains { $0.type == "spm.lost" })
}

@Test func anotherBootSaysNothingAboutTheTerm() throws {
    var bench = Bench()
    _ = try bench.serve()
    bench.give(.host(Bench.host(1, incarnation: 2)))
    bench.pass(.seconds(5))
    bench.give(.answer(try bench.takeAsk(.status), .refused(RequestError(RequestErrorCode.wrongTarget, "other boot"))))
    #expect(bench.starts == 0 && bench.view.status == .nonResponsive && bench.view.reason.contains("booted anew"))
    bench.give(.host(Bench.host(1, incarnation: 2, proof: Bench.proof(1, through: 1, kind: .rebooted))))
    bench.pass(.seconds(10))
    #expect(try bench.takeStart().ask.host == "host2")
}

@Test(arguments: [RequestErrorCode.wrongTarget.rawValue, AgentErrorCode.termStale.rawValue])
func aStartRefusedByAnotherBootOrAClosedTermIsNotOver(code: String) throws {
    var bench = Bench()
    let (ask, _) = try bench.takeStart()
    bench.give(.answer(ask, .refused(RequestError(code: code, message: "an earlier copy may have had its effect"))))
    bench.pass(.seconds(30))
    #expect(bench.starts == 0)
}

/// A start that is still on its way would find the agent willing: it is closed by a stop first.
@Test func anAgentThatNeverHeardOfTheTermIsToldToRefuseIt() throws {
    var bench = Bench()
    let (ask, _) = try bench.takeStart()
    bench.give(.answer(ask, .unanswered))
    bench.pass(.seconds(1))
    bench.give(.answer(try bench.takeAsk(.status), Bench.status(.free, term: 0)))
    #expect(bench.starts == 0)
    bench.give(.answer(try bench.takeAsk(.stop), Bench.status(.free, term: 1)))
    #expect(bench.starts == 1)
}

/// The guard is gone, but its storage has not answered: Free without a proof is no release (S4).
@Test func freeWithoutAProofIsNoRelease() throws {
    var bench = Bench()
    let first = try bench.serve()
    bench.pass(.seconds(90))
    bench.give(.answer(try bench.takeAsk(.status), Bench.status(.free, term: first.term)))
    bench.give(.answer(try bench.takeAsk(.stop), .unanswered))
    bench.pass(.seconds(1))
    #expect(bench.starts == 0)
    bench.give(.answer(try bench.takeAsk(.stop), Bench.status(.free, term: first.term, ended: Bench.ended(first.term))))
    #expect(bench.starts == 1)
}

@Test func aLivingOwnerIsAdoptedAfterARestartWithoutAnyAction() throws {
    var bench = Bench()
    let first = try bench.serve()
    bench.engine = try JSONDecoder().decode(SPMCoordinator.self, from: JSONEncoder().encode(bench.engine))
    bench.events = []
    bench.give(.started(SPMPolicy()))
    let status = try bench.takeAsk(.status)
    #expect(status.term == first.term && status.bootID == "boot1-1")
    bench.give(.answer(status, Bench.status(.spm, term: first.term)))
    bench.give(.hosts([Bench.host(1), Bench.host(2), Bench.host(3)], Bench.allowed))
    #expect(bench.view.status == .up && bench.actions.isEmpty && !bench.events.contains { $0.type == "spm.elected" })
}

@Test func nothingIsElectedBeforeTheRegistryIsFresh() throws {
    var bench = Bench()
    let first = try bench.serve()
    bench.give(.host(Bench.host(1, .down, proof: Bench.proof(1, through: 0))))
    bench.give(.started(SPMPolicy()))
    bench.give(.answer(try bench.takeAsk(.status), Bench.status(.free, term: first.term, ended: Bench.ended(first.term))))
    bench.pass(.seconds(120))
    #expect(bench.starts == 0 && bench.view.reason.contains("just started"))
    bench.give(.hosts([Bench.host(1), Bench.host(2)], Bench.allowed))
    #expect(bench.starts == 1)
}

@Test func recoveryWaitsWhileHeldButAnOperatorsElectionDoesNot() throws {
    var bench = Bench([Bench.host(1), Bench.host(2)], Bench.hold)
    _ = try bench.serve()  // asked for by pool.create
    bench.give(.host(Bench.host(1, .down, proof: Bench.proof(1, through: 1))))
    bench.pass(.seconds(120))
    #expect(bench.starts == 0 && bench.view.reason.contains("maintenance window"))
    bench.give(.recovery(Bench.allowed))
    guard case .start(_, let start)? = bench.actions.last else { return #expect(Bool(false)) }
    #expect(start.proofs.map(\.age) == [.seconds(120)])
    #expect(try bench.serve().host == "host2")
    bench.give(.recovery(Bench.hold))
    bench.give(.host(Bench.host(1)))
    bench.give(.move("m", PoolRequest(host: "host1")))
    bench.give(.answer(try bench.takeAsk(.stop), Bench.status(.free, term: 2)))
    #expect(try bench.takeStart().ask.host == "host1")
}

@Test func aLateAnswerOfAnOldTermChangesNothing() throws {
    var bench = Bench()
    let (old, _) = try bench.takeStart()
    bench.give(.answer(old, .refused(RequestError(AgentErrorCode.spmStartFailed, "no"))))
    let second = try bench.serve()
    bench.give(.answer(old, Bench.status(.free, term: 9)))
    #expect(bench.view.spm == second.host && bench.view.status == .up)
}

@Test func aServingHostThatAnswersNothingIsNotReplaced() throws {
    var bench = Bench()
    _ = try bench.serve()
    for _ in 0..<20 {
        bench.pass(.seconds(5))
        if let ask = try? bench.takeAsk(.status) { bench.give(.answer(ask, .unanswered)) }
    }
    #expect(bench.starts == 0 && bench.view.status == .nonResponsive)
}

@Test func anEndedProofOfTheAgentOpensTheNextElection() throws {
    var bench = Bench()
    let first = try bench.serve()
    bench.pass(.seconds(90))
    bench.give(.answer(try bench.takeAsk(.status), Bench.status(.free, term: 0, ended: Bench.ended(first.term))))
    let (ask, start) = try bench.takeStart()
    #expect(ask.host == "host2" && start.proofs.map(\.proof.id) == ["ended-1"])
}
