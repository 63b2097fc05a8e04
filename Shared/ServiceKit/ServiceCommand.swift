public import ArgumentParser
public import Bus
import CLinux
import Foundation
public import Logging
import Messages
import ServiceLifecycle
import UnixSignals

/// What every service is started with.
public struct ServiceOptions: ParsableArguments {
    @Option(help: "The cluster's file, or its name.")
    public var cluster: String?

    @Option(help: "This service's YAML file.")
    public var config: String?

    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    public var logLevel: String = "info"

    @Flag(help: "Check the configuration, print every value with its origin as JSON, and end.")
    public var checkConfig = false

    public init() {}
}

/// What a service is built from.
public struct ServiceContext: Sendable {
    public var service: String
    public var cluster: ClusterFile
    public var configuration: Configuration
    public var logger: Logger

    /// Keys and allow-list, if the cluster has any.
    ///
    /// - Parameter key: name of the key file: the service, or the host for agent and lease-service.
    /// - Throws: when a key file exists but may not be used (mode other than 0600, damaged).
    public func security(key: String) throws -> BusSecurity? {
        guard FileManager.default.fileExists(atPath: cluster.keyPath(key)) else { return nil }
        return BusSecurity(keys: try KeyFile.load(cluster.keyPath(key)), allow: try AllowList.load(cluster.allowListPath))
    }

    /// `<state>/<service>`, made if it is not there.
    public func stateDirectory(_ path: String? = nil) throws -> String {
        let directory = path ?? "\(cluster.state)/\(service)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        return directory
    }
}

/// Something that runs until it is told to drain.
@ReactorActor
public protocol RunningService: AnyObject, Sendable {
    /// Stops accepting, makes everything durable, then calls `done`.
    func drain(_ done: @escaping @Sendable () -> Void)
}

/// The `@main` type of every service: reads options and configuration, starts the reactor, drains on SIGTERM and SIGINT within 2 s.
public protocol ServiceCommand: AsyncParsableCommand {
    static var service: String { get }
    static var schema: [ConfigurationKey] { get }
    var options: ServiceOptions { get }

    /// What these values do not guarantee, a sentence each, in an operator's words: `config check` shows them.
    static func notGuaranteed(_ configuration: Configuration) -> [String]

    /// Refuses values that may not stand together, with the numbers that clash.
    static func check(_ configuration: Configuration) throws(RequestError)

    /// Builds and starts the service. Runs on the reactor.
    @ReactorActor static func build(_ context: ServiceContext) throws -> any RunningService
}

extension ServiceCommand {
    public static var serviceConfiguration: CommandConfiguration { CommandConfiguration(commandName: service, version: Version.text) }
    public static var configuration: CommandConfiguration { serviceConfiguration }
    public static func notGuaranteed(_ configuration: Configuration) -> [String] { [] }
    public static func check(_ configuration: Configuration) throws(RequestError) {}

    public func run() async throws {
        if options.checkConfig { return try ConfigurationReport.print(Self.self, file: options.config) }
        signal(SIGPIPE, SIG_IGN)
        cl_limit_malloc(2)
        LoggingSystem.bootstrap { label in StreamLogHandler.standardError(label: label) }
        var logger = Logger(label: Self.service)
        logger.logLevel = Logger.Level(rawValue: options.logLevel) ?? .info
        let context: ServiceContext
        let running: any RunningService
        do {
            context = ServiceContext(
                service: Self.service, cluster: try ClusterFile.load(options.cluster),
                configuration: try Configuration(schema: Self.schema, file: options.config), logger: logger)
            try Self.check(context.configuration)
            Reactor.shared.start()
            running = try await Self.building(context)
        } catch let error as RequestError {
            logger.critical("\(Self.service) does not start: \(error.message)")
            throw ExitCode(1)
        }
        logger.notice("\(Self.service) \(Version.text) serves")
        // Option parsing, configuration and replay are over by then: half of what is resident.
        Reactor.shared.post { Reactor.shared.after(.seconds(10)) { cl_give_back_start() } }
        let group = ServiceGroup(
            configuration: .init(
                services: [.init(service: UntilDrained(running: running))], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
        Reactor.shared.stop()
        logger.notice("\(Self.service) stopped")
    }

    @ReactorActor private static func building(_ context: ServiceContext) throws -> any RunningService { try build(context) }
}

private struct UntilDrained: Service {
    let running: any RunningService

    func run() async throws {
        try? await gracefulShutdown()
        // The journal may be unable to take anything (full disk): everything acknowledged is durable, so ending without the last snapshot loses nothing.
        let late = Thread {
            Thread.sleep(forTimeInterval: 1.8)
            exit(0)
        }
        late.start()
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            Reactor.shared.post { running.drain { done.resume() } }
        }
    }
}
