import CLinux
import Foundation
import Glibc
import HostAgentEngine
@testable import HostAgentStorage
import Messages
import Testing

@Suite struct StorageTests {
    @Test(arguments: [
        ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"), ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (String(repeating: "a", count: 200), "e61cfffe0d9195a525fc6cf06ca2d77119c24a40"),
    ]) func sha1(text: String, digest: String) {
        #expect(SHA1.hexadecimal(Array(text.utf8)) == digest)
    }

    @Test func metadataReadsItselfAndRefusesAChangedByte() {
        let metadata = DomainMetadata(domain: "d1", name: "data", path: "/shared/d1")
        #expect(DomainMetadata(text: metadata.text) == metadata)
        #expect(metadata.text.split(separator: "\n").contains("VERSION=5"))
        #expect(DomainMetadata(text: metadata.text.replacingOccurrences(of: "data", with: "dato")) == nil)
    }

    @Test func aDomainIsCreatedOnceAndResumed() throws {
        let directory = TemporaryDirectory()
        let path = "\(directory.path)/shared/d1"
        let domain = FileDomain(StorageCreate(domain: "d1", path: path, name: "data", ioTimeout: 2))
        #expect(StorageProbe.run(path: path, domain: "d1") != nil)
        #expect(try domain.prepare() == .nothing)
        #expect(try domain.prepare() == .nothing)
        try domain.publish()
        #expect(try domain.prepare() == .thisOne)
        #expect(StorageProbe.run(path: path, domain: "d1") == nil)
        #expect(StorageProbe.run(path: path, domain: "d2") != nil)
        let other = FileDomain(StorageCreate(domain: "d2", path: path, name: "data", ioTimeout: 2))
        #expect(throws: RequestError.self) { try other.prepare() }
        var inbox = stat()
        #expect(stat(DomainLayout(root: path).inbox, &inbox) == 0 && inbox.st_size == 16 << 20 && inbox.st_blocks == 0)
    }

    @Test(arguments: [UInt64.max, UInt64.max - 4094, 1 << 63, (1 << 63) - 1] as [UInt64]) func aSizeThatNoFileCanHaveIsRefused(size: UInt64) throws {
        let directory = TemporaryDirectory()
        mkdir(DomainLayout(root: directory.path).images, 0o755)
        let error = #expect(throws: RequestError.self) {
            try VolumeBuild(task: "t1", lver: 1, domain: directory.path, image: "i1", size: size, source: nil).build()
        }
        #expect(error?.code == "task.failed")
    }

    @Test func aVolumeIsPublishedWholeAndNeverReplaced() throws {
        let directory = TemporaryDirectory()
        let layout = DomainLayout(root: directory.path)
        mkdir(layout.images, 0o755)
        let source = "\(directory.path)/source"
        try Data("boot".utf8).write(to: URL(fileURLWithPath: source))
        func build(_ lver: UInt64) -> VolumeBuild {
            VolumeBuild(task: "t1", lver: lver, domain: directory.path, image: "i1", size: 10000, source: source)
        }
        try build(3).build()
        #expect(!build(3).isPublished)
        try build(4).build()
        #expect(try FileManager.default.contentsOfDirectory(atPath: layout.image("i1")) == [".task-t1.4"])
        try build(4).publish()
        let volume = layout.volume(image: "i1")
        let data = try Data(contentsOf: URL(fileURLWithPath: volume))
        #expect(data.count == 12288 && data.prefix(4) == Data("boot".utf8))
        try Data("guest".utf8).write(to: URL(fileURLWithPath: volume))
        try build(5).build()
        try build(5).publish()
        #expect(try Data(contentsOf: URL(fileURLWithPath: volume)).prefix(5) == Data("guest".utf8))
        #expect(try FileManager.default.contentsOfDirectory(atPath: layout.image("i1")) == ["i1"])
    }
}

/// Removed with its value.
final class TemporaryDirectory {
    let path = "/var/tmp/bulwark-agent-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    init() { mkdir(path, 0o700) }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}
