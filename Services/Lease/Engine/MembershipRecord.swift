/// What must survive the process about this host's place in one lockspace.
public struct MembershipRecord: Codable, Hashable, Sendable {
    public var lockspace: String
    /// The domain's directory.
    public var path: String
    /// The machine and the boot that the generation belongs to.
    public var hardwareID: String
    public var bootID: String
    /// The last generation that was written and verified; 0 for none.
    public var generation: UInt64 = 0
    /// A generation that is about to be written, or was, when nothing verified it.
    public var intended: UInt64?
    /// What the own sector said before this boot's first write.
    public var generationBefore: UInt64?
    /// Joined until a `lockspace.leave`, whatever happens in between.
    public var wanted = true
    /// A sanlock daemon wrote the generation: the native engine does not go on with it, nor the other way round.
    var isOfDaemon: Bool?
}
