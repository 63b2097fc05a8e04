import DomainMonitorEngine
import FencingEngine
import HostAgentEngine
import Messages

/// domain-monitor: its engine, its copy of the registry, the agents' reports.
final class MonitorProcess: ServiceProcess<DomainMonitor> {
    private var followed: [String: Subscription] = [:]

    private unowned(unsafe) let managers: ManagerSet

    init(of managers: ManagerSet) {
        self.managers = managers
        super.init(.domainMonitor, of: managers)
    }

    override func started() {
        followed = [:]
        submit(.started(world.scenario.policy.domains))
        follow()
        follow(registryOf: managers) { [self] news in
            if let input = engine.input(news) { submit(input) }
            follow()
        }
    }

    override func dismantle() {
        super.dismantle()
        followed = [:]
    }

    private func follow() {
        for name in followed.keys.sorted() where engine.hosts[name] == nil { followed.removeValue(forKey: name)?.close() }
        for name in engine.hosts.keys.sorted() where followed[name] == nil {
            guard let host = world.host(name) else { continue }
            followed[name] = Subscription(
                of: host.agent, by: self, topics: ["agent.storage"],
                onSnapshot: { [self] state in if let state = state as? AgentSnapshot { hear(state.storage) } },
                onEvent: { [self] event in if let storage = event.body as? AgentStorage { hear(storage) } })
        }
    }

    private func hear(_ storage: AgentStorage) {
        if let input = engine.input(storage) { submit(input) }
    }

    override func published(_ event: Event) { if managers.areObeyed { world.observer.monitor(event) } }

    override func perform(_ action: DomainAction) {
        let caller = caller
        switch action {
        case .create(let ask, let create):
            guard let host = world.host(ask.host) else { return submit(.created(ask, .unanswered)) }
            self.ask(
                host.agent, id: ask.requestID(lineage: journal.lineage), target: ask.bootID, timeout: .seconds(60), { .storageCreate($0, caller, create) }
            ) { [self] in submit(.created(ask, Answer($0))) }
        case .connect(let ask, let connect):
            guard let host = world.host(ask.host) else { return submit(.connected(ask, .unanswered)) }
            self.ask(host.agent, target: ask.bootID, timeout: .seconds(5), { .storageConnect($0, caller, connect) }) { [self] in
                submit(.connected(ask, Answer($0)))
            }
        case .flag(let status):
            self.ask(managers.fencing, timeout: .seconds(5), { .hostSetNonOperational($0, status) }) { [self] in submit(.flagged(status, Answer($0))) }
        }
    }
}
