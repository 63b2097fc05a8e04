import ArgumentParser
import Bus
import Foundation
import Messages
import Synchronization

/// `bulwark events`: what happens, merged over all manager services.
struct EventsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "What was decided so far, or with --follow what happens, with reasons.",
        discussion: "TOPIC is a topic such as host.status, host.status.host2 or vm; everything below it is meant too. service.alive is shown only if it is named.")
    @Flag(help: "Go on until interrupted, one line for each event.") var follow = false
    @Option(help: "With --follow: of this host's agent and lease-service, instead of the manager services.") var host: String?
    @Option(help: "Without --follow: at most so many of the newest decisions of each service.") var limit = 200
    @Argument(help: "Topics; without --follow the objects, such as vm/web1 or host.") var topics: [String] = []
    @OptionGroup var options: GlobalOptions

    func validate() throws {
        guard limit > 0 else { throw ValidationError("--limit must be at least 1") }
        guard follow || host == nil else { throw ValidationError("--host goes with --follow; `bulwark explain` tells what the processes of hosts decided") }
    }

    func run() throws {
        let cluster = try options.connect()
        if follow { try Follower(cluster: cluster, host: host, topics: topics, json: options.json).run() }
        var story = Story(cluster: cluster)
        try story.tellEverything(limit: limit)
        let wanted = story.decisions.filter { decision in
            topics.isEmpty || topics.contains { decision.subject == $0 || decision.subject.hasPrefix($0 + "/") }
        }
        try options.show(try JSONValue(encoding: wanted)) { story.text(wanted, empty: "nothing was decided yet") }
    }
}

/// Prints the events of all manager services, or of one host's processes, as they come, one thread for each, one line at a time.
private final class Follower: Sendable {
    private let cluster: Cluster
    private let host: String?
    private let topics: [String]
    private let json: Bool
    private let output = Mutex<Void>(())

    init(cluster: Cluster, host: String?, topics: [String], json: Bool) {
        self.cluster = cluster
        self.host = host
        self.topics = topics
        self.json = json
    }

    /// Ends only with the process.
    func run() throws -> Never {
        for process in try host.map(cluster.processes(ofHost:)) ?? ManagerService.allCases.map(cluster.endpoints(of:)) { Thread.detachNewThread { self.follow(process) } }
        while true { sleep(3600) }
    }

    private func follow(_ process: ProcessEndpoints) {
        let subscriber: BlockingSubscriber
        do {
            subscriber = try BlockingSubscriber(endpoint: process.events, topics: topics.isEmpty ? [""] : topics)
        } catch {
            return say("\(process.name) cannot be followed: \(error)")
        }
        var place = Place()
        var names = DomainNames(cluster: cluster)
        var told: [String: String] = [:]
        while true {
            guard let (topic, frame) = subscriber.next(timeout: .seconds(3600)) else { continue }
            guard let event = EventText(frame: frame) else { continue }
            if topics.isEmpty, let missed = place.missed(event.header), !json {
                say("\(WallClock.short(event.header.time))  \(process.name)  (\(missed) events were missed; `bulwark events` and `bulwark explain` know them)")
            }
            if event.header.type == "domain.status" { names = DomainNames(cluster: cluster) }
            guard isWanted(topic) else { continue }
            if json {
                say(String(decoding: frame, as: UTF8.self))
            } else if told.updateValue(event.words, forKey: topic) != event.words {
                // An event whose news is only in numbers, such as free memory, would repeat the same words.
                say(event.line(topic: topic, words: names.readable(event.words)))
            }
        }
    }

    /// Topics are compared whole: `host.status.h2` is not below `host.status.h20`.
    private func isWanted(_ topic: String) -> Bool {
        topics.isEmpty ? topic != "service.alive" : topics.contains { topic == $0 || topic.hasPrefix($0 + ".") }
    }

    private func say(_ line: String) {
        output.withLock { _ in
            print(line)
            // Every stream: whoever reads a pipe sees each event at once.
            fflush(nil)
        }
    }

    /// Where a source's stream stands, to notice a gap.
    private struct Place {
        private var epoch: String?
        private var seq: UInt64 = 0

        /// How many events are missing before this one; `nil` if none.
        mutating func missed(_ header: EventHeader) -> UInt64? {
            defer {
                epoch = header.epoch
                seq = header.seq
            }
            guard header.epoch == epoch else { return nil }
            let expected = header.type == "service.alive" ? seq : seq + 1
            return header.seq > expected ? header.seq - expected : nil
        }
    }
}
