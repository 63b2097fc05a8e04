import LeaseFormat
import Messages

/// Reads or writes the sector that sanlock keeps beside a lease for its holder (*LVB*).
struct ValueWork: Sendable {
    let connection: UInt64
    let holder: Holder
    let name: LeaseName
    /// To be written, padded to a sector.
    let value: [UInt8]?
    var offset: UInt64?
}

enum Hexadecimal {
    static func text(_ bytes: [UInt8]) -> String { bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }

    /// `nil` if it is anything else than pairs of digits.
    static func bytes(_ text: String) -> [UInt8]? {
        let digits = text.utf8.map { Character(UnicodeScalar($0)).hexDigitValue }
        guard digits.count % 2 == 0 else { return nil }
        return stride(from: 0, to: digits.count, by: 2).reduce(into: [UInt8]?.some([])) { bytes, index in
            guard let high = digits[index], let low = digits[index + 1] else { return bytes = nil }
            bytes?.append(UInt8(high * 16 + low))
        }
    }
}

extension LeaseEngine {
    mutating func onValue(_ connection: UInt64, _ holder: Holder, _ name: LeaseName, _ value: [UInt8]?) -> Effects {
        func refuse(_ error: RequestError) -> Effects { [noValue(connection, name, error)] }
        if host.sanlock != nil { return refuse(Self.notSupported("the value of a lease")) }
        guard let lease = held(by: holder, name), let geometry = memberships[name.lockspace]?.geometry else {
            return refuse(RequestError(LeaseErrorCode.lost, "\(holder) does not hold lease \(name.resource)"))
        }
        guard geometry.valueOffset != nil else {
            return refuse(RequestError(
                LeaseErrorCode.noValue,
                "the value of a lease is its sector 2002, and in areas of \(geometry) that is a sector of another lease: only 512 with 1 MiB and 4096 with 8 MiB have room for it"))
        }
        guard var value else {
            _ = start(.value(ValueWork(connection: connection, holder: holder, name: name, value: nil)))
            return []
        }
        guard lease.mode == .exclusive else { return refuse(RequestError(RequestErrorCode.conflict, "only who holds lease \(name.resource) alone writes its value")) }
        guard value.count <= geometry.sectorSize else { return refuse(RequestError(RequestErrorCode.invalid, "a value has at most \(geometry.sectorSize) bytes, not \(value.count)")) }
        value += [UInt8](repeating: 0, count: geometry.sectorSize - value.count)
        _ = start(.value(ValueWork(connection: connection, holder: holder, name: name, value: value)))
        return []
    }

    private func held(by holder: Holder, _ name: LeaseName) -> GuardLease? {
        guard let grant = grants[holder], grant.state == .granted, let deadline = deadline(of: grant), now < deadline else { return nil }
        return grant.leases.first { $0.name == name }
    }

    mutating func stepValue(_ id: UInt64, _ work: ValueWork) -> Effects {
        guard let lease = held(by: work.holder, work.name), work.value == nil || lease.mode == .exclusive, let membership = memberships[work.name.lockspace],
            let deadline = membership.deadline, let place = membership.geometry.valueOffset
        else { return end(id, work, RequestError(LeaseErrorCode.lost, "\(work.holder) does not hold lease \(work.name.resource) any more")) }
        var work = work
        guard let offset = work.offset ?? fixedOffset(work.name, membership) else { return readIndex(id, membership) }
        work.offset = offset
        // What was written before and may still land would take the place of what is acknowledged after it.
        guard work.value == nil || (!unlanded.values.contains(work.name) && !isWritten(work.name, except: id)) else { return pause(id, .value(work)) }
        jobs[id]?.work = .value(work)
        let path = path(of: work.name, in: membership)
        let operation: VolumeOperation = work.value.map { .write(path: path, offset: offset + UInt64(place), bytes: $0, notAfter: deadline, create: false) }
            ?? .read(path: path, offset: offset + UInt64(place), length: membership.geometry.sectorSize)
        return io(id, operation, lockspace: work.name.lockspace, lease: work.name)
    }

    mutating func onValueResult(_ id: UInt64, _ work: ValueWork, _ result: IOResult) -> Effects {
        var work = work
        guard work.offset != nil else {
            switch index(in: result, of: work.name.lockspace) {
            case .failure(let error): return end(id, work, error)
            case .success(let index):
                guard let slot = index.lookup(work.name.resource) else { return end(id, work, notFound(work.name)) }
                work.offset = index.leaseOffset(slot)
                return stepValue(id, work)
            }
        }
        let value: [UInt8]
        switch (result, work.value) {
        case (.data(let read), nil): value = read
        case (.written, let written?): value = written
        default: return end(id, work, Membership.error(result, "\(work.value == nil ? "read" : "write") the value of lease \(work.name.resource)"))
        }
        jobs[id] = nil
        return [.perform(.tell(
            connection: work.connection, GuardMessage("value", [("lease", "\(work.name.lockspace)|\(work.name.resource)"), ("data", Hexadecimal.text(value))])))]
    }

    private mutating func end(_ id: UInt64, _ work: ValueWork, _ error: RequestError) -> Effects {
        jobs[id] = nil
        return [noValue(work.connection, work.name, error)]
    }

    private func noValue(_ connection: UInt64, _ name: LeaseName, _ error: RequestError) -> Effect<LeaseAction> {
        .perform(.tell(
            connection: connection, GuardMessage("novalue", [("lease", "\(name.lockspace)|\(name.resource)"), ("code", error.code), ("message", error.message)])))
    }
}
