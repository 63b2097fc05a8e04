import Bus
import Foundation
import Logging
import Messages
import ServiceKit
import Synchronization
import Testing

/// A manager's hello to an agent that answers as the test says.
@Suite(.serialized) struct ManagerHelloTests {
    private final class Agent: Sendable {
        let answers: Mutex<[RequestErrorCode?]>
        let asked = Mutex(0)
        init(_ answers: [RequestErrorCode?]) { self.answers = Mutex(answers) }

        func answer() -> Reply {
            asked.withLock { $0 += 1 }
            let code = answers.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }
            return code.map { .refused(RequestError($0, "as the test says")) } ?? .done
        }
    }

    @ReactorActor private final class Bench {
        let manager: EngineShell<Counter>
        let agents: [EngineShell<Counter>]
        let hello: ManagerHello
        private(set) var said: [String?] = []

        init(_ directory: String, _ agents: [Agent]) throws {
            Reactor.shared.start()
            func shell(_ name: String, _ routes: [Route<Counter>]) throws -> EngineShell<Counter> {
                var setup = ShellSetup<Counter>(
                    source: name, journal: HeldJournal(HeldJournal.Disk()), requests: ["ipc://\(directory)/\(name)"], events: ["ipc://\(directory)/\(name)-events"], security: nil,
                    routes: routes, logger: Logger(label: name), perform: { _, _ in })
                setup.target = "boot-1"
                let shell = try EngineShell(setup)
                try shell.start()
                return shell
            }
            manager = try shell("manager", [])
            self.agents = try agents.enumerated().map { index, agent in
                try shell("agent\(index)", [Route(reading: "manager.hello") { _, _ in agent.answer() }])
            }
            hello = ManagerHello(of: manager, security: nil, patience: .milliseconds(100), refusedPause: .milliseconds(100))
            hello.onAnswer = { [unowned self] _, refusal in said.append(refusal) }
        }
    }

    private func view(_ directory: String, agent: String) -> HostView {
        HostView(
            name: "host1", id: 1, status: .up, reason: "", incarnation: Incarnation(1), bootID: "boot-1",
            endpoints: HostEndpoints(agentRequests: "ipc://\(directory)/\(agent)", agentEvents: "", leaseRequests: "", leaseEvents: ""))
    }

    private func wait(_ what: String, _ done: () async -> Bool) async {
        let end = Clock.boottime() + .seconds(10)
        while Clock.boottime() < end {
            if await done() { return }
            try? await Task.sleep(nanoseconds: 5_000_000)
        }
        Issue.record("not within 10 s: \(what)")
    }

    @Test func itIsSaidAgainUntilTheAgentObeysAndARefusalIsToldOnce() async throws {
        let directory = try ScratchDirectory()
        let agent = Agent([.journalFull, .managerForeign, .managerForeign, nil])
        let bench = try await Bench(directory.path, [agent])
        await bench.hello.greet(view(directory.path, agent: "agent0"))
        await wait("obeyed") { await bench.said.count == 2 }
        #expect(await bench.said == ["as the test says", nil])
        #expect(agent.asked.withLock { $0 } == 4)
    }

    @Test func itGoesWhereTheHostIsNowAndNoMoreToARemovedOne() async throws {
        let directory = try ScratchDirectory()
        let agent = Agent([.managerForeign])
        let bench = try await Bench(directory.path, [agent])
        await bench.hello.greet(view(directory.path, agent: "nowhere"))
        await bench.hello.note(view(directory.path, agent: "agent0"))
        await wait("refused") { await bench.said == ["as the test says"] }
        await bench.hello.greet(.removed("host1"))
        let asked = agent.asked.withLock { $0 }
        try await Task.sleep(nanoseconds: 500_000_000)
        #expect(agent.asked.withLock { $0 } <= asked + 1, "one may have been on its way")
        #expect(await !bench.hello.hasGreeted("host1", bootID: "boot-1"))
    }
}
