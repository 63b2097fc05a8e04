extension VolumeWrite {
    /// A whole lease area in two writes, its leader last: before it there is no lease, so old blocks never meet a new leader, wherever it stops.
    public func leaderLast(_ geometry: Geometry) -> [VolumeWrite] {
        var headless = bytes
        for index in 0..<geometry.sectorSize { headless[index] = 0 }
        return [VolumeWrite(offset: offset, bytes: headless), VolumeWrite(offset: offset, bytes: Array(bytes.prefix(geometry.sectorSize)))]
    }
}

extension LeaseIndex {
    /// As ``writes(time:)``, for a volume that has an index already: that one is marked first, for the sectors of a whole that is cut off may land in any order.
    public func replacing(time: UInt64) -> [VolumeWrite] {
        let writes = writes(time: time)
        return writes.prefix(1).map { VolumeWrite(offset: $0.offset, bytes: Array($0.bytes.prefix(geometry.sectorSize))) } + writes
    }
}
