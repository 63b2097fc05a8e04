import ArgumentParser
import Bus
import Messages
import PlacementEngine
import SQLiteJournal
import ServiceKit

/// placement-service: runs the ``PlacementEngine``, listens to fencing-service and to every host's agent, and commands agents and spm-coordinator.
@main
struct PlacementCommand: ServiceCommand {
    static let service = "placement-service"
    static let schema = [
        ConfigurationKey("recovery.settle", .duration, default: "5s", "after its own start, how long automatic starts wait at most for the reports of all Up hosts; and after a failure of all hosts, for the last of them to join"),
        ConfigurationKey("recovery.retryFirst", .duration, default: "2s", "pause after every host refused an HA VM once; doubles with each further round"),
        ConfigurationKey("recovery.retryLongest", .duration, default: "30s", "longest pause between two rounds"),
        ConfigurationKey("recovery.stableAfter", .duration, default: "60s", "a VM that was up so long is restarted at once when it ends"),
        ConfigurationKey("recovery.priorityBlocking", .duration, default: "3s", "how long a VM waits at most for HA VMs of higher priority"),
        ConfigurationKey("recovery.startsPerHost", .integer, default: "4", "starts that recovery has under way on one host at a time; what an operator starts does not wait"),
        ConfigurationKey("recovery.waitsForHost", .boolean, default: "false", "HA VMs that a clean shutdown of their host has ended wait until it is back, instead of being started elsewhere at once"),
        ConfigurationKey("saving.enabled", .boolean, default: "false", "empty hosts are powered down, and on again when the reserve is low, HA needs them or a VM finds no place"),
        ConfigurationKey("saving.reserveHosts", .integer, default: "1", "empty hosts that stay on"),
        ConfigurationKey("saving.reserveMemory", .integer, default: "0", "MiB that stay free on the hosts that are Up, in all"),
        ConfigurationKey("saving.emptyFor", .duration, default: "600s", "how long nothing must have run on a host before it is powered down"),
        ConfigurationKey("saving.pause", .duration, default: "300s", "time between two such actions; a VM that finds no place does not wait for it"),
        ConfigurationKey("observe.every", .duration, default: "2s", "time between two questions about a run whose state is not known"),
        ConfigurationKey("observe.doubt", .duration, default: "3s", "how long a report that contradicts a reply is taken for a late one"),
        ConfigurationKey("agent.startTimeout", .duration, default: "60s", "how long the answer to a start is awaited; then its outcome is unknown and observed"),
        ConfigurationKey("agent.timeout", .duration, default: "10s", "how long the answer to a stop or an observation is awaited"),
        ConfigurationKey("spm.timeout", .duration, default: "60s", "how long a storage task is awaited before it is asked for again"),
    ]

    @OptionGroup var options: ServiceOptions

    static func check(_ configuration: Configuration) throws(RequestError) {
        for key in ["saving.emptyFor", "saving.pause"] where configuration.duration(key) < PowerSavingPolicy.shortest {
            throw RequestError(code: "config.invalid", message: "\(key) is \(configuration.duration(key).milliseconds) ms, it must be at least \(PowerSavingPolicy.shortest.seconds) s")
        }
    }

    @ReactorActor static func build(_ context: ServiceContext) throws -> any RunningService {
        let configuration = context.configuration
        let security = try context.security(key: service)
        let endpoints = try context.cluster.endpoints(of: service)
        let proofs = ProofCheck(security: security, allowListPath: context.cluster.allowListPath)
        let commands = AgentCommands(
            security: security, proofs: proofs, spm: try context.cluster.endpoints(of: "spm-coordinator").requests, fencing: try context.cluster.endpoints(of: "fencing-service").requests,
            startTimeout: configuration.duration("agent.startTimeout"), timeout: configuration.duration("agent.timeout"),
            storageTimeout: configuration.duration("spm.timeout"))
        let shell = try EngineShell<PlacementEngine>(
            ShellSetup(
                source: service, journal: SQLiteJournal(path: try context.stateDirectory() + "/journal.sqlite"), requests: [endpoints.requests],
                events: [endpoints.events], security: security, routes: routes, logger: context.logger,
                perform: { action, shell in commands.perform(action, for: shell) }))
        proofs.onProblem = { shell.setProblem("proofs", $0) }
        let watch = ClusterWatch(shell: shell, proofs: proofs, security: security)
        try shell.start()
        // With the term: a copy of this journal must not ask under the same request ids, for an agent answers an id once (S16).
        shell.submit(.started(policy(configuration), lineage: shell.epoch))
        try watch.start(
            fencing: try context.cluster.endpoints(of: "fencing-service"),
            spm: configuration.boolean("saving.enabled") ? try context.cluster.endpoints(of: "spm-coordinator") : nil)
        return shell
    }

    private static func policy(_ configuration: Configuration) -> PlacementPolicy {
        PlacementPolicy(
            settle: configuration.duration("recovery.settle"), retryFirst: configuration.duration("recovery.retryFirst"),
            retryLongest: configuration.duration("recovery.retryLongest"), stableAfter: configuration.duration("recovery.stableAfter"),
            observeEvery: configuration.duration("observe.every"), priorityBlocking: configuration.duration("recovery.priorityBlocking"),
            doubt: configuration.duration("observe.doubt"), startsPerHost: max(1, configuration.integer("recovery.startsPerHost")),
            waitsForHost: configuration.boolean("recovery.waitsForHost") ? true : nil,
            saving: configuration.boolean("saving.enabled")
                ? PowerSavingPolicy(
                    reserveHosts: max(0, configuration.integer("saving.reserveHosts")), reserveMemoryMiB: max(0, configuration.integer("saving.reserveMemory")),
                    emptyFor: configuration.duration("saving.emptyFor"), pause: configuration.duration("saving.pause")) : nil)
    }

    private static var routes: [Route<PlacementEngine>] {
        let writers: Set<Role> = [.service, .operator_]
        return [
            Route("vm.define", writers) { .define($0.header.id, try $0.body(VMDefinition.self)) },
            Route("vm.remove", writers) { .remove($0.header.id, try $0.body(VMRequest.self)) },
            Route("vm.start", writers) { .start($0.header.id, try $0.body(VMRequest.self)) },
            Route("vm.stop", writers) { .stop($0.header.id, try $0.body(VMRequest.self)) },
            Route("vm.reset-power-state", writers) { .resetPowerState($0.header.id, try $0.body(VMRequest.self)) },
            Route("vm.resume", writers) { .resume($0.header.id, try $0.body(VMRequest.self)) },
            Route(reading: "vm.list") { engine, _ in .success(engine.list) },
            Route(reading: "vm.show") { engine, request in .success(try engine.show(try request.body(VMRequest.self).vm)) },
            Route(reading: "placement.explain") { engine, request in .success(try engine.explainPlacement(of: try request.body(VMRequest.self).vm)) },
        ]
    }
}
