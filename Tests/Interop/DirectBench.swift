import Foundation
import Testing

/// Sizes of a volume's sectors and areas.
struct Sizes: CustomStringConvertible, Sendable {
    var sector: Int
    /// MiB
    var areas: Int
    var area: Int { areas << 20 }
    var text: String { "\(areas)M" }
    var description: String { "\(sector)/\(text)" }
}

/// A directory of volumes, and both programs that read and write them there.
final class DirectBench {
    /// Not the temporary directory: that may be a file system without direct I/O.
    let directory = "/var/tmp/bulwark-direct-\(UUID().uuidString)"
    private let scratch: String

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    init() throws {
        scratch = directory + ".out"
        for path in [directory, scratch] { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    }

    deinit { for path in [directory, scratch] { try? FileManager.default.removeItem(atPath: path) } }

    /// What `--json` tells of a record, as far as these tests ask.
    struct Record: Decodable {
        var kind: String?
        var name: String
        var status: String
        var lockspace: String?
        var offset: UInt64?
        var leaseOffset: UInt64?
        var record: Int?
        var hostID: Int?
        var magic: String?
        var checksum: String?
        var sectorSize: Int?
        var hosts: Int?
        var maximumHosts: Int?
        var ownerID: UInt64?
        var ownerGeneration: UInt64?
        var lver: UInt64?
        var timestamp: UInt64?
        var ioTimeout: Int?
        var writeID: UInt64?
        var writeGeneration: UInt64?
        var writeTimestamp: UInt64?
        var mbal: UInt64?
        var bal: UInt64?

        /// As a row of sanlock's dump, without its offset's zeros.
        var row: [String] {
            let number = { (value: UInt64?) in String(value ?? 0) }
            return [number(offset), lockspace ?? "", name, number(timestamp), number(ownerID), number(ownerGeneration)] + (kind == "lease" ? [number(lver)] : [])
        }
    }

    struct Refusal: Decodable {
        struct Reason: Decodable {
            var code: String
            var message: String
        }
        var error: Reason
    }

    // MARK: Files

    func bytes(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: "\(directory)/\(name)")) }

    /// Three areas full of a pattern.
    func guarded(_ name: String, areas: Int) throws {
        try Data(repeating: 0xA5, count: 3 * areas).write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
    }

    static func isGuard(_ bytes: Data) -> Bool { bytes == Data(repeating: 0xA5, count: bytes.count) }

    func overwrite(_ name: String, at offset: Int, with bytes: [UInt8]) throws {
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: "\(directory)/\(name)"))
        defer { try? file.close() }
        try file.seek(toOffset: UInt64(offset))
        try file.write(contentsOf: Data(bytes))
        try file.synchronize()
    }

    // MARK: bulwark

    /// A file's name after an option that takes a volume means one of this directory.
    private func placed(_ arguments: [String]) -> [String] {
        zip([""] + arguments, arguments).map { option, value in ["--path", "--ids"].contains(option) && !value.hasPrefix(":") ? "\(directory)/\(value)" : value }
    }

    private func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: Data, complaints: String) {
        let child = try Background(program, arguments, environment: [:], scratch: scratch)
        guard let status = child.wait(deadline: 60) else { throw Failure(description: "\(program) \(arguments.joined(separator: " ")) did not end") }
        return (status, child.output, child.complaints)
    }

    func status(_ arguments: [String]) throws -> Int32 { try run(InteropCluster.executables + "/bulwark", placed(arguments)).status }

    func bulwark(_ arguments: String...) throws { try bulwark(arguments) }

    @discardableResult
    func bulwark(_ arguments: [String]) throws -> Data {
        let child = try run(InteropCluster.executables + "/bulwark", placed(arguments))
        guard child.status == 0 else { throw Failure(description: "bulwark \(arguments.joined(separator: " ")) ended with \(child.status): \(child.complaints)") }
        return child.output
    }

    func json<Value: Decodable>(_ type: Value.Type, _ arguments: String...) throws -> Value { try JSONDecoder().decode(type, from: bulwark(arguments + ["--json"])) }

    func refusal(_ arguments: String...) throws -> Refusal.Reason { try refusal(arguments) }

    /// Why it was refused: exit status 1 and nothing else.
    func refusal(_ arguments: [String]) throws -> Refusal.Reason {
        let child = try run(InteropCluster.executables + "/bulwark", placed(arguments + ["--json"]))
        guard child.status == 1, let start = child.complaints.firstIndex(of: "{") else {
            throw Failure(description: "bulwark \(arguments.joined(separator: " ")) was not refused: \(child.status) \(child.complaints)")
        }
        return try JSONDecoder().decode(Refusal.self, from: Data(child.complaints[start...].utf8)).error
    }

    func dump(_ place: String, _ more: String...) throws -> [Record] {
        try JSONDecoder().decode([Record].self, from: bulwark(["lease", "dump", "--path", place, "--json"] + more))
    }

    // MARK: sanlock

    func sanlock(_ arguments: String...) throws { try sanlock(arguments) }

    /// `sanlock direct`; the file of a lockspace or resource means one of this directory.
    @discardableResult
    func sanlock(_ arguments: [String]) throws -> String {
        let places = zip([""] + arguments, arguments).map { option, value -> String in
            var parts = value.components(separatedBy: ":")
            guard ["-s", "-r", "-x"].contains(option), parts.count > 2 else { return value }
            let file = option == "-x" ? 1 : 2
            parts[file] = "\(directory)/\(parts[file])"
            return parts.joined(separator: ":")
        }
        let child = try run("/usr/sbin/sanlock", ["direct"] + places)
        let text = String(decoding: child.output, as: UTF8.self)
        guard child.status == 0, !text.contains("done -") else { throw Failure(description: "sanlock direct \(places.joined(separator: " ")): \(child.status) \(text) \(child.complaints)") }
        return text
    }

    /// `key value` lines of `read_leader`.
    func leader(_ arguments: [String]) throws -> [String: String] {
        let lines = try sanlock(["read_leader"] + arguments).split(separator: "\n").map { $0.split(separator: " ", maxSplits: 1).map(String.init) }
        return Dictionary(lines.map { ($0[0], $0.count > 1 ? $0[1] : "") }) { $1 }
    }

    /// The rows of sanlock's dump, numbers without leading zeros.
    func sanlockDump(_ place: String) throws -> [[String]] {
        let child = try run("/usr/sbin/sanlock", ["direct", "dump", "\(directory)/\(place)"])
        return String(decoding: child.output, as: UTF8.self).split(separator: "\n").dropFirst().map { line in
            line.split(separator: " ").map { cell in UInt64(cell).map(String.init) ?? String(cell) }
        }
    }
}
