import Messages

/// The host registry: who may be a host, and who may not any more (S20).
extension FencingEngine {
    mutating func onHostAdd(_ id: RequestID, _ definition: HostDefinition) {
        let name = definition.name
        if let host = hosts[name] {
            guard host.definition == definition else {
                return refuse(id, RequestErrorCode.exists, "host \(name) exists with other properties; change them with host update")
            }
            return reply(id, .success(view(of: name)))
        }
        if let problem = problem(with: definition) { return refuse(id, RequestErrorCode.invalid, problem) }
        for other in hosts.values.sorted(by: { $0.name < $1.name }) {
            if other.definition.id == definition.id { return refuse(id, RequestErrorCode.exists, "host id \(definition.id) is \(other.name)'s") }
            if let key = definition.key, other.definition.key == key { return refuse(id, RequestErrorCode.exists, "this key is \(other.name)'s") }
        }
        for tomb in tombstones {
            if let key = definition.key, tomb.key == key {
                return refuse(id, RequestErrorCode.conflict, "this key belonged to the forgotten host \(tomb.name): reinstall it and enrol it with a new key")
            }
            // Incarnations go on under a name: what is proven of the new machine would cover the old one's lives.
            if tomb.name == name, !tomb.proven {
                return refuse(
                    id, RequestErrorCode.conflict,
                    "\(name) was the name of a forgotten host whose last life is not proven over: use another name; a host that is proven off before it is forgotten leaves its name free")
            }
            if tomb.id == definition.id, !tomb.proven {
                return refuse(id, RequestErrorCode.conflict, "host id \(tomb.id) was the forgotten \(tomb.name)'s, whose last life is not proven over: use another id")
            }
        }
        var host = HostRecord(definition: definition)
        for tomb in tombstones where tomb.name == name {
            host.incarnation = max(host.incarnation, tomb.incarnation)
            host.refusedBoots += tomb.boots
            host.counter = max(host.counter, tomb.counter ?? 0)
        }
        host.baseIncarnation = host.incarnation
        hosts[name] = host
        publish("host.registered", name, view(of: name))
        decide(name, "registered", why: "host.add, host id \(definition.id)")
        watch(name)
        reply(id, .success(view(of: name)))
    }

    mutating func onHostUpdate(_ id: RequestID, _ definition: HostDefinition) {
        guard let host = known(id, definition.name) else { return }
        guard host.definition.id == definition.id else {
            return refuse(id, RequestErrorCode.conflict, "a host id is for life: forget \(definition.name) and add it anew")
        }
        if let problem = problem(with: definition) { return refuse(id, RequestErrorCode.invalid, problem) }
        let deviceChanged = host.definition.fence != definition.fence
        if deviceChanged, host.run != nil || host.unresolved != nil {
            return refuse(id, FencingErrorCode.busy, "a power command of \(definition.name) has not been resolved; its fence device cannot change now")
        }
        update(definition.name) {
            if $0.definition.kdumpAddresses != definition.kdumpAddresses { $0.dump = nil }
            $0.definition = definition
            if deviceChanged {
                $0.device = .unknown
                $0.otherDevices = nil
                $0.reads = nil
                $0.level = nil
                $0.identifyAt = nil
                $0.power = .unknown
            }
        }
        watch(definition.name)
        if deviceChanged, hosts[definition.name]?.fenceCase?.step == .failed { checkPower(definition.name) }
        reply(id, .success(view(of: definition.name)))
    }

    /// A name is for life, unless its machine was installed anew.
    mutating func onHostEnrol(_ id: RequestID, _ add: HostAdd) {
        let name = add.definition.name
        if hosts[name] == nil, add.reinstalled != true, tombstones.contains(where: { $0.name == name }) {
            return refuse(
                id, RequestErrorCode.conflict,
                "\(name) was forgotten, and what it was may still be on its disks: install the machine anew, give it new keys, and add it with --reinstalled; or use another name")
        }
        onHostAdd(id, add.definition)
    }

    mutating func onHostForget(_ id: RequestID, _ request: HostForget) {
        guard let host = known(id, request.host) else { return }
        if host.command?.verb == .rehearse { cutShortRehearsal(of: host.name, "host forget was asked for") }
        guard host.run?.action.isDestructive != true, host.unresolved == nil, host.command == nil else {
            return refuse(id, FencingErrorCode.busy, "a power command of \(host.name) has not been resolved")
        }
        guard host.maintenance || !host.hasLife || host.isProvenDead else { return confirmAndForget(id, host, request) }
        guard host.run == nil else { return refuse(id, FencingErrorCode.busy, "a fence agent reads the power of \(host.name); ask again when it has ended") }
        forget(host, request.reason ?? "host.forget")
        reply(id, .done)
    }

    mutating func forget(_ host: HostRecord, _ why: String) {
        closeCase(host.name, "\(host.name) was forgotten")
        tombstones.append(
            Tombstone(
                name: host.name, id: host.definition.id, key: host.definition.key, hardwareID: host.hardwareID, incarnation: host.incarnation,
                boots: host.lives.map(\.bootID) + host.refusedBoots, proven: !host.hasLife || host.isProvenDead, counter: policy.rules < 1 ? nil : host.counter))
        perform(.unwatch(host.name))
        publish("host.removed", host.name, view(of: host.name))
        decide(host.name, "forgotten", why: why)
        hosts[host.name] = nil
        census = takeCensus()
        if ha.revoked.removeValue(forKey: host.name) != nil || ha.conflicts.removeValue(forKey: host.name) != nil { publishHA() }
    }

    mutating func onHostMaintenance(_ id: RequestID, _ request: HostRequest) {
        guard let host = known(id, request.host) else { return }
        if host.unresolved != nil || host.run?.action.isDestructive == true {
            return refuse(id, FencingErrorCode.busy, "a power command of \(host.name) has not been resolved")
        }
        if let open = host.fenceCase, !open.proven, !open.isMereIntent {
            return refuse(
                id, RequestErrorCode.conflict,
                "fence case \(open.id) of \(host.name) is open and its life is not proven over; wait for it, or confirm that the machine is off")
        }
        closeCase(host.name, "\(host.name) was put into maintenance")
        update(host.name) { $0.maintenance = true }
        decide(host.name, "maintenance", why: request.reason ?? "an operator asked for it")
        settleStatus(host.name)
        reply(id, .success(view(of: host.name)))
    }

    mutating func onHostActivate(_ id: RequestID, _ request: HostRequest) {
        guard let host = known(id, request.host) else { return }
        takeBackFenceNow(host)
        update(host.name) {
            $0.nonOperational = nil
            $0.error = nil
            $0.reboots = nil
            $0.vainOffs = nil
            guard $0.maintenance else { return }
            $0.maintenance = false
            $0.liveness = .observing
            $0.answeringSince = nil
            $0.connection += 1
        }
        watch(host.name)
        settleStatus(host.name)
        reply(id, .success(view(of: host.name)))
    }

    /// Whoever asked for a fence that cannot be done may take it back while the host answers: of the same life nothing is proven, and nothing was done to it.
    private mutating func takeBackFenceNow(_ host: HostRecord) {
        guard let open = host.fenceCase, open.cause == .operatorAsked, !open.proven, open.incarnation == host.incarnation, host.liveness == .heard,
            host.run?.action.isDestructive != true, host.unresolved == nil, host.minted == nil
        else { return }
        guard !open.offSent || (open.step == .failed && host.power == .on) else { return }
        closeCase(host.name, "an operator activated \(host.name), which answers; \(open.offSent ? "the off had no effect" : "no off was sent")")
    }

    mutating func onSetStatus(_ id: RequestID, _ body: HostSetStatus, _ field: WritableKeyPath<HostRecord, String?>) {
        guard let host = known(id, body.host) else { return }
        update(host.name) { $0[keyPath: field] = body.reason }
        reply(id, .done)
    }

    private func problem(with definition: HostDefinition) -> String? {
        if definition.name.isEmpty || !definition.name.utf8.allSatisfy({ ("a"..."z").contains($0) || ("0"..."9").contains($0) || $0 == UInt8(ascii: "-") }) {
            return "a host's name is made of a-z, 0-9 and -"
        }
        if !(1...2000).contains(definition.id) { return "a host id is 1...2000" }
        if definition.fence.count > 16 { return "a host has at most 16 fence devices" }
        if let level = definition.fence.compactMap(\.level).first(where: { !(1...9).contains($0) }) { return "level \(level): a fence level is 1...9" }
        if let delay = definition.fence.compactMap(\.delay).first(where: { !(Duration.zero...Duration.seconds(600)).contains($0) }) {
            return "a fence delay of \(delay.seconds) s: it is at most 600 s, since nothing of a dead host starts elsewhere before it is over"
        }
        if Set(definition.fence.map { "\($0.agent) \($0.address) \($0.level ?? 1) \(($0.options ?? [:]).sorted { $0.key < $1.key })" }).count < definition.fence.count {
            return "one fence device is listed twice: two power supplies need an agent each, with its own address or plug"
        }
        if definition.kdump != nil, definition.kdumpAddresses.isEmpty { return "kdump: its agent's endpoint \(definition.endpoints.agentRequests) has no IP address; list those from which its crash kernel sends" }
        if let name = definition.kdumpAddresses.first(where: { !IPAddress.isOne($0) }) {
            return "kdump: \(name) is no IP address; list those from which its crash kernel sends, names are not looked up"
        }
        return nil
    }

    /// Tells the detectors whom to listen to and which lives must not be heard any more.
    mutating func watch(_ name: String) {
        guard let host = hosts[name] else { return }
        var dead = host.refusedBoots + host.lives.dropLast().map(\.bootID)
        if host.isProvenDead, let current = host.bootID { dead.append(current) }
        perform(
            .watch(HostWatch(
                host: name, events: host.definition.endpoints.agentEvents, key: host.definition.key, deadBoots: dead, connection: host.connection, hardwareID: host.hardwareID,
                bootID: host.bootID, dumpsFrom: host.definition.kdumpAddresses, isDumping: host.dump != nil)))
    }

    // MARK: The device's identity (S10)

    mutating func identifyIfDue(_ name: String) {
        guard let host = hosts[name], host.run == nil else { return }
        let unknown = host.definition.fence.indices.filter { host.trust($0) == .unknown }
        guard !unknown.isEmpty else { return }
        if let at = host.identifyAt, at > now { return }
        // Through another host each time, until one of them reads it.
        let proxied = unknown.contains { host.definition.fence[$0].via == .hosts }
        let tries = host.identifyTries ?? 0
        let able = proxied ? proxies(besides: name) : []
        let proxy = able.isEmpty ? nil : able[tries % able.count]
        let questions = unknown.compactMap { index in
            let device = host.definition.fence[index]
            let isProxied = device.via == .hosts
            return isProxied && proxy == nil ? nil : IdentityQuestion(host: name, device: device, index: index, proxy: isProxied ? proxy : nil)
        }
        guard !questions.isEmpty else { return }
        let again = now + .seconds(30)
        update(name) {
            $0.identifyAt = again
            $0.identifyTries = proxied ? tries + 1 : nil
        }
        for question in questions { perform(.identify(question)) }
    }

    mutating func onIdentified(_ identification: Identification) {
        let index = identification.index ?? 0
        guard let host = hosts[identification.host], host.definition.fence.indices.contains(index) else { return }
        // It was asked before the devices changed: it says nothing about the one that is there now.
        if let device = identification.device, device != host.definition.fence[index] { return }
        if let guid = identification.guid {
            update(host.name) { $0.setTrust(index, .guid(guid)) }
            decideWhoseDevice(host.name, index)
            // A proof that rests on this device's word and is not signed yet is not made.
            if let after = hosts[host.name], after.deviceIsForeign, after.minted?.kind == .powerOff {
                update(host.name) { $0.minted = nil }
                postpone(host.name, .failed, Self.foreignDevice)
            }
        } else if identification.unsupported {
            if identification.device != nil, case .guid = host.trust(index) { return }
            update(host.name) { $0.setTrust(index, .cannotTell) }
            decide(host.name, "fence device cannot be verified", why: identification.detail)
        }
    }

    /// The machine tells its hardware id after its devices were read as often as before.
    mutating func decideWhoseDevices(_ name: String) {
        guard policy.rules >= 1, let host = hosts[name] else { return }
        for index in host.definition.fence.indices { decideWhoseDevice(name, index) }
    }

    private mutating func decideWhoseDevice(_ name: String, _ index: Int) {
        guard let host = hosts[name], let hardwareID = host.hardwareID, case .guid(let guid) = host.trust(index) else { return }
        decide(
            name, host.isOwn(index) == true ? "fence device verified" : "fence device belongs to another machine",
            why: "the device's GUID is \(guid), the host's hardware id \(hardwareID)")
    }
}

extension ClosedRange where Bound == Unicode.Scalar {
    fileprivate func contains(_ byte: UInt8) -> Bool { contains(Unicode.Scalar(byte)) }
}
