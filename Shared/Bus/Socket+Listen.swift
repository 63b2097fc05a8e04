import Messages

extension Socket {
    /// Binds a server's socket with the security that its endpoint needs; returns its ZAP domain if it has CURVE.
    @ReactorActor
    func listen(_ endpoint: Endpoint, _ security: BusSecurity?) throws -> String? {
        guard endpoint.isNetwork else {
            try bind(endpoint, keys: nil, domain: nil)
            return nil
        }
        guard let security else {
            guard endpoint.isLocal else {
                throw RequestError(RequestErrorCode.invalid, "\(endpoint.address) is reachable from other machines and has no keys: give it keys, or use ipc:// or loopback")
            }
            try bind(endpoint, keys: nil, domain: nil)
            return nil
        }
        let domain = try Authenticator.shared.open(security.allow)
        do {
            try bind(endpoint, keys: security.keys, domain: domain)
        } catch {
            Authenticator.shared.close(domain)
            throw error
        }
        return domain
    }
}
