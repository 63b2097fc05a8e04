public import Messages

/// A domain in a directory that all hosts see, as it is created.
///
/// ``prepare()`` makes everything but lease volumes and metadata; the lease volumes are lease-service's; ``publish()`` writes the metadata, which says that the domain is whole.
/// Each step can be done again: a creation that was cut off is resumed by the same request. Blocking.
public struct FileDomain: Sendable {
    public var create: StorageCreate
    private static let mailboxSize = 16 << 20

    public init(_ create: StorageCreate) { self.create = create }

    public enum Found: Hashable, Sendable { case nothing, thisOne }

    private var layout: DomainLayout { DomainLayout(root: create.path) }

    /// - Returns: ``Found/thisOne`` if the domain is there already, as a whole.
    /// - Throws: `object.exists` if another domain, or something unreadable, has its place; `storage.failed`.
    public func prepare() throws(RequestError) -> Found {
        if StorageFile.exists(layout.metadata) {
            guard let there = DomainMetadata(text: String(decoding: try StorageFile.readDirect(layout.metadata), as: UTF8.self)) else {
                throw RequestError(RequestErrorCode.exists, "\(layout.metadata) is there but cannot be read as a domain's metadata; look at it before using another directory")
            }
            guard there.domain == create.domain else {
                throw RequestError(RequestErrorCode.exists, "\(create.path) already is domain \(there.domain)")
            }
            return .thisOne
        }
        try StorageFile.makeDirectories("\(create.path)/dom_md")
        try StorageFile.makeDirectory(layout.images)
        for mailbox in [layout.inbox, layout.outbox] { try StorageFile.makeFile(mailbox, size: Self.mailboxSize) }
        try StorageFile.syncDirectory(create.path)
        return .nothing
    }

    public func publish() throws(RequestError) {
        try StorageFile.write(DomainMetadata(domain: create.domain, name: create.name, path: create.path).text, to: layout.metadata)
        try StorageFile.syncDirectory("\(create.path)/dom_md")
    }
}
