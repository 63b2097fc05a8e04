import Messages

/// Making a new domain on storage.
extension DomainMonitor {
    mutating func onCreate(_ id: RequestID, _ request: DomainCreate, _ effects: inout [Effect<DomainAction>]) {
        if let error = refusal(of: request) {
            effects.append(.reply(to: id, .refused(error)))
        } else if let domain = domains[request.domain] {
            if domain.creation == nil {
                effects.append(.reply(to: id, .success(domain.view)))
            } else if domain.creation?.requests.contains(id) == false {
                domains[request.domain]?.creation?.requests.append(id)
            }
        } else {
            let domain = Domain(request, id, number: nextCreation)
            nextCreation += 1
            domains[domain.uuid] = domain
            effects.append(.publish(Event("domain.status", subject: domain.uuid, body: domain.view)))
        }
    }

    private func refusal(of request: DomainCreate) -> RequestError? {
        let isUUID = request.domain.count == 36 && request.domain.allSatisfy { $0 == "-" || ("0"..."9").contains($0) || ("a"..."f").contains($0) }
        if !isUUID { return RequestError(RequestErrorCode.invalid, "domain: \"\(request.domain)\" is not a lower-case uuid") }
        if !request.directory.hasPrefix("/") { return RequestError(RequestErrorCode.invalid, "directory: \"\(request.directory)\" is not an absolute path") }
        if request.name.isEmpty { return RequestError(RequestErrorCode.invalid, "name: must not be empty") }
        if !(1...255).contains(request.ioTimeout) { return RequestError(RequestErrorCode.invalid, "ioTimeout: \(request.ioTimeout) is not within 1...255 s") }
        if let domain = domains[request.domain], domain.path != Domain.path(of: request) {
            return RequestError(DomainErrorCode.exists, "domain \(request.domain) exists at \(domain.path)")
        }
        if let other = domain(named: request.name), other.uuid != request.domain {
            return RequestError(DomainErrorCode.exists, "the name \(request.name) belongs to domain \(other.uuid)")
        }
        return nil
    }

    /// Sends what is due: to the host that was asked before, or to the first Up host.
    mutating func make(_ uuid: String, at now: Instant, _ effects: inout [Effect<DomainAction>]) {
        guard fresh, let domain = domains[uuid], var creation = domain.creation, !creation.inFlight, (creation.retryAt ?? now) <= now else { return }
        let asked = creation.host.flatMap { hosts[$0] }
        if let asked, let over = asked.overThrough, creation.incarnation <= over { creation.host = nil }
        if creation.host != nil {
            guard let asked, asked.status == .up, asked.bootID == creation.bootID else {
                domains[uuid]?.creation?.retryAt = now + policy.retry
                domains[uuid]?.reason = "\(creation.host ?? "") was asked to make it and does not answer; waits until it does or is proven over"
                return
            }
        } else {
            let candidates = hosts.values.filter { $0.status == .up && $0.bootID != nil && creation.refusals[$0.name] == nil }
            guard let host = candidates.min(by: { $0.name < $1.name }), let bootID = host.bootID else {
                let refusals = creation.refusals.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "; ")
                return fail(domain, DomainErrorCode.noHost, refusals.isEmpty ? "no host is Up to make it" : "no other host is Up to make it (\(refusals))", &effects)
            }
            creation.host = host.name
            creation.incarnation = host.incarnation
            creation.bootID = bootID
            effects.append(.decide(Decision("domain/\(uuid)", "made by \(host.name)", why: "requested; it is Up", see: ["host/\(host.name)"])))
        }
        creation.inFlight = true
        creation.retryAt = nil
        domains[uuid]?.creation = creation
        domains[uuid]?.reason = "\(creation.host ?? "") makes it"
        effects.append(
            .perform(
                .create(
                    CreateAsk(domain: uuid, number: creation.number, host: creation.host ?? "", bootID: creation.bootID),
                    StorageCreate(domain: uuid, path: domain.path, name: domain.name, ioTimeout: domain.ioTimeout))))
    }

    mutating func onCreated(_ ask: CreateAsk, _ answer: Answer, at now: Instant, _ effects: inout [Effect<DomainAction>]) {
        guard let domain = domains[ask.domain], let creation = domain.creation, creation.number == ask.number, creation.host == ask.host else { return }
        domains[ask.domain]?.creation?.inFlight = false
        switch answer {
        case .done:
            domains[ask.domain]?.creation = nil
            domains[ask.domain]?.status = .activating
            domains[ask.domain]?.reason = "made by \(ask.host); waits for the first good report"
            effects.append(.decide(Decision("domain/\(ask.domain)", "created", why: "\(ask.host) made it at \(domain.path)", see: ["host/\(ask.host)"])))
            show(ask.domain, &effects)
            guard let view = domains[ask.domain]?.view else { return }
            effects += creation.requests.map { .reply(to: $0, .success(view)) }
        case .refused(let error) where error.code == RequestErrorCode.wrongTarget.rawValue:
            domains[ask.domain]?.creation?.retryAt = now + policy.retry  // its other life may have done it, or may still
        case .refused(let error) where isItsOwn(error):
            domains[ask.domain]?.creation?.host = nil
            domains[ask.domain]?.creation?.refusals[ask.host] = error.message
        case .refused(let error):
            fail(domain, DomainErrorCode.createFailed, "\(ask.host): \(error)", &effects)
        case .unanswered:
            domains[ask.domain]?.creation?.retryAt = now + policy.retry
        }
    }

    /// Whether the refusal says something about the host and nothing about the domain.
    private func isItsOwn(_ error: RequestError) -> Bool {
        [
            RequestErrorCode.timeout.rawValue, RequestErrorCode.journalFull.rawValue, RequestErrorCode.managerForeign.rawValue, RequestErrorCode.forbidden.rawValue,
        ].contains(error.code)
    }

    private mutating func fail(_ domain: Domain, _ code: DomainErrorCode, _ why: String, _ effects: inout [Effect<DomainAction>]) {
        domains[domain.uuid] = nil
        effects.append(.decide(Decision("domain/\(domain.uuid)", "not created", why: why)))
        let error = RequestError(code, "domain \(domain.name) was not created: \(why)")
        effects += (domain.creation?.requests ?? []).map { .reply(to: $0, .refused(error)) }
        var gone = domain.view
        gone.status = .unknown
        gone.reason = error.message
        effects.append(.publish(Event("domain.status", subject: domain.uuid, body: gone)))
    }
}
