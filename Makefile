# The doors. What happens behind one is in dev/.
.PHONY: help demo test check model coherence mutants bench build stack-up stack-down history coherence-live replicas gateway

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: ## the whole line on real services; ORDERS= SEED= STORE=hbase DATA=dump.sql KEEP=1
	@dev/run-demo

test: ## every test, on real services that are stopped afterwards
	@dev/run-tests

check: ## format, lints, house rules, documentation
	@dev/run-check

model: ## the heart in a million random orders, and small cases in every one; SCHEDULES= SEED=
	@dev/run-model

coherence: ## lookups judged while everything around them fails, in one process; CHECKS= SEED=
	@dev/run-coherence

mutants: ## each rule taken out in turn: its test must fail; MUTANTS=rule-01
	@dev/run-mutants

history: ## random positions against a replay of the log, on real services; CHECKS=
	@dev/run-history

coherence-live: ## lookups judged while real services break; CHECKS= FAULT_SECONDS=
	@dev/run-coherence-live

replicas: ## three replicas, the writer killed again and again under updates; CYCLES=
	@dev/run-replicas

gateway: ## HBase's gateway gone for a while under load; OUTAGE_SECONDS=
	@dev/run-gateway

bench: ## benchmarks and the load generator; the table is under target/bench
	@dev/run-bench

build: ## a release build of the programs
	@dev/run-build

stack-up: ## start the services and leave them running
	@dev/stack up

stack-down: ## stop the services
	@dev/stack down
