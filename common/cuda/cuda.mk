# cuda.mk - how the .cu files are built: by nvcc, or (SIM=1) rewritten for g++ and linked with the simulator.
ifeq ($(wildcard $(CUDA_HOME)/include/cublasLt.h),)
$(error no CUDA toolkit: put nvcc on the PATH or set CUDA_HOME)
endif

KERNELS  := $(filter-out $(filter-out $(ENGINE),common/cuda/engine_nccl.cu),$(wildcard common/cuda/*.cu))
OBJECTS  += $(KERNELS:%.cu=$(BUILD)/%.o)
CU_FLAGS := $(if $(filter bf16,$(PRECISION)),-DACT_BF16) -I. -Icommon/cuda $(if $(NCCL_HOME),-I$(NCCL_HOME)/include)
# What these look at belongs to the CPU backend.
CPU_TESTS := test/test_tile.c test/test_vector.c test/test_threads.c
CUDA_TESTS := $(patsubst %.cu,$(BUILD)/%,$(wildcard test/test_*.cu))

ifneq ($(SIM),)
SIM_SOURCES := $(filter-out $(if $(NCCL),,test/cudasim/nccl.cpp),$(wildcard test/cudasim/*.cpp))
SIM_TOOLS   := $(BUILD)/test/cudasim/faults
OBJECTS     += $(SIM_SOURCES:%.cpp=$(BUILD)/%.o)
CXX         := $(if $(filter default,$(origin CXX)),g++,$(CXX))
SIM_FLAGS   := -std=gnu++17 $(CFLAGS) $(if $(ARCH),-march=$(ARCH)) -fno-math-errno -Wall -Wextra -Wno-unknown-pragmas \
               -Wno-unused-function -Werror $(CU_FLAGS) -Itest/cudasim/include -isystem $(CUDA_HOME)/include -MMD -MP \
               $(if $(SAN),-O1 -fno-omit-frame-pointer)
# ThreadSanitizer looks at kernels and host code; what the simulator does itself is no access of theirs (race.h).
SIM_SANITIZE := $(if $(SAN),$(SANITIZE) -fno-sanitize-recover=all)
SIM_OWN      := $(if $(filter tsan,$(SAN)),-DCUDASIM_TSAN -fno-tree-loop-distribute-patterns,$(SIM_SANITIZE))
LDLIBS      += -lstdc++

$(BUILD)/rewrite: test/cudasim/rewrite.c
	@mkdir -p $(@D)
	$(SAY) "  CC   $<"
	$(QUIET)$(CC) -O2 $(WARN) $< -o $@

HEADERS := $(patsubst %,$(BUILD)/rewritten/%,$(wildcard common/cuda/*.h))
$(HEADERS): $(BUILD)/rewritten/%: % $(BUILD)/rewrite
	@mkdir -p $(@D)
	$(QUIET)$(BUILD)/rewrite $< >$@

$(BUILD)/%.o: %.cu $(HEADERS) $(BUILD)/rewrite $(BUILD)/arch Makefile common/cuda/cuda.mk
	@mkdir -p $(@D)
	$(SAY) "  SIM  $<"
	$(QUIET)$(BUILD)/rewrite $< >$(@:.o=.cpp)
	$(QUIET)$(CXX) -I$(BUILD)/rewritten $(SIM_FLAGS) $(SIM_SANITIZE) -c $(@:.o=.cpp) -o $@

# A test with one kernel file as it is now, and the rest as it was (barriers.sh).
$(BUILD)/changed-%: $(BUILD)/common/cuda/%.o
	$(QUIET)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(BUILD)/$(CHANGED).o $< $(LIB) $(LDLIBS) -o $@

$(BUILD)/test/cudasim/%.o: test/cudasim/%.cpp $(BUILD)/arch Makefile common/cuda/cuda.mk
	@mkdir -p $(@D)
	$(SAY) "  CXX  $<"
	$(QUIET)$(CXX) $(SIM_FLAGS) $(SIM_OWN) -c $< -o $@
else
# Machine code for each of these, and the last one's PTX for what comes later.  ptxas reports what a kernel takes.
CUDA_TARGETS ?= 80 90 100 120
NVCC_FLAGS := -std=c++17 -O3 -lineinfo $(foreach t,$(CUDA_TARGETS),-gencode arch=compute_$t,code=sm_$t) \
              $(foreach t,$(lastword $(CUDA_TARGETS)),-gencode arch=compute_$t,code=compute_$t) --threads 2 \
              -Werror all-warnings -Xcompiler -Wall,-Wextra,-Wno-unused-function \
              -Xcompiler -fno-exceptions,-fno-rtti,-fno-threadsafe-statics -ccbin $(CC) -Xptxas -v $(CU_FLAGS)
# The report of a kernel file that is no longer there.
STALE      := $(filter-out $(KERNELS:%.cu=$(BUILD)/%.ptxas),$(wildcard $(BUILD)/common/cuda/*.ptxas))
$(if $(STALE),$(shell rm -f $(STALE)))
LDLIBS     += -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lcudart \
              $(if $(NCCL),$(if $(NCCL_HOME),-L$(NCCL_HOME)/lib -Wl$(comma)-rpath$(comma)$(NCCL_HOME)/lib) -lnccl)

$(BUILD)/%.o: %.cu $(wildcard common/cuda/*.h common/model/*.h common/base/*.h) Makefile common/cuda/cuda.mk
	@mkdir -p $(@D)
	$(SAY) "  NVCC $<"
	$(QUIET)$(CUDA_HOME)/bin/nvcc $(NVCC_FLAGS) -c $< -o $@ 2>$(@:.o=.ptxas) || { cat $(@:.o=.ptxas) >&2; exit 1; }
endif
