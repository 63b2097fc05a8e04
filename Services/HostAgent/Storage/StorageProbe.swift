import Messages

/// Asks a domain whether it answers: one direct read of its metadata. Runs in a process of its own, which may hang alone.
public enum StorageProbe {
    /// - Parameter domain: uuid that must be there.
    /// - Returns: `nil` if all is well, else what is wrong.
    public static func run(path: String, domain: String) -> String? {
        let layout = DomainLayout(root: path)
        do {
            guard let metadata = DomainMetadata(text: String(decoding: try StorageFile.readDirect(layout.metadata), as: UTF8.self)) else {
                return "\(layout.metadata) is damaged"
            }
            return metadata.domain == domain ? nil : "\(path) is domain \(metadata.domain)"
        } catch {
            return error.message
        }
    }
}
