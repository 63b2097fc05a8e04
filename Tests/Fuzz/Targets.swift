// What libFuzzer calls: whatever the bytes are, a parser answers or refuses, and what it read it writes the same way again.
// Compiled together with the sources of LeaseFormat; the parser is named by the environment.

import Glibc

private let parser = getenv("FUZZ_PARSER").map { String(cString: $0) } ?? ""

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // A copy of exactly this length: whoever reads beyond it is seen by the address sanitizer.
    let bytes = [UInt8](UnsafeBufferPointer(start: start, count: count))
    switch parser {
    case "leader": Leader.run(bytes)
    case "block": Block.run(bytes)
    case "request": Request.run(bytes)
    case "index": Index.run(bytes)
    case "record": Record.run(bytes)
    case "resource-index": Resources.run(bytes)
    default: fatalError("FUZZ_PARSER names no parser")
    }
    return 0
}

/// Ends the program, which is a finding.
func require(_ holds: Bool, _ what: @autoclosure () -> String) {
    if !holds { fatalError(what()) }
}

/// Puts the checksum right, so that what is behind it is met, too: half of the inputs keep their own.
func sealed(_ bytes: [UInt8], covered: Int) -> [UInt8] {
    guard bytes.count >= covered + 4, bytes.last.map({ $0 & 1 == 0 }) ?? false else { return bytes }
    var sealed = bytes
    sealed.put(Checksum.of(sealed[..<covered]), at: covered)
    return sealed
}

func tell(_ error: FormatError) {
    require(!error.sentence.isEmpty && !error.sentence(file: "f", start: .max).isEmpty, "no sentence")
}

enum Leader {
    static func run(_ input: [UInt8]) {
        let bytes = sealed(input, covered: 168)
        require(AreaNews(of: bytes, since: bytes, geometry: .standard).hosts.isEmpty, "what is as it was is news")
        _ = IndexRebuild.Found(sector: bytes[...])
        do {
            let record = try LeaderRecord(bytes[...])
            let again = try LeaderRecord(record.sector[...])
            require(again == record, "\(record) becomes \(again)")
            require(record.sector.count == record.geometry.sectorSize, "not one sector")
            let event = record.hostEvent
            require(event == nil || record.kind == .delta, "an event in a lease")
            do { try record.verify(.paxos, lockspace: "LS1", name: "res0", geometry: .standard) } catch { tell(error) }
            do { try record.verify(.delta, lockspace: record.lockspace) } catch { tell(error) }
        } catch { tell(error) }
    }
}

enum Block {
    static func run(_ input: [UInt8]) {
        let bytes = sealed(input, covered: 48)
        do {
            let block = try BallotBlock(bytes[...])
            require(try BallotBlock(block.sector(.standard)[...]) == block, "\(block) is not what it writes")
            try block.verify(host: 1)
        } catch { tell(error) }
        for geometry in geometries { _ = BallotBlock.sharedHolders(in: bytes[...], geometry: geometry) }
    }
}

enum Request {
    static func run(_ bytes: [UInt8]) {
        let bitmap = HostBitmap(sector: bytes[...])
        for host in bitmap.hosts { require(bitmap[host], "a host without its bit") }
        do {
            let request = try RequestRecord(bytes[...])
            require(try RequestRecord(request.sector(.standard)[...]) == request, "\(request) is not what it writes")
        } catch { tell(error) }
    }
}

enum Index {
    /// The input is put over a good index: header, then what of the records it reaches, then bytes of slots.
    static func run(_ input: [UInt8]) {
        guard let choice = input.last else { return }
        let geometry = geometries[Int(choice) % geometries.count]
        var image = template(geometry)
        image.replaceSubrange(..<min(input.count, image.count), with: input.prefix(image.count))
        do throws(IndexError) {
            let index = try LeaseIndex(image[...], lockspace: choice & 8 == 0 ? "dom1" : nil, geometry: geometry)
            require(!index.isUpdating && index.image == image, "an index that is being updated is used")
            exercise(index, choice)
        } catch {
            require(!error.sentence.isEmpty, "no sentence")
        }
        if choice & 16 == 0, let index = try? LeaseIndex(rebuilding: image[...], geometry: geometry) { rebuild(index, choice, input) }
    }

    private static func exercise(_ index: LeaseIndex, _ choice: UInt8) {
        for (name, record) in index.leases.prefix(8) {
            require(index.record(record) == .lease(name), "record \(record) is not of \(name)")
            require(index.lookup(name).map { $0 <= record } ?? true, "lookup of \(name)")
        }
        let room = LeaseIndex.capacity(volumeSize: UInt64(choice) * UInt64(index.geometry.alignment), geometry: index.geometry)
        guard let slot = try? index.slot(for: "new", volumeSize: UInt64(choice) * UInt64(index.geometry.alignment)) else { return }
        require(slot < room, "beyond the volume")
        var changed = index
        let (offset, block) = changed.enter("new", at: slot)
        require(changed.lookup("new") != nil && block.count == index.geometry.sectorSize && offset % UInt64(block.count) == 0, "not entered")
        _ = changed.remove(at: slot)
        require(changed.record(slot) == .free, "not removed")
    }

    private static func rebuild(_ index: LeaseIndex, _ choice: UInt8, _ input: [UInt8]) {
        let done = IndexRebuild(of: index, capacity: Int(choice), found: { slot in found(slot, input, index) }, accept: { _ in true })
        require(done.refused.isEmpty, "refused although accepted")
        for record in 0..<LeaseIndex.capacity {
            switch done.index.record(record) {
            case .free, .lease: break
            case .unfinished, .unreadable: fatalError("record \(record) is not repaired")
            }
        }
        let names = done.index.leases.map(\.name)
        require(Set(names).count == names.count, "two records of one name")
        // Done again on what it leaves, nothing is left to do.
        var slots: [Int: IndexRebuild.Found] = [:]
        for step in done.steps where step.overwritesLease {
            switch step.action {
            case .createLease(let name), .replaceLease(let name): slots[step.record] = .lease(LeaderRecord(lockspace: index.lockspace, resource: name, geometry: index.geometry))
            default: slots[step.record] = .nothing
            }
        }
        let again = IndexRebuild(of: done.index, capacity: Int(choice), found: { slots[$0] ?? found($0, input, index) })
        require(again.steps.isEmpty && again.refused.isEmpty, "\(again.steps) after \(done.steps)")
    }

    /// By the last bytes of the input: nothing, the lease of the record, another one, one that is held, damaged.
    private static func found(_ slot: Int, _ input: [UInt8], _ index: LeaseIndex) -> IndexRebuild.Found {
        let what = slot < input.count ? input[input.count - 1 - slot] : 0
        func lease(_ name: String, timestamp: UInt64 = 0) -> IndexRebuild.Found {
            var leader = LeaderRecord(lockspace: index.lockspace, resource: name, geometry: index.geometry)
            leader.timestamp = timestamp
            return .lease(leader)
        }
        switch what % 6 {
        case 0: return .nothing
        case 1: return lease(index.record(slot).name ?? "lost-\(what)")
        case 2: return lease("lost-\(what)")
        case 3: return lease("held-\(what)", timestamp: 1)
        case 4: return .unreadable(FormatError(.checksum, at: 168, expected: "0x1", found: "0x2"))
        default: return .lease(LeaderRecord(lockspace: "other", resource: "lost", geometry: index.geometry))
        }
    }

    private static let images: [Geometry: [UInt8]] = Dictionary(uniqueKeysWithValues: geometries.map { geometry in
        var index = LeaseIndex(lockspace: "dom1", time: 1_700_000_000, geometry: geometry)
        for (record, name) in ["a", "b", "c"].enumerated() { _ = index.enter(name, at: record) }
        return (geometry, index.image)
    })
    private static func template(_ geometry: Geometry) -> [UInt8] { images[geometry] ?? [] }
}

enum Record {
    static func run(_ bytes: [UInt8]) {
        let record = IndexRecord(bytes[...])
        if case .unreadable(let error) = record { tell(error) }
        guard case .lease(let name) = record else { return }
        var index = LeaseIndex(lockspace: "dom1", time: 1)
        _ = index.enter(name, at: 7)
        require(Names.isStorable(name) && index.lookup(name) == 7 && index.record(7) == record, "\(record) is not what it writes")
    }
}

enum Resources {
    static func run(_ bytes: [UInt8]) {
        let offset = UInt64(bytes.last ?? 1) << 20
        do {
            let length = try ResourceIndex.length(header: bytes[...], offset: offset)
            // Of the many entries of a large one nearly all would be zero here.
            guard length <= 1 << 14 else { return }
            // What is missing is zero, as on a new volume.
            let whole = bytes + [UInt8](repeating: 0, count: max(0, length - bytes.count))
            var index = try ResourceIndex(whole[...], offset: offset)
            for (name, entry) in index.leases.prefix(8) {
                require(index.lookup(name).map { $0 <= entry } ?? true, "lookup of \(name)")
                require(index.entry(leaseAt: index.leaseOffset(entry)) == entry, "place of \(entry)")
            }
            if let (entry, writes) = try? index.create("new") {
                require(index.entry(entry) == .lease("new") && index.lookup("new") != nil && writes.count == 2, "not created")
                let gone = try? index.delete("new", time: 1).entry
                require(gone == entry && index.entry(entry) == .free, "not deleted")
            }
            let (_, doubtful) = index.rebuild { $0 < 4 ? IndexRebuild.Found.nothing : nil }
            require(doubtful.isEmpty && index.leases.isEmpty && index.damage.isEmpty, "not rebuilt")
        } catch { tell(error) }
    }
}

let geometries = [(512, 1), (4096, 1), (4096, 2), (4096, 4), (4096, 8)].compactMap { Geometry(sectorSize: $0.0, alignment: $0.1 << 20) }
