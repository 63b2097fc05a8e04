public import Messages

/// A new volume, made by the SPM's worker under a name of its own and published in one step (S12).
///
/// The name carries task and lease version: what an older SPM left is never continued, only thrown away. Publishing never replaces a volume: a deposed worker that wakes late harms nothing.
public struct VolumeBuild: Hashable, Sendable {
    public var task: String
    public var lver: UInt64
    /// The domain's directory.
    public var domain: String
    public var image: String
    /// Bytes.
    public var size: UInt64
    /// File whose bytes it begins with.
    public var source: String?

    public init(task: String, lver: UInt64, domain: String, image: String, size: UInt64, source: String?) {
        self.task = task
        self.lver = lver
        self.domain = domain
        self.image = image
        self.size = size
        self.source = source
    }
}

/// What became of the making of a volume's bytes.
public enum VolumeBuildOutcome: Hashable, Sendable {
    /// They are durable under its temporary name.
    case built
    /// A volume has the name already, from before or since.
    case isPublished
    case failed(RequestError)
}

/// A task as the agent hands it to the SPM's worker: body of `task.run` between the two.
public struct WorkerTask: Codable, Hashable, Sendable {
    public var task: TaskRun
    /// Where the domain of a new volume is on this host.
    public var path: String?
    public init(task: TaskRun, path: String?) {
        self.task = task
        self.path = path
    }
}
