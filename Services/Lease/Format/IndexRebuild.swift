/// Makes an index and the leases of its volume agree again: what to do with each record, decided from what was found in its slot. Nothing is read or written here.
///
/// The index is the source of truth: a readable record decides what its slot holds, and only an unreadable or unfinished one is restored from the slot.
/// The order of the writes lets a rebuild that was cut off simply be done again: first what ``writes(of:)`` says for each of the ``steps``, then ``finalWrites(time:)``.
public struct IndexRebuild: Sendable {
    /// What the first sector of a slot holds.
    public enum Found: Hashable, Sendable {
        /// No lease: no leader record's magic, the magic of a removed one, or one without a name.
        case nothing
        case lease(LeaderRecord)
        /// A leader record by its magic, and damaged: who holds it is not known.
        case unreadable(FormatError)

        public init(sector: ArraySlice<UInt8>) {
            do {
                let leader = try LeaderRecord(sector)
                self = leader.kind == .paxos && !leader.name.isEmpty ? .lease(leader) : .nothing
            } catch {
                self = error.field == .magic ? .nothing : .unreadable(error)
            }
        }
    }

    public enum Action: Hashable, Sendable {
        case keep
        /// The record names a lease that its slot does not hold: it is made anew.
        case createLease(String)
        /// The slot holds a lease of another name, lockspace or geometry than the index says: it is made anew.
        case replaceLease(String)
        /// The slot holds a lease that no record names.
        case clearLease
        /// The record is lost, its slot says which lease it was.
        case enterRecord(String)
        /// The record is lost or beyond the volume's end, and its slot holds nothing.
        case clearRecord
        /// The record is lost, and its slot tells nothing that is not elsewhere in the index.
        case clearBoth
    }

    public struct Step: Hashable, Sendable {
        public let record: Int
        public let was: IndexRecord
        public let action: Action
        /// What the action destroys although somebody may hold it: a lease that is not free, or one that cannot be read.
        /// Holders in shared mode are not in a leader record: before a slot is written, its area is read, and ``BallotBlock/sharedHolders(in:geometry:)`` must be empty.
        public let endangers: Found?

        public var overwritesLease: Bool {
            switch action {
            case .createLease, .replaceLease, .clearLease, .clearBoth: true
            case .keep, .enterRecord, .clearRecord: false
            }
        }
    }

    /// What is to be done, in the order of the records; those that stay as they are are left out.
    public private(set) var steps: [Step] = []
    /// What was left as it is because ``Step/endangers`` was not accepted.
    public private(set) var refused: [Step] = []
    /// The index as it will be.
    public private(set) var index: LeaseIndex

    /// - Parameters:
    ///   - capacity: of the volume: ``LeaseIndex/capacity(volumeSize:geometry:)``. Slots beyond are not asked for.
    ///   - found: what slot `r` (at ``LeaseIndex/leaseOffset(_:)``) holds.
    ///   - accept: whether a step that endangers something may be taken: by default none.
    public init(of index: LeaseIndex, capacity: Int, found: (Int) -> Found, accept: (Step) -> Bool = { _ in false }) {
        self.index = index
        let records = (0..<LeaseIndex.capacity).map { index.record($0) }
        // The first readable record of a name is the one that is looked up.
        var entered: [String: Int] = [:]
        for (number, record) in records.enumerated() where number < capacity {
            if case .lease(let name) = record, entered[name] == nil { entered[name] = number }
        }
        for (number, record) in records.enumerated() {
            guard number < capacity else {
                if record != .free { take(Step(record: number, was: record, action: .clearRecord, endangers: nil)) }
                continue
            }
            let slot = found(number)
            let action = Self.decide(record, slot, in: index) { name in entered[name].map { $0 != number } ?? false }
            if case .enterRecord(let name) = action { entered[name] = number }
            let step = Step(record: number, was: record, action: action, endangers: Self.endangered(by: action, slot))
            if action == .keep { continue }
            if step.endangers == nil || accept(step) { take(step) } else { refused.append(step) }
        }
    }

    /// What becomes of one record and its slot.
    static func decide(_ record: IndexRecord, _ slot: Found, in index: LeaseIndex, isElsewhere: (String) -> Bool) -> Action {
        let lease: LeaderRecord? = if case .lease(let leader) = slot, leader.lockspace == index.lockspace, leader.geometry == index.geometry { leader } else { nil }
        switch record {
        case .free:
            return slot == .nothing ? .keep : .clearLease
        // A second record of a name is never looked up.
        case .lease(let name) where isElsewhere(name):
            return slot == .nothing ? .clearRecord : .clearBoth
        case .lease(let name):
            if lease?.name == name { return .keep }
            if case .lease = slot { return .replaceLease(name) }
            return .createLease(name)
        case .unfinished, .unreadable:
            if let lease, !isElsewhere(lease.name) { return .enterRecord(lease.name) }
            return slot == .nothing ? .clearRecord : .clearBoth
        }
    }

    private static func endangered(by action: Action, _ slot: Found) -> Found? {
        switch (action, slot) {
        case (.keep, _), (.enterRecord, _), (.clearRecord, _), (_, .nothing): nil
        case (_, .lease(let leader)): leader.isFree ? nil : slot
        case (_, .unreadable): slot
        }
    }

    private mutating func take(_ step: Step) {
        steps.append(step)
        switch step.action {
        case .keep, .createLease, .replaceLease, .clearLease: break
        case .enterRecord(let name): _ = index.enter(name, at: step.record)
        case .clearRecord, .clearBoth: _ = index.remove(at: step.record)
        }
    }

    /// The writes to a step's slot: one of a whole area, or none.
    public func writes(of step: Step) -> [VolumeWrite] {
        let area: [UInt8]
        switch step.action {
        case .keep, .enterRecord, .clearRecord: return []
        case .createLease(let name), .replaceLease(let name): area = Images.resource(name, lockspace: index.lockspace, geometry: index.geometry)
        case .clearLease, .clearBoth: area = Images.blank(geometry: index.geometry)
        }
        return [VolumeWrite(offset: index.leaseOffset(step.record), bytes: area)]
    }

    /// Puts the rebuilt index in place: after the writes of every step.
    public func finalWrites(time: UInt64) -> [VolumeWrite] { index.writes(time: time) }
}
