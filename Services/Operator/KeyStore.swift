import Bus
import Foundation
import Messages
import ServiceKit

/// The key files of a cluster and its allow-list.
struct KeyStore {
    let file: ClusterFile

    /// Makes a key pair unless one of that name is there, and lets it in.
    /// - Returns: whether anything was made.
    func ensure(_ name: String, role: Role, host: String?) throws -> Bool {
        try FileManager.default.createDirectory(atPath: file.keys, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let path = file.keyPath(name)
        let key: KeyFile
        var made = false
        if Files.exists(path) {
            key = try KeyFile.load(path)
        } else {
            key = try KeyFile.generate(name: name, role: role, host: host)
            try key.save(path)
            made = true
        }
        var allow = try allowList()
        guard !allow.entries.contains(key.entry) else { return made }
        allow.entries.append(key.entry)
        try allow.save(file.allowListPath)
        return true
    }

    func allowList() throws -> AllowList {
        Files.exists(file.allowListPath) ? try AllowList.load(file.allowListPath) : AllowList(entries: [])
    }
}
