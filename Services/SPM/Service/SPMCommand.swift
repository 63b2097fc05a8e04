import ArgumentParser
import Bus
import Messages
import SPMEngine
import SQLiteJournal
import ServiceKit

/// spm-coordinator: runs the ``SPMCoordinator``, follows fencing-service and commands the agents of SPM hosts.
@main
struct SPMCommand: ServiceCommand {
    static let service = "spm-coordinator"
    static let schema = [
        ConfigurationKey("spm.check", .duration, default: "5s", "time between two looks at a serving SPM"),
        ConfigurationKey("spm.retry", .duration, default: "1s", "time before an unanswered question or task is sent again"),
        ConfigurationKey("spm.startTimeout", .duration, default: "30s", "how long the answer to a start is awaited; then its outcome is unknown and asked for"),
        ConfigurationKey("spm.stopTimeout", .duration, default: "10s", "how long the answer to a stop is awaited before it is sent again"),
        ConfigurationKey("spm.statusTimeout", .duration, default: "3s", "how long the answer to a question is awaited"),
        ConfigurationKey("spm.shortTerm", .duration, default: "60s", "a term that ends sooner counts as flapping: the next election waits"),
        ConfigurationKey("spm.backoff", .duration, default: "1s", "first pause between elections that fail or flap; doubles each time"),
        ConfigurationKey("spm.backoffLimit", .duration, default: "60s", "longest pause between elections"),
        ConfigurationKey("task.timeout", .duration, default: "60s", "how long the SPM may work on a task before it is asked again"),
    ]

    @OptionGroup var options: ServiceOptions

    @ReactorActor static func build(_ context: ServiceContext) throws -> any RunningService {
        let configuration = context.configuration
        let security = try context.security(key: service)
        let endpoints = try context.cluster.endpoints(of: service)
        let agents = SPMAgents(security: security, configuration: configuration)
        let shell = try EngineShell<SPMCoordinator>(
            ShellSetup(
                source: service, journal: SQLiteJournal(path: try context.stateDirectory() + "/journal.sqlite"), requests: [endpoints.requests],
                events: [endpoints.events], security: security, routes: routes, logger: context.logger,
                perform: { action, shell in agents.perform(action, for: shell) }))
        let hello = ManagerHello(of: shell, security: security)
        let registry = HostRegistry(
            security: security, allowListPath: context.cluster.allowListPath,
            onNews: {
                hello.greet($0)
                if let input = shell.engine.input($0) { shell.submit(input) }
            },
            onProblem: { shell.setProblem($0, $1) })
        agents.registry = registry
        try shell.start()
        shell.submit(.started(policy(configuration)))
        try registry.follow(try context.cluster.endpoints(of: "fencing-service"))
        return shell
    }

    private static func policy(_ configuration: Configuration) -> SPMPolicy {
        SPMPolicy(
            check: max(configuration.duration("spm.check"), .milliseconds(100)), retry: max(configuration.duration("spm.retry"), .milliseconds(100)),
            shortTerm: configuration.duration("spm.shortTerm"), backoff: max(configuration.duration("spm.backoff"), .milliseconds(100)),
            backoffLimit: configuration.duration("spm.backoffLimit"))
    }

    private static var routes: [Route<SPMCoordinator>] {
        let writers: Set<Role> = [.service, .operator_]
        let people: Set<Role> = [.operator_]
        return [
            Route("pool.create", writers) { .createPool($0.header.id, try $0.body(PoolCreate.self)) },
            Route("spm.select", people) { request in
                let body = try request.body(PoolRequest.self)
                guard body.host != nil else { throw RequestError(RequestErrorCode.malformed, "host is missing: spm.select names one, spm.move leaves the choice") }
                return .move(request.header.id, body)
            },
            Route("spm.move", people) { .move($0.header.id, try $0.body(PoolRequest.self)) },
            Route("spm.stop", people) { .move($0.header.id, try $0.body(PoolRequest.self)) },
            Route("volume.create", writers) { .createVolume($0.header.id, try $0.body(VolumeCreate.self)) },
            Route("lease.create", writers) { .createLease($0.header.id, try $0.body(LeaseRequest.self)) },
            Route(reading: "pool.show") { engine, request in
                let name = try request.body(PoolRequest.self).pool
                guard let pool = engine.pool(named: name) else {
                    throw RequestError(SPMErrorCode.poolNotFound, name.map { "there is no pool \($0)" } ?? "name the pool: there are \(engine.poolViews.count)")
                }
                return .success(pool.view)
            },
            Route(reading: "task.list") { engine, _ in .success(TaskList(tasks: engine.taskViews)) },
            Route(reading: "task.show") { engine, request in
                let id = try request.body(TaskRequest.self).task
                guard let task = engine.tasks[id] else { throw RequestError(SPMErrorCode.taskNotFound, "there is no task \(id); old ones are forgotten") }
                return .success(task.view)
            },
        ]
    }
}
