extension IndexRebuild.Action {
    /// The lease that it makes anew or enters.
    public var lease: String? {
        switch self {
        case .createLease(let name), .replaceLease(let name), .enterRecord(let name): name
        case .keep, .clearLease, .clearRecord, .clearBoth: nil
        }
    }
}

extension IndexRebuild.Step {
    /// For people: the caller adds which record.
    public var sentence: String {
        switch action {
        case .keep: "kept"
        case .createLease(let name): "lease \(name) is made anew: its slot held none"
        case .replaceLease(let name): "lease \(name) is made anew: its slot held another one"
        case .clearLease: "the lease in its slot is removed: no record names it"
        case .enterRecord(let name): "lease \(name) is entered: its slot holds it"
        case .clearRecord: "cleared: its slot holds no lease"
        case .clearBoth: "cleared, and the lease in its slot"
        }
    }
}
