/// A host's free memory as it is told on: to within a sixteenth (at least 64 MiB), so that its usual movement is no news.
enum FreeMemory {
    /// In MiB, whatever number a heartbeat gives.
    static func bounded(_ told: Int) -> Int { min(max(0, told), 1 << 40) }

    static func isNews(_ told: Int, after known: Int?) -> Bool {
        guard let known = known.map(bounded) else { return true }
        return abs(bounded(told) - known) >= max(64, known / 16)
    }
}
