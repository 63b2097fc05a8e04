import LeaseFormat
import Messages

/// A new lease: its area first, then its record.
struct CreateWork: Sendable {
    enum Phase: Sendable { case queued, readingIndex, looking(LeaseIndex, Int), writingResource(LeaseIndex, Int), writingRecord(Int) }
    let id: RequestID
    let name: LeaseName
    let lver: UInt64
    var phase = Phase.queued
    /// Slots without a record that hold a lease which somebody may use.
    var passed: Set<Int> = []
}

/// A lease is taken, its record cleared, its slot blanked (S5).
struct RemoveWork: Sendable {
    enum Phase: Sendable {
        case queued, readingIndex
        /// What must be given back after a crash is being made durable.
        case intending
        case acquiring(Acquisition)
        case writingRecord, blanking
    }
    let id: RequestID
    let name: LeaseName
    let lver: UInt64
    var phase = Phase.queued
    var index: LeaseIndex?
    var slot = 0
    /// Something of the ballot was written, or may have been.
    var hasTouched = false

    var holder: Holder { Holder(role: .spm, name: "remove-\(name.lockspace)-\(name.resource)", attempt: lver) }
}

/// Index and leases are compared, then made to agree.
struct RebuildWork: Sendable {
    enum Phase: Sendable { case queued, readingIndex, readingSlots, looking, writing }
    let id: RequestID
    let lockspace: String
    let lver: UInt64
    /// Wall-clock seconds for people, written to the index.
    let time: UInt64
    var phase = Phase.queued
    var index: LeaseIndex?
    /// It was not usable as it was.
    var isDamaged = false
    var found: [IndexRebuild.Found] = []
    /// Slots whose lease would be overwritten: who may use it is still to be looked at.
    var doubtful: [Int] = []
    /// Slots that must stay, and why.
    var inUse: [Int: String] = [:]
    var report = IndexRebuildReport(lockspace: "", leases: 0, steps: [], refused: [])
    /// What remains to be written, in order; of which lease, if of one.
    var writes: [(write: VolumeWrite, resource: String)] = []
}

extension Job {
    /// Which lockspace's index it changes.
    var changedIndex: String? {
        switch work {
        case .create(let work): work.name.lockspace
        case .remove(let work): work.name.lockspace
        case .rebuild(let work): work.lockspace
        default: nil
        }
    }
}
