/// What is broken in one step. Drawn from the seed: the same seed breaks the same things, as far as the cluster lets it.
struct Fault: Sendable {
    enum Kind: String, CaseIterable, Sendable {
        case crash = "crash"
        case crashOfSPM = "crash of the SPM host"
        case crashAmongKills = "crash among kill -9"
        case crashWithoutManager = "crash, manager dead"
        case reboot = "quick reboot"
        case hang = "hang, thaw"
        case cut = "network cut"
        case stuckBMC = "stuck BMC"
        case storage = "storage cut"
        case kills = "kill -9 only"

        /// How often, of the sum of all.
        var weight: UInt64 {
            switch self {
            case .crash, .crashOfSPM, .hang, .cut: 3
            case .crashAmongKills: 5
            case .crashWithoutManager, .reboot, .stuckBMC, .storage: 2
            case .kills: 1
            }
        }

        /// The host is certain to boot again.
        var endsAHost: Bool {
            switch self {
            case .crash, .crashOfSPM, .crashAmongKills, .crashWithoutManager, .reboot: true
            case .hang, .cut, .stuckBMC, .storage, .kills: false
            }
        }
    }

    /// One process to kill.
    struct Kill: Sendable {
        /// Seconds after the step began.
        var at: Double
        /// Which, of those that run then.
        var pick: UInt64
    }

    var kind: Kind
    /// Which host, of those that run a VM.
    var victim: UInt64
    /// 0..<1: when in its span the second half happens, such as the thaw.
    var moment: Double
    var kills: [Kill]
    /// Which of the kind's ways.
    var way: UInt64
}

/// SplitMix64: the same faults from the same seed, everywhere and always.
struct FaultSource: Sendable {
    private var state: UInt64
    private let hasStorageFaults: Bool

    init(seed: UInt64, hasStorageFaults: Bool) {
        state = seed
        self.hasStorageFaults = hasStorageFaults
    }

    mutating func next() -> Fault {
        let kinds = Fault.Kind.allCases.filter { hasStorageFaults || $0 != .storage }
        var rest = draw() % kinds.map(\.weight).reduce(0, +)
        let kind = kinds.first { kind in
            defer { rest = rest &- kind.weight }
            return rest < kind.weight
        }
        let kills = (0...(draw() % 4)).map { _ in Fault.Kill(at: share() * 9, pick: draw()) }
        return Fault(kind: kind ?? .crash, victim: draw(), moment: share(), kills: kills, way: draw())
    }

    private mutating func share() -> Double { Double(draw() >> 11) / Double(1 << 53) }

    private mutating func draw() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
