import Foundation
import Replay
import ServiceKit
import Testing

/// Journals as released versions wrote them, by real clusters: hosts crashed, hung and were fenced, services were killed, operators commanded.
enum Fixtures {
    /// Version, then service (for a host's, `host1/host-agent`).
    static let all: [String] = {
        let names = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
        return names.filter { ["journal", "journal.sqlite"].contains(($0 as NSString).lastPathComponent) }.sorted()
    }()

    private static let root = Bundle.module.resourcePath.map { $0 + "/Journals" } ?? ""

    static func path(_ name: String) -> String { "\(root)/\(name)" }

    /// - Returns: a copy that may be changed, in a place with the same last directory.
    static func copy(_ name: String) throws -> String {
        let directory = NSTemporaryDirectory() + "replay-\(UUID().uuidString)/" + (name as NSString).deletingLastPathComponent
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let copy = directory + "/" + (name as NSString).lastPathComponent
        try FileManager.default.copyItem(atPath: path(name), toPath: copy)
        return copy
    }

    static func replay(_ history: JournalHistory, at path: String) throws -> Replayed {
        try #require(JournaledService(of: history, at: path)).replay(history)
    }
}
