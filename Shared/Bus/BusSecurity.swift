/// What a process needs for CURVE: its own keys and whom it admits.
public struct BusSecurity: Sendable {
    public var keys: KeyFile
    public var allow: AllowList

    public init(keys: KeyFile, allow: AllowList) {
        self.keys = keys
        self.allow = allow
    }
}
