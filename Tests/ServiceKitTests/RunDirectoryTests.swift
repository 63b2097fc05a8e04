import Foundation
import Messages
import ServiceKit
import Testing

@Suite struct RunDirectoryTests {
    private let directory: ScratchDirectory
    private var run: String { directory.path + "/run" }

    init() throws {
        directory = try ScratchDirectory()
        try FileManager.default.createDirectory(atPath: directory.path + "/state", withIntermediateDirectories: true)
    }

    private func check(_ bootID: String) throws { try RunDirectory.check(run, service: "lease-service", state: directory.path + "/state", bootID: bootID) }

    private func refusal(_ bootID: String) -> RequestError? {
        do {
            try check(bootID)
            return nil
        } catch { return error as? RequestError }
    }

    @Test func withinOneBootItMustStay() throws {
        try check("boot1")
        try check("boot1")
        try FileManager.default.removeItem(atPath: run)
        let error = try #require(refusal("boot1"))
        #expect(error.code == "config.run-lost" && error.message.contains(run))
        // Whoever only makes it anew has not brought back what was in it.
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
        try Data("another".utf8).write(to: URL(fileURLWithPath: run + "/lease-service.boot"))
        #expect(refusal("boot1")?.code == "config.run-lost")
        #expect(refusal("boot2") == nil)
        #expect(refusal("boot2") == nil)
    }

    @Test func aBootMayEmptyItOrLeaveIt() throws {
        try check("boot1")
        try check("boot2")
        try FileManager.default.removeItem(atPath: run)
        try check("boot3")
        // Killed before its own mark was kept, it finds another boot again.
        try Data("killed between".utf8).write(to: URL(fileURLWithPath: run + "/lease-service.boot"))
        try check("boot4")
        try check("boot4")
    }
}
