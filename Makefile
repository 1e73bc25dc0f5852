# The doors. What happens behind one is in dev/.
.PHONY: help demo test check bench build stack-up stack-down

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: ## the whole line on real services; ORDERS= SEED= STORE=hbase DATA=dump.sql KEEP=1
	@dev/run-demo

test: ## every test, on real services that are stopped afterwards
	@dev/run-tests

check: ## format, lints, house rules, documentation
	@dev/run-check

bench: ## benchmarks and the load generator; the table is under target/bench
	@dev/run-bench

build: ## a release build of the programs
	@dev/run-build

stack-up: ## start the services and leave them running
	@dev/stack up

stack-down: ## stop the services
	@dev/stack down
