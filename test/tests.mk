# tests.mk - the tests, the tools they use, and the checking build with device memory out of reach (SEAM=1).

UNITS    := $(patsubst %.c,$(BUILD)/%,$(filter-out $(if $(CUDA)$(SIM),$(CPU_TESTS)),$(wildcard test/test_*.c))) \
            $(CUDA_TESTS)
TOOLS    := $(patsubst %.c,$(BUILD)/%,$(wildcard test/demo/*.c test/tool_*.c)) $(SIM_TOOLS)
ifneq ($(SEAM),)
TOOLS    += $(BUILD)/test/seam/fault
SEAM_OBJECT := $(BUILD)/test/seam/seam.o
ALL_LDFLAGS += -rdynamic $(SEAM_OBJECT) -Wl,@$(BUILD)/seam/wrapped
endif
GPU_BENCH := test/bench/bench_gpu.c
BENCHES  := $(patsubst %.c,$(BUILD)/%,$(if $(CUDA)$(SIM),$(GPU_BENCH),$(filter-out $(GPU_BENCH), \
              $(wildcard test/bench/*.c))))

tests: $(PROGRAMS) $(UNITS) $(TOOLS)

$(UNITS) $(TOOLS) $(BENCHES): $(BUILD)/%: $(BUILD)/%.o $(LIB) $(SEAM_OBJECT)
	$(SAY) "  LINK $@"
	$(QUIET)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $< $(LIB) $(LDLIBS) -o $@

# Programs for several ranks one of which meets a fault (test/check_rank_faults.sh).
FAULTY := pretrain rlhf
WRAPPED := engine_meet engine_start engine_wait model_forward gradient_sum evaluation_next rollout_sample train_save pwrite \
           fsync fallocate renameat rename close openat
$(FAULTY:%=$(BUILD)/test/faulty/%): $(BUILD)/test/faulty/%: $(BUILD)/%/main.o $(BUILD)/test/rank_faults.o $(LIB)
	@mkdir -p $(@D)
	$(SAY) "  LINK $@"
	$(QUIET)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(WRAPPED:%=-Wl,--wrap=%) $^ $(LDLIBS) -o $@

$(BUILD)/seam/wrap.h: test/seam/wrap.sh common/model/ops.h
	@mkdir -p $(@D)
	$(QUIET)test/seam/wrap.sh common/model/ops.h $@ $(BUILD)/seam/wrapped

$(SEAM_OBJECT): $(BUILD)/seam/wrap.h
$(SEAM_OBJECT): ALL_CFLAGS += -I$(BUILD)/seam

# The simulator runs its subset, unless TESTS names others, with sums of products in one order (CUDASIM_PRODUCTS).
RUN_SIM = $(if $(SIM),CUDASIM_PRODUCTS=$${CUDASIM_PRODUCTS:-fixed} \
            TESTS="$${TESTS:-$$(cat test/cudasim/subset$(if $(SAN),-asan))}")
# A GPU runs the same ones.
RUN_TESTS = test/$(if $(CUDA),gpu_tests.sh,run.sh default)

# Tests print "name: P passed, F failed[, S skipped]"; run.sh adds them up.
test:      packages
	@$(MAKE) tests
	@$(RUN_SIM) BIN=$(BIN) BUILD=$(BUILD) $(RUN_TESTS)
test-full: packages
	@$(MAKE) tests
	@BIN=$(BIN) BUILD=$(BUILD) test/run.sh full

# Products by Intel AMX with its instructions in plain C (test/amx), after make PRECISION=bf16: the same objects but one.
AMX       := $(BUILD)/amx
AMX_TESTS := test_tile test_matmul test_attention test_model test_train test_sample test_ppo check_amx
AMX_BUILT := $(PROGRAMS:$(BIN)/%=$(AMX)/bin/%) $(patsubst %,$(AMX)/test/%,$(filter test_%,$(AMX_TESTS)))
$(foreach m,$(MAINS),$(eval $(AMX)/bin/$(notdir $(m:%/main.c=%)): $(BUILD)/$(m:.c=.o)))
$(filter $(AMX)/test/%,$(AMX_BUILT)): $(AMX)/test/%: $(BUILD)/test/%.o
$(AMX_BUILT): $(AMX)/tile_amx.o $(LIB)
	@mkdir -p $(@D)
	$(SAY) "  LINK $@"
	$(QUIET)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(filter %.o,$^) $(LIB) $(LDLIBS) -o $@
$(AMX)/tile_amx.o: common/cpu/tile_amx.c
	@mkdir -p $(@D)
	$(SAY) "  CC   $< with test/amx"
	$(QUIET)$(CC) -Itest/amx $(ALL_CFLAGS) -c $< -o $@
test-amx: packages
	@$(MAKE) $(AMX_BUILT) $(TOOLS)
	@BIN=$(AMX)/bin BUILD=$(AMX) TESTS="$${TESTS:-$(AMX_TESTS)}" test/run.sh default

# Everything that the simulator can run; its part that removes barriers; and that for ThreadSanitizer (make SIM=1
# SAN=tsan sim-once).
sim-full: packages
	@test/cudasim/full.sh
sim-barriers:
	@test/cudasim/barriers.sh
sim-tools: $(SIM_TOOLS) $(BUILD)/test/tool_once
sim-once: sim-tools
	@BUILD=$(BUILD) test/check_cudasim.sh

# The job scripts of docs/batch through a private Slurm (slurm-wlm and munge), with ranks where there is an mpicc.
test-slurm: $(PROGRAMS)
	@if command -v mpicc >/dev/null; then $(MAKE) -s MPI=1 BUILD=build/cpu-mpi BIN=build/cpu-mpi/bin all; fi
	@BIN=$(BIN) BUILD=$(BUILD) RANKS=build/cpu-mpi/bin test/slurm/run.sh

# Hours of killing, stopping and resuming the four programs, on several ranks where there is an mpicc.
HOURS ?= 2
soak: $(PROGRAMS)
	@if command -v mpicc >/dev/null; then $(MAKE) -s MPI=1 BUILD=build/cpu-mpi BIN=build/cpu-mpi/bin all; fi
	@BIN=$(BIN) BUILD=$(BUILD) RANKS=build/cpu-mpi/bin test/soak.sh $(HOURS)

bench-build: $(PROGRAMS) $(BENCHES) $(TOOLS)
bench: bench-build
	@BIN=$(BIN) BUILD=$(BUILD) test/bench/$(if $(CUDA)$(SIM),gpu,run).sh
bench-growth: $(PROGRAMS) $(BENCHES) $(TOOLS)
	@BIN=$(BIN) BUILD=$(BUILD) test/bench/growth.sh

fuzz:
	@BUILD=build/fuzz FUZZ_SECONDS=$(FUZZ_SECONDS) test/fuzz/run.sh

.PHONY: tests test test-amx test-full sim-full sim-barriers sim-tools sim-once test-slurm soak bench bench-build bench-growth fuzz
