import LeaseFormat
public import Messages

/// The I/O of a ballot, or of giving a lease back, on one lease's area: from one step of its machine to the first that is no I/O. A lane does all of it in one turn,
/// so that a thread switch lies only before the first I/O and behind the last.
///
/// Whoever performs it asks before each further I/O whether the lane is still its own, and stops if not: what is reported as timed out is not gone on with.
public struct VolumeSequence: Hashable, Codable, Sendable {
    /// How it ended.
    enum End: Hashable, Codable, Sendable {
        /// Not a read or write.
        case acquisition(Acquisition.Step)
        case retraction(String)
        /// The first answer came too late to go on.
        case late
        /// The index does not name the lease where it was found before.
        case moved
        case failed(RequestError)
    }

    /// What is done, by machines that know offsets within a lease's area only.
    fileprivate enum Step {
        case read(offset: Int, length: Int)
        case readOwner(Int)
        case write(offset: Int, [UInt8])
        case end(End)
    }

    let lease: LeaseName
    /// Where the lease's area begins.
    let path: String
    let base: UInt64
    /// The lockspace, for the sectors of owners.
    let ids: String
    let geometry: Geometry
    /// No write begins later: the deadline of the membership when this began.
    let notAfter: Instant
    /// An answer to the first I/O after this time ends it, with nothing written.
    let promptUntil: Instant?
    /// One of the two.
    private(set) var acquisition: Acquisition?
    private var retraction: Retraction?
    /// A write was submitted: something of ours may be on disk.
    private(set) var hasWritten = false
    private(set) var end: End?
    /// The lease's record, until the index has confirmed that it still names it, and what was read of the index for that.
    private var unconfirmed: Int?
    private var indexReads: [[UInt8]] = []
    /// The first I/O; `nil`: there is nothing to do.
    public private(set) var begin: VolumeOperation?
    private var hasBegun = false

    /// - Parameter place: the record where the lease was found before: the index is asked first whether it still names it.
    init(
        _ acquisition: Acquisition, _ step: Acquisition.Step, of lease: LeaseName, place: Int? = nil, path: String, base: UInt64, layout: DomainLayout, notAfter: Instant
    ) {
        var acquisition = acquisition
        acquisition.place = Acquisition.Place(path: path, base: base, ids: layout.ids)
        self.init(acquisition, nil, Step(step), lease, path, base, layout, acquisition.geometry, notAfter, nil)
        unconfirmed = place
        if let place { begin = readIndex(place) }
    }

    init(
        _ retraction: Retraction, _ step: Retraction.Step, of lease: LeaseName, path: String, base: UInt64, layout: DomainLayout, notAfter: Instant, promptUntil: Instant?
    ) {
        self.init(nil, retraction, Step(step), lease, path, base, layout, retraction.geometry, notAfter, promptUntil)
    }

    private init(
        _ acquisition: Acquisition?, _ retraction: Retraction?, _ step: Step, _ lease: LeaseName, _ path: String, _ base: UInt64, _ layout: DomainLayout, _ geometry: Geometry, _ notAfter: Instant,
        _ promptUntil: Instant?
    ) {
        self.acquisition = acquisition
        self.retraction = retraction
        self.lease = lease
        self.path = path
        self.base = base
        self.ids = layout.ids
        self.geometry = geometry
        self.notAfter = notAfter
        self.promptUntil = promptUntil
        begin = take(step)
    }

    /// The I/O that follows on the result of the one before; `nil`: it has ended.
    public mutating func next(_ result: IOResult, at now: Instant) -> VolumeOperation? {
        if !hasBegun, let promptUntil, now > promptUntil, case .data = result { return take(.end(.late)) }
        hasBegun = true
        if let place = unconfirmed { return confirm(place, result) }
        return take(step(after: result, at: now) ?? .end(.failed(Membership.error(result, "read or write lease \(lease.resource)"))))
    }

    private func readIndex(_ place: Int) -> VolumeOperation {
        let (offset, length) = LeaseIndex.confirmation(of: place, geometry: geometry)[indexReads.count]
        return .read(path: path, offset: offset, length: length)
    }

    private mutating func confirm(_ place: Int, _ result: IOResult) -> VolumeOperation? {
        guard case .data(let bytes) = result else { return take(.end(.failed(Membership.error(result, "read the lease index of \(lease.lockspace)")))) }
        indexReads.append(bytes)
        if indexReads.count < LeaseIndex.confirmation(of: place, geometry: geometry).count { return readIndex(place) }
        guard LeaseIndex.confirms(indexReads, lease: lease.resource, at: place, of: lease.lockspace, geometry: geometry), let step = acquisition?.begin() else {
            return take(.end(.moved))
        }
        unconfirmed = nil
        indexReads = []
        return take(Step(step))
    }

    private mutating func step(after result: IOResult, at now: Instant) -> Step? {
        switch result {
        case .data(let bytes): acquisition?.onRead(bytes, at: now).sequenceStep ?? retraction?.onRead(bytes, at: now).sequenceStep
        case .written: acquisition?.onWritten(at: now).sequenceStep ?? retraction?.onWritten().sequenceStep
        default: nil
        }
    }

    private mutating func take(_ step: Step) -> VolumeOperation? {
        switch step {
        case .read(let offset, let length): return .read(path: path, offset: base + UInt64(offset), length: length)
        case .readOwner(let host): return .read(path: ids, offset: geometry.deltaOffset(host: host), length: geometry.sectorSize)
        case .write(let offset, let bytes):
            hasWritten = true
            return .write(path: path, offset: base + UInt64(offset), bytes: bytes, notAfter: notAfter, create: false)
        case .end(let end):
            self.end = end
            return nil
        }
    }
}

extension Acquisition.Step {
    fileprivate var sequenceStep: VolumeSequence.Step { VolumeSequence.Step(self) }
}

extension Retraction.Step {
    fileprivate var sequenceStep: VolumeSequence.Step { VolumeSequence.Step(self) }
}

extension VolumeSequence.Step {
    fileprivate init(_ step: Acquisition.Step) {
        self =
            switch step {
            case .read(let offset, let length): .read(offset: offset, length: length)
            case .readOwner(let host): .readOwner(host)
            case .write(let offset, let bytes): .write(offset: offset, bytes)
            case .pause, .won, .refused: .end(.acquisition(step))
            }
    }

    fileprivate init(_ step: Retraction.Step) {
        self =
            switch step {
            case .read(let offset, let length): .read(offset: offset, length: length)
            case .write(let offset, let bytes): .write(offset: offset, bytes)
            case .done(let what): .end(.retraction(what))
            }
    }
}
