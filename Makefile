# make up     installs what is needed, builds release, brings a local cluster up (again: seconds, and nothing changes)
# make down   stops it; its state stays (make down ARGUMENTS=--purge removes that, too)
# make test   installs what tests need and runs them
# make build  release build of all executables
#
# ARGUMENTS are passed on to bulwark: make up ARGUMENTS="--hosts 5"

ARGUMENTS =

.PHONY: up down test build packages test-packages

up: packages build
	.build/release/bulwark up $(ARGUMENTS)

down:
	.build/release/bulwark down $(ARGUMENTS)

build:
	swift build -c release --static-swift-stdlib

test: test-packages
	Tests/run

packages:
	@compose/lab/install-packages

test-packages:
	@compose/lab/install-packages test
