import Foundation
import Testing

/// Files that real sanlock wrote.
enum Fixtures {
    static func load(_ name: String) throws -> [UInt8] {
        let file = try #require(Bundle.module.url(forResource: name, withExtension: "gz", subdirectory: "Fixtures"))
        return [UInt8](try run("/usr/bin/gzip", ["-dc", file.path]))
    }

    /// Where two volumes differ first, instead of megabytes of both; `nil`: nowhere.
    static func difference(_ one: [UInt8], _ other: [UInt8]) -> Int? {
        one == other ? nil : zip(one, other).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(one.count, other.count)
    }

    /// Standard output of a program that must succeed.
    static func run(_ program: String, _ arguments: [String]) throws -> Data {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardOutput = output
        try process.run()
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(program) \(arguments)")
        return data
    }
}
