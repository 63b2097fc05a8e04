import Messages

/// Definitions: what may be defined, and the making of disks and leases.
extension PlacementEngine {
    /// Idempotent for the same definition; one whose disks could not be made is tried again.
    mutating func onDefine(_ definition: VMDefinition, _ turn: inout Turn) -> Result<VMView, RequestError> {
        let name = definition.name
        if let problem = Self.problem(of: definition) { return .failure(problem) }
        if var known = vms[name] {
            guard known.definition == definition else {
                return .failure(RequestError(PlacementErrorCode.exists, "\(name) is defined already, otherwise; remove it first"))
            }
            if known.phase == .failed, known.preparation != nil {
                known.phase = .preparing
                known.preparation = Preparation()
                known.reason = "its disks and leases are being made"
                vms[name] = known
            }
            return .success(view(known, withDefinition: true))
        }
        if let refusal = diskInUse(by: definition) { return .failure(refusal) }
        var vm = VMRecord(definition: definition, after: retired.removeValue(forKey: name) ?? RetiredVM())
        // It may run already, and agents' reports are news only when they change.
        vm.sighting = hosts.keys.sorted().compactMap { sightingOfAlien(name, on: $0, turn.now) }.first
        vms[name] = vm
        turn.decide(
            name, "defined", why: "An operator defined it; its disks and leases are made before it can start.",
            evidence: ["disks": definition.disks.map(\.image).joined(separator: " "), "ha": "\(definition.ha)", "leases": "\(definition.leases)"],
            see: Set(definition.disks.map { "domain/\($0.domain)" }).sorted())
        turn.publish("vm.defined", view(vm, withDefinition: true))
        return .success(view(vm, withDefinition: true))
    }

    /// Needs proof that it is stopped (S5). Its disks and leases stay.
    mutating func onRemove(_ name: String, _ turn: inout Turn) -> Result<VMView, RequestError> {
        let vm: VMRecord
        do throws(RequestError) { vm = try find(name) } catch { return .failure(error) }
        if let refusal = refusalUnlessOver(vm, "it cannot be removed") { return .failure(refusal) }
        guard vm.phase == .down || vm.phase == .failed || vm.phase == .preparing else {
            return .failure(RequestError(PlacementErrorCode.badState, "\(name) is wanted up; stop it first: bulwark vm stop \(name)"))
        }
        vms[name] = nil
        retired[name] = vm.retired
        turn.decide(name, "removed", why: "An operator removed it and nothing of it runs; its disks and leases stay.", evidence: endEvidence(vm))
        return .success(view(vm, withDefinition: true))
    }

    /// The first thing that makes a definition unusable; the message begins with its key.
    static func problem(of vm: VMDefinition) -> RequestError? {
        func bad(_ key: String, _ what: String) -> RequestError { RequestError(PlacementErrorCode.badDefinition, "\(key): \(what)", details: ["key": key]) }
        guard isName(vm.name, longest: 63) else { return bad("name", "use 1 to 63 letters, digits, - _ and . and begin with a letter or digit") }
        guard vm.memoryMiB > 0, vm.memoryMiB <= 1 << 24 else { return bad("memory", "\(vm.memoryMiB) MiB is not between 1 and \(1 << 24)") }
        guard (1...1024).contains(vm.cpus) else { return bad("cpus", "\(vm.cpus) is not between 1 and 1024") }
        guard (0...100).contains(vm.priority) else { return bad("priority", "\(vm.priority) is not between 0 and 100") }
        guard vm.leases || !vm.ha else { return bad("leases", "a VM with ha needs leases: without them nothing on the storage keeps its disks from a second writer") }
        if let problem = pauseProblem(of: vm) { return bad(problem.key, problem.what) }
        for (index, disk) in vm.disks.enumerated() {
            let key = "disks[\(index)]"
            guard isName(disk.image, longest: 47) else { return bad("\(key).image", "\"\(disk.image)\" is not a uuid") }
            guard isName(disk.domain, longest: 47) else { return bad("\(key).domain", "\"\(disk.domain)\" is not a uuid") }
            guard VolumeCreate.isPossible(size: disk.size) else { return bad("\(key).size", "\(disk.size) bytes is not a positive multiple of 512 below 2^60") }
            guard !disk.isShareable || !disk.readOnly else { return bad("\(key).shareable", "a read-only disk has no lease to share: it may be in several VMs as it is") }
            guard !disk.isShareable || vm.leases else { return bad("\(key).shareable", "without leases nothing tells those who share it from those who must not: set leases to true") }
            guard !vm.disks[..<index].contains(where: { $0.image == disk.image }) else { return bad("\(key).image", "disk \(disk.image) is named twice") }
        }
        for (index, host) in vm.pin.enumerated() {
            guard isName(host, longest: 63) else { return bad("pin[\(index)]", "\"\(host)\" is not a host's name") }
            guard !vm.pin[..<index].contains(host) else { return bad("pin[\(index)]", "\(host) is named twice") }
        }
        return nil
    }

    private static func pauseProblem(of vm: VMDefinition) -> (key: String, what: String)? {
        if vm.onLeaseLoss == .pause, !vm.leases { return ("onLeaseLoss", "a VM without leases loses none: leave it out, or set leases to true") }
        if let before = vm.pauseBefore {
            guard vm.onLeaseLoss == .pause else { return ("pauseBefore", "it says when onLeaseLoss: pause pauses; set that too, or leave it out") }
            guard before >= .milliseconds(1), before <= .seconds(3600) else { return ("pauseBefore", "\(before.seconds) s is not between 1 ms and an hour") }
        }
        if vm.resume == .leave, vm.ha { return ("resume", "an HA VM that stays paused is not highly available: use kill or auto") }
        return nil
    }

    /// Names become file names, lock names and parts of holders: nothing but letters, digits, `-`, `_` and `.`, never first a mark. 47 bytes is what a lease record holds.
    private static func isName(_ text: String, longest: Int) -> Bool {
        guard (1...longest).contains(text.utf8.count), let first = text.utf8.first else { return false }
        func isAlphanumeric(_ c: UInt8) -> Bool { (48...57).contains(c) || (65...90).contains(c) || (97...122).contains(c) }
        return isAlphanumeric(first) && text.utf8.allSatisfy { isAlphanumeric($0) || $0 == 45 || $0 == 46 || $0 == 95 }
    }

    /// S5: one writable disk belongs to one definition, unless all of them say that it is shareable.
    private func diskInUse(by definition: VMDefinition) -> RequestError? {
        for disk in definition.disks {
            for name in vms.keys.sorted() {
                for other in vms[name]?.definition.disks ?? [] where other.image == disk.image && !(other.readOnly && disk.readOnly) && !other.isShared(with: disk) {
                    return RequestError(
                        PlacementErrorCode.diskInUse, "disk \(disk.image) belongs to \(name); only a disk that is read-only in both, or shareable in both and in the same domain, may be in two VMs",
                        details: ["disk": disk.image, "vm": name])
                }
            }
        }
        return nil
    }

    /// Asks for the next piece of storage work of every VM in preparation; the work is idempotent and may be asked for again at any time.
    mutating func proceedPreparations(_ names: [String], _ turn: inout Turn) {
        for name in names {
            guard var vm = vms[name], vm.phase == .preparing, var preparation = vm.preparation, !preparation.asked else { continue }
            if let retryAt = preparation.retryAt, retryAt > turn.now {
                turn.wake(at: retryAt)
                continue
            }
            guard preparation.step < vm.storageWork.count else {
                vm.preparation = nil
                vm.phase = .down
                vm.reason = "never started"
                vms[name] = vm
                turn.decide(name, "ready", why: "Its disks and leases exist.")
                continue
            }
            let id = preparation.id ?? nextID("prepare", &vm)
            preparation.id = id
            preparation.asked = true
            preparation.retryAt = nil
            switch vm.storageWork[preparation.step] {
            case .volume(let disk):
                turn.perform(.createVolume(vm: name, VolumeCreate(domain: disk.domain, image: disk.image, size: disk.size, source: disk.source), id: id))
            case .lease(let lease):
                turn.perform(.createLease(vm: name, lease, id: id))
            }
            vm.preparation = preparation
            vms[name] = vm
        }
    }

    mutating func onPrepared(_ name: String, _ id: RequestID, _ error: RequestError?, _ turn: inout Turn) {
        guard var vm = vms[name], vm.phase == .preparing, var preparation = vm.preparation, preparation.id == id, preparation.asked else { return }
        preparation.asked = false
        switch error?.code {
        case nil:
            preparation.step += 1
            preparation.id = nil
        case RequestErrorCode.unknownOutcome.rawValue:
            preparation.retryAt = turn.now + policy.retryFirst
            vm.reason = "spm-coordinator does not answer; asking again"
        case SPMErrorCode.noSPM.rawValue, SPMErrorCode.poolNotFound.rawValue, RequestErrorCode.timeout.rawValue, RequestErrorCode.journalFull.rawValue:
            preparation.id = nil
            preparation.retryAt = turn.now + policy.retryFirst
            vm.reason = "its disks and leases cannot be made yet: \(error?.message ?? "")"
        default:
            vm.phase = .failed
            vm.reason = "its disks and leases could not be made: \(error?.description ?? ""); define it again to try again"
            turn.decide(name, "definition failed", why: vm.reason, evidence: ["code": error?.code ?? ""])
        }
        vm.preparation = preparation
        vms[name] = vm
    }

    /// A request id that no other request has, in this journal or another; fit for a file name.
    func nextID(_ what: String, _ vm: inout VMRecord) -> RequestID {
        vm.asks += 1
        return "\(lineage).\(what).\(vm.definition.name).\(vm.attempt).\(vm.asks)"
    }
}

extension DiskDefinition {
    /// The same disk, which both definitions let others write to.
    func isShared(with other: DiskDefinition) -> Bool { image == other.image && domain == other.domain && isShareable && other.isShareable }
}
