import Messages
import Testing

@testable import PlacementEngine

private let runs = AgentVMs(host: "host1", bootID: "host1-1", complete: true, vms: [Bench.running("a", 1)])

/// A proof that the unchanged report contradicts must not hide it.
@Test func anUnchangedReportCountsAgainAfterAProofOrAChangeOfItsHost() {
    var filter = ReportFilter()
    func heardTwice() -> [Bool] { [filter.isNews(runs), filter.isNews(runs)] }
    filter.note(Bench.host("host1"))
    #expect(heardTwice() == [true, false])
    filter.expect("host1")
    #expect(heardTwice() == [true, false])
    let proof = World.proof("host1", Incarnation(1))
    for changed in [Bench.host("host1", .nonResponsive), Bench.host("host1"), Bench.host("host1", proof: proof), Bench.host("host1")] {
        filter.note(changed)
        #expect(heardTwice() == [true, false])
    }
    filter.note(Bench.host("host1", memory: 5))
    #expect(heardTwice() == [false, false], "what a report cannot contradict makes no input")
}

@Test func theAgeOfAProofIsNoNews() {
    var filter = ReportFilter()
    var report = AgentVMs(host: "host1", bootID: "host1-1", complete: true, vms: [Bench.stopped("a", 1, by: "host1")])
    let first = filter.isNews(report)
    report.vms[0].ended?.age = .seconds(5)
    let older = filter.isNews(report)
    filter.forget("host1")
    let afterwards = filter.isNews(report)
    #expect(first && !older && afterwards && filter.reports.count == 1)
}
