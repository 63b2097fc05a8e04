/// What sanlock writes when a lockspace or a resource is made, byte for byte.
public enum Images {
    /// A whole lockspace area. Written in two steps: first with ``uncommitted`` sector 0, then sector 0 alone, so that a torn initialisation is no lockspace.
    public static func lockspace(_ name: String, ioTimeout: UInt16, geometry: Geometry = .standard) -> [UInt8] {
        let sector = LeaderRecord(lockspace: name, ioTimeout: ioTimeout, geometry: geometry).sector
        var image = [UInt8]()
        image.reserveCapacity(geometry.alignment)
        for _ in 0..<geometry.maximumHosts { image += sector }
        image += [UInt8](repeating: 0, count: geometry.alignment - image.count)
        return image
    }

    /// The lockspace area with the magic of its first sector zero: not yet a lockspace.
    public static func uncommitted(lockspace name: String, ioTimeout: UInt16, geometry: Geometry = .standard) -> [UInt8] {
        var image = lockspace(name, ioTimeout: ioTimeout, geometry: geometry)
        image.put(UInt32(0), at: 0)
        return image
    }

    /// A whole lease area of a free resource.
    public static func resource(_ name: String, lockspace: String, hosts: UInt64? = nil, geometry: Geometry = .standard) -> [UInt8] {
        let head = LeaderRecord(lockspace: lockspace, resource: name, hosts: hosts, geometry: geometry).sector + RequestRecord().sector(geometry)
        var image = [UInt8](repeating: 0, count: geometry.alignment)
        image.replaceSubrange(..<head.count, with: head)
        return image
    }

    /// The lease area of a resource that oVirt removed: one without names, which nobody can acquire.
    public static func blank(geometry: Geometry = .standard) -> [UInt8] { resource("", lockspace: "", geometry: geometry) }

    /// The lease area of a resource that sanlock removed: as a free one, with a magic of its own and the time of the writer's clock.
    public static func cleared(_ name: String, lockspace: String, hosts: UInt64? = nil, time: UInt64, geometry: Geometry = .standard) -> [UInt8] {
        var image = resource(name, lockspace: lockspace, hosts: hosts, geometry: geometry)
        var leader = LeaderRecord(lockspace: lockspace, resource: name, hosts: hosts, geometry: geometry)
        leader.kind = .cleared
        leader.writeTimestamp = time
        image.replaceSubrange(..<geometry.sectorSize, with: leader.sector)
        return image
    }
}
