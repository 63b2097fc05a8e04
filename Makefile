# make up     installs what is needed, builds release, brings a local cluster up (again: seconds, and nothing changes)
# make down   stops it; its state stays (make down ARGUMENTS=--purge removes that, too)
# make test   installs what tests need and runs them
# make nightly  every mutant of the simulator with generous bounds, 10,000 random seeds of one virtual hour, an hour of hostile bytes for the parsers of lease volumes, 10,000 turns of one lease beside sanlock: hours
# make build  release build of all executables
# make soak   breaks a local cluster of its own at random and judges it: ARGUMENTS="--failovers 100 --seed 1"; a quarter of an hour, and no part of make test
# make bench  measures round trips, leases beside a real sanlock, failover, profile fast, heartbeats, start, restart and memory of the release build; fails when a threshold is broken
#             (ARGUMENTS="--only load": an hour at 90 percent of all processors, in which nobody who lives may be fenced)
#
# ARGUMENTS are passed on to bulwark: make up ARGUMENTS="--hosts 5"

ARGUMENTS =

.PHONY: up down test nightly soak bench build packages test-packages bench-packages

up: packages build
	.build/release/bulwark up $(ARGUMENTS)

down:
	.build/release/bulwark down $(ARGUMENTS)

build:
	swift build -c release --static-swift-stdlib

bench: bench-packages build
	.build/release/bulwark-bench --json .build/bench.json $(ARGUMENTS)

soak: packages build
	.build/release/bulwark-soak $(ARGUMENTS)

test: test-packages
	Tests/run

nightly: test-packages
	Tests/Mutation/run --baseline 40 --seconds 1800
	Tests/Mutation/run --built --random 10000 --hours 1
	Tests/Fuzz/run --total 3600
	swift build --build-tests
	BULWARK_CONTENTION_ROUNDS=10000 swift test --skip-build --filter InteropTests.SanlockContentionTests

packages:
	@compose/lab/install-packages

test-packages:
	@compose/lab/install-packages test
	@Tests/Lab/install-redfish

bench-packages:
	@compose/lab/install-packages bench
