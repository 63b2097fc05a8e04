import FencingAgents
import Foundation
import Messages

/// Checks the fence devices of a host's definition against what their agents say of their own options.
enum FenceDefinitionCheck {
    /// - Parameter directory: where the fence agents are on this machine.
    /// - Returns: what could not be checked here, one sentence each.
    /// - Throws: `RequestError` `request.invalid` that names every mistake.
    static func check(_ definition: HostDefinition, directory: String = "/usr/sbin") throws -> [String] {
        var (problems, unchecked): ([String], [String]) = ([], [])
        for device in definition.fence {
            switch FenceMetadata.ask(device.agent, directory: directory) {
            case .notInstalled where device.via == .hosts: unchecked.append("\(device.agent) is not installed here (\(directory)): its options were not checked")
            case .metadata(let metadata): problems += metadata.problems(with: device).map { "the device at \(device.address): \($0)" }
            case .notInstalled: unchecked.append("\(device.agent) is not installed here (\(directory)): its options were not checked; fencing-service checks them, see its health")
            case .unreadable(let why): problems.append(why)
            }
        }
        guard problems.isEmpty else { throw RequestError(RequestErrorCode.invalid, "the fence devices of \(definition.name): \(problems.joined(separator: "; "))") }
        return unchecked
    }

    /// As ``check(_:directory:)``; what could not be checked is told on stderr.
    static func tell(_ definition: HostDefinition) throws {
        for sentence in try check(definition) { FileHandle.standardError.write(Data("\(sentence)\n".utf8)) }
    }
}
