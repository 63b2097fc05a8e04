/// Where things are in a storage domain (an oVirt V5 file domain): paths relative to a directory `<shared>/<domain uuid>`.
public struct DomainLayout: Hashable, Sendable {
    /// The domain's own directory.
    public var root: String
    public init(root: String) { self.root = root }

    /// Host ids: the lockspace, named by the domain's uuid.
    public var ids: String { "\(root)/dom_md/ids" }
    /// Reserved leases; SDM is slot 1.
    public var leases: String { "\(root)/dom_md/leases" }
    /// Disk leases, found through the index.
    public var xleases: String { "\(root)/dom_md/xleases" }
    public var metadata: String { "\(root)/dom_md/metadata" }
    public var inbox: String { "\(root)/dom_md/inbox" }
    public var outbox: String { "\(root)/dom_md/outbox" }
    public var images: String { "\(root)/images" }
    public func image(_ uuid: String) -> String { "\(images)/\(uuid)" }
    /// The only volume of a disk so far: named like its image.
    public func volume(image uuid: String) -> String { "\(images)/\(uuid)/\(uuid)" }

    /// The lease of the SPM role.
    public static let sdm = "SDM"
}
