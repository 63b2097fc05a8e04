import Bus
import CLinux
import Foundation
import Messages
import ServiceKit
import Synchronization
import TestLab

/// What the manager services publish, with the time at which they did: all on this machine's one clock.
final class EventLog: Sendable {
    struct Entry: Sendable {
        var topic: String
        /// Milliseconds since 1970.
        var time: Double
        var frame: Data
    }

    private let entries = Mutex<[Entry]>([])

    init(_ cluster: LabCluster, services: [String]) throws {
        for service in services {
            guard let endpoint = cluster.file.services[service]?.events else { throw LabFailure("\(service) has no events endpoint") }
            Thread.detachNewThread { [self] in follow(endpoint) }
        }
        usleep(300_000)
    }

    private func follow(_ endpoint: String) {
        guard let subscriber = try? BlockingSubscriber(endpoint: endpoint, topics: [""]) else { return }
        while true {
            guard let (topic, frame) = subscriber.next(timeout: .seconds(60)), topic != "service.alive", let header = try? EventFrame.decodeHeader(frame),
                let time = Self.milliseconds(header.time)
            else { continue }
            entries.withLock { $0.append(Entry(topic: topic, time: time, frame: frame)) }
        }
    }

    func since(_ time: Double) -> [Entry] { entries.withLock { $0.filter { $0.time >= time } }.sorted { $0.time < $1.time } }

    static func now() -> Double { Double(cl_realtime()) / 1e6 }

    private static func milliseconds(_ text: String) -> Double? {
        (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))).map { $0.timeIntervalSince1970 * 1000 }
    }
}
