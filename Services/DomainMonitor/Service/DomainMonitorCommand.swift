import ArgumentParser
import Bus
import DomainMonitorEngine
import Messages
import SQLiteJournal
import ServiceKit

/// domain-monitor: runs the ``DomainMonitor``, follows fencing-service and every agent's storage reports, and commands agents.
@main
struct DomainMonitorCommand: ServiceCommand {
    static let service = "domain-monitor"
    static let schema = [
        ConfigurationKey("domain.failure", .duration, default: "5m", "how long a domain must be bad before it is Inactive, or the only host that cannot use it NonOperational"),
        ConfigurationKey("domain.retry", .duration, default: "2s", "time before an unanswered request is sent again"),
        ConfigurationKey("domain.patience", .duration, default: "5s", "how long a host's report may lack a domain that it was just connected to"),
        ConfigurationKey("agent.timeout", .duration, default: "5s", "how long the answer to a connection is awaited"),
        ConfigurationKey("agent.createTimeout", .duration, default: "60s", "how long the answer to a creation is awaited before it is asked for again"),
    ]

    @OptionGroup var options: ServiceOptions

    @ReactorActor static func build(_ context: ServiceContext) throws -> any RunningService {
        let configuration = context.configuration
        let security = try context.security(key: service)
        let endpoints = try context.cluster.endpoints(of: service)
        let fencing = try context.cluster.endpoints(of: "fencing-service")
        let requests = DomainRequests(security: security, fencing: fencing.requests, configuration: configuration)
        let shell = try EngineShell<DomainMonitor>(
            ShellSetup(
                source: service, journal: SQLiteJournal(path: try context.stateDirectory() + "/journal.sqlite"), requests: [endpoints.requests],
                events: [endpoints.events], security: security, routes: routes, logger: context.logger,
                perform: { action, shell in requests.perform(action, for: shell) }))
        let reports = StorageReports(shell: shell, security: security)
        let hello = ManagerHello(of: shell, security: security)
        let registry = HostRegistry(
            security: security, allowListPath: context.cluster.allowListPath,
            onNews: {
                hello.greet($0)
                take($0, shell, reports)
            }, onProblem: { shell.setProblem($0, $1) })
        try shell.start()
        shell.submit(.started(policy(configuration)))
        reports.follow(shell.engine.hosts)
        try registry.follow(fencing)
        return shell
    }

    @ReactorActor private static func take(_ news: RegistryNews, _ shell: EngineShell<DomainMonitor>, _ reports: StorageReports) {
        guard let input = shell.engine.input(news) else { return }
        shell.submit(input)
        reports.follow(shell.engine.hosts)
    }

    private static func policy(_ configuration: Configuration) -> DomainPolicy {
        DomainPolicy(
            failure: configuration.duration("domain.failure"), retry: max(configuration.duration("domain.retry"), .milliseconds(100)),
            patience: max(configuration.duration("domain.patience"), .milliseconds(100)))
    }

    private static var routes: [Route<DomainMonitor>] {
        let people: Set<Role> = [.operator_]
        return [
            Route("domain.create", people) { .create($0.header.id, try $0.body(DomainCreate.self)) },
            Route("domain.maintenance", people) { .maintenance($0.header.id, try $0.body(DomainRequest.self)) },
            Route("domain.activate", people) { .activate($0.header.id, try $0.body(DomainRequest.self)) },
            Route(reading: "domain.list") { engine, _ in .success(DomainList(domains: engine.views)) },
            Route(reading: "domain.show") { engine, request in
                let name = try request.body(DomainRequest.self).domain
                guard let domain = engine.domain(named: name) else { throw RequestError(DomainErrorCode.notFound, "there is no domain \(name); domain list shows all") }
                return .success(domain.view)
            },
        ]
    }
}
