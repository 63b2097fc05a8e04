import HostAgentEngine
import Messages
import SPMEngine

/// spm-coordinator: its engine, its copy of the registry, and the agents it commands.
final class SPMProcess: ServiceProcess<SPMCoordinator> {
    private unowned(unsafe) let managers: ManagerSet

    init(of managers: ManagerSet) {
        self.managers = managers
        super.init(.spmCoordinator, of: managers)
    }

    override func started() {
        submit(.started(world.scenario.policy.spm))
        follow(registryOf: managers) { [self] in if let input = engine.input($0) { submit(input) } }
    }

    override func published(_ event: Event) { if managers.areObeyed { world.observer.spm(event) } }

    override func perform(_ action: SPMAction) {
        let caller = caller
        let world = world
        switch action {
        case .start(let ask, let start):
            guard let host = world.host(ask.host) else { return submit(.answer(ask, .unanswered)) }
            if managers.areObeyed { world.spmStartSent(ask) }
            self.ask(
                host.agent, id: ask.requestID(lineage: epoch), target: ask.bootID, timeout: .seconds(30), { .spmStart($0, caller, start) }
            ) { [self] in submit(.answer(ask, roleAnswer($0, from: ask.host))) }
        case .ask(let ask):
            guard let host = world.host(ask.host) else { return submit(.answer(ask, .unanswered)) }
            let isStop = ask.kind == .stop
            let term = SPMTerm(pool: ask.pool, term: ask.term)
            self.ask(
                host.agent, target: ask.bootID, timeout: isStop ? .seconds(10) : .seconds(3), { isStop ? .spmStop($0, caller, term) : .spmStatus($0, caller, term) }
            ) { [self] in submit(.answer(ask, roleAnswer($0, from: ask.host))) }
        case .run(let ask, let run):
            guard let host = world.host(ask.host) else { return submit(.taskAnswer(ask, .unanswered)) }
            self.ask(
                host.agent, id: ask.requestID, target: ask.bootID, timeout: .seconds(60), { .taskRun($0, caller, run) }
            ) { [self] in submit(.taskAnswer(ask, TaskAnswer($0.typed(TaskResult.self)))) }
        }
    }

    private func roleAnswer(_ result: Result<any Encodable & Sendable, RequestError>, from host: String) -> RoleAnswer {
        RoleAnswer(result.typed(SPMRoleStatus.self)) { managers.verified($0, from: host) }
    }
}
