// swift-tools-version:6.0
import PackageDescription

// Dependencies point one way: Service -> Engine -> Messages; Service -> ServiceKit -> Bus -> CZeroMQ. No service imports another.

let settings: [SwiftSetting] = [.enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("MemberImportVisibility")]

/// A pure engine: knows only the messages (the lease engine also the disk format).
func engine(_ name: String, _ path: String, also: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: ["Messages"] + also, path: path, swiftSettings: settings)
}

func library(_ name: String, _ path: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: path, exclude: exclude, swiftSettings: settings)
}

func service(_ name: String, _ path: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: ["Messages", "Bus", "ServiceKit", logging] + dependencies, path: path, swiftSettings: settings)
}

func tests(_ name: String, _ path: String, _ dependencies: [Target.Dependency], exclude: [String] = [], resources: [Resource] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, path: path, exclude: exclude, resources: resources, swiftSettings: settings)
}

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let yaml: Target.Dependency = .product(name: "Yams", package: "Yams")

let package = Package(
    name: "bulwark",
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // Shared
        .systemLibrary(name: "CZeroMQ", path: "Shared/CZeroMQ", providers: [.apt(["libzmq3-dev"])]),
        .systemLibrary(name: "CSodium", path: "Shared/CSodium", providers: [.apt(["libsodium-dev"])]),
        .target(name: "CLinux", path: "Shared/CLinux"),
        .target(name: "CChecksum", path: "Shared/CChecksum"),
        // libsanlock_client, loaded when it is asked for.
        .target(name: "CSanlock", path: "Shared/CSanlock"),
        library("Messages", "Shared/Messages", []),
        library("ServiceCore", "Shared/ServiceCore", ["Messages"]),
        library("Bus", "Shared/Bus", ["Messages", "ServiceCore", "CZeroMQ", "CSodium", "CLinux"]),
        library("ServiceKit", "Shared/ServiceKit", [
            "Messages", "ServiceCore", "Bus", "CLinux", logging, arguments, yaml, .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"), .product(name: "UnixSignals", package: "swift-service-lifecycle"),
        ]),
        library("SQLiteJournal", "Shared/SQLiteJournal", ["Messages", "ServiceKit", .product(name: "GRDB", package: "GRDB.swift")]),

        // Lease service
        library("LeaseFormat", "Services/Lease/Format", ["CChecksum"]),
        engine("LeaseEngine", "Services/Lease/Engine", also: ["LeaseFormat"]),
        library("LeaseVolume", "Services/Lease/Volume", ["Messages", "LeaseFormat", "LeaseEngine", "CLinux"]),
        service("lease-service", "Services/Lease/Service", ["LeaseFormat", "LeaseEngine", "LeaseVolume", "CLinux", "CSanlock"]),

        // Fencing service
        engine("FencingEngine", "Services/Fencing/Engine"),
        library("FencingAgents", "Services/Fencing/Agents", ["Messages", "Bus", "ServiceKit", "CLinux"]),
        service("fencing-service", "Services/Fencing/Service", ["FencingEngine", "FencingAgents", "SQLiteJournal"]),

        // SPM coordinator
        engine("SPMEngine", "Services/SPM/Engine"),
        service("spm-coordinator", "Services/SPM/Service", ["SPMEngine", "SQLiteJournal"]),

        // Placement
        engine("PlacementEngine", "Services/Placement/Engine"),
        service("placement-service", "Services/Placement/Service", ["PlacementEngine", "SQLiteJournal"]),

        // Domain monitor
        engine("DomainMonitorEngine", "Services/DomainMonitor/Engine"),
        service("domain-monitor", "Services/DomainMonitor/Service", ["DomainMonitorEngine", "SQLiteJournal"]),

        // Host agent
        engine("HostAgentEngine", "Services/HostAgent/Engine"),
        library("HostAgentHypervisor", "Services/HostAgent/Hypervisor", ["Messages", "ServiceKit", "CLinux"]),
        library("HostAgentStorage", "Services/HostAgent/Storage", ["Messages", "HostAgentEngine", "ServiceKit", "CLinux"]),
        engine("GuardEngine", "Services/HostAgent/Guard/Engine"),
        .executableTarget(
            name: "vm-guard", dependencies: ["Messages", "GuardEngine", "CLinux", "CSanlock"], path: "Services/HostAgent/Guard", exclude: ["Engine"], swiftSettings: settings),
        service("host-agent", "Services/HostAgent/Service", ["HostAgentEngine", "HostAgentHypervisor", "HostAgentStorage", "FencingAgents", "CLinux"]),

        // Simulator
        library(
            "Simulation", "Services/Simulation",
            [
                "Messages", "ServiceCore", "LeaseFormat", "LeaseEngine", "FencingEngine", "SPMEngine", "PlacementEngine", "DomainMonitorEngine", "HostAgentEngine", "GuardEngine",
                "Invariants",
            ],
            exclude: ["Invariants"]),
        // Checker of the promise, for the simulator and for live clusters.
        engine("Invariants", "Services/Simulation/Invariants"),

        // What journals tell
        library("Replay", "Services/Replay", [
            "Messages", "Bus", "ServiceKit", "SQLiteJournal", "LeaseEngine", "FencingEngine", "SPMEngine", "PlacementEngine", "DomainMonitorEngine", "HostAgentEngine",
        ]),

        // The command
        service("bulwark", "Services/Operator", ["Simulation", "Invariants", "Replay", "FencingAgents", "LeaseFormat", "LeaseEngine", "LeaseVolume", "CLinux", arguments, yaml]),

        // Local clusters for programs that measure or break them
        library("TestLab", "Tests/Lab", ["Messages", "Bus", "ServiceKit", "LeaseVolume", "CLinux"], exclude: ["redfish-bmc", "install-redfish"]),

        // Soak (make soak)
        .executableTarget(
            name: "bulwark-soak", dependencies: ["TestLab", "Messages", "ServiceKit", "CLinux", arguments], path: "Tests/Soak", swiftSettings: settings),

        // Benches (make bench)
        .target(name: "BusBaseline", path: "Tests/Bench/Baseline"),
        .executableTarget(
            name: "bulwark-bench",
            dependencies: ["TestLab", "Messages", "Bus", "ServiceKit", "BusBaseline", "LeaseFormat", "LeaseEngine", "LeaseVolume", "HostAgentHypervisor", "CLinux", arguments], path: "Tests/Bench",
            exclude: ["Baseline", "thresholds.json"], swiftSettings: settings),

        // Tests
        tests("MessagesTests", "Tests/MessagesTests", ["Messages"]),
        tests("ServiceCoreTests", "Tests/ServiceCoreTests", ["ServiceCore", "Messages"]),
        tests("BusTests", "Tests/BusTests", ["Bus", "ServiceCore", "Messages", "CZeroMQ", "CLinux"]),
        tests("ServiceKitTests", "Tests/ServiceKitTests", ["ServiceKit", "SQLiteJournal", "Bus", "Messages", "CLinux"]),
        tests("LeaseTests", "Tests/LeaseTests", ["LeaseFormat", "LeaseEngine", "LeaseVolume", "Messages", "CChecksum"], resources: [.copy("Fixtures")]),
        tests("FencingTests", "Tests/FencingTests", ["FencingEngine", "FencingAgents", "HostAgentEngine", "Bus", "Messages"]),
        tests("SPMTests", "Tests/SPMTests", ["SPMEngine", "Messages"]),
        tests("PlacementTests", "Tests/PlacementTests", ["PlacementEngine", "Messages"]),
        tests("DomainMonitorTests", "Tests/DomainMonitorTests", ["DomainMonitorEngine", "Messages"]),
        tests("HostAgentTests", "Tests/HostAgentTests", ["vm-guard", "host-agent", "GuardEngine", "HostAgentEngine", "HostAgentHypervisor", "HostAgentStorage", "Bus", "Messages", "CLinux"]),
        tests("SimulationTests", "Tests/SimulationTests", ["bulwark", "Simulation", "Invariants", "FencingEngine", "Messages"]),
        tests("InvariantTests", "Tests/InvariantTests", ["Invariants", "Messages"]),
        tests("OperatorTests", "Tests/OperatorTests", ["bulwark", "Messages", "Bus"]),
        tests(
            "ReplayTests", "Tests/ReplayTests", ["bulwark", "Replay", "SQLiteJournal", "ServiceKit", "Bus", "Messages", "FencingEngine", "LeaseEngine", logging, arguments],
            resources: [.copy("Journals")]),
        tests("ClusterTests", "Tests/Cluster", ["Messages", "CLinux"]),
        tests("ComposeTests", "Tests/Compose", ["CLinux"]),
        tests("InteropTests", "Tests/Interop", ["TestLab", "LeaseFormat", "Messages", "CLinux"], exclude: ["Python"]),
    ],
    swiftLanguageModes: [.v6]
)
