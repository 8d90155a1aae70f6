# make             build the programs into bin/ (make packages first where zlib, PCRE2, jansson or utf8proc are missing)
# make demo        install what is missing, build, and raise a small model through all four stages (minutes)
# make test        the default tests (under ten minutes);  make test-full: all of them
# make SAN=1 test  under AddressSanitizer and UBSan;  SAN=tsan: ThreadSanitizer
# make PRECISION=bf16 activations and packed weights in bfloat16: programs in bin-bf16/ (docs/precision.md)
# make SEAM=1 test with device memory that host code cannot touch (test/seam/seam.c)
# make PRECISION=bf16 test-amx  some of the tests with the tiles of Intel AMX, in plain C (test/amx/common/cpu/amx.h)
# make CUDA=1      the programs on an NVIDIA GPU, into build/cuda/bin (docs/cuda.md); the toolkit is that of nvcc on the
#                  PATH, or CUDA_HOME.  PRECISION=bf16 (default there) or f32
# make MPI=1       programs for several processes, into bin-mpi/ (docs/distributed.md); MPICC=mpicc names the compiler
#                  NCCL joins GPUs where nccl.h is found: in the toolkit, in /usr, or in NCCL_HOME
# make SIM=1 test  the CUDA backend on the CPU, under the simulator (test/cudasim); SAN=1 as above
# make sim-full    all that the simulator can run: precisions, sanitizers, orders of threads and streams (long)
# make bench       speed of every part as a ratio to the machine's limits, measured in the same run
# make bench-growth  how cost grows with parameters, context, vocabulary, batches, threads and data (minutes)
# make soak        HOURS=2 of killing, stopping and resuming all four programs, on one and on several ranks
# make fuzz        every fuzz target for FUZZ_SECONDS (60) each (needs clang)
# make install     PREFIX=/usr/local: programs with the prefix quartet-, so that none shadows rm; their manual pages;
#                  make uninstall removes them (docs/packages.mk)
# make man         manual pages and bash completion in build/cpu/man
# make dist        build/quartet-VERSION.tar.gz of the last commit: the same commit gives the same bytes
# make deb         a Debian package in build/, for x86-64-v3 (AVX2) or the ARCH given
#
# ARCH=native (default) builds for this machine; ARCH=x86-64-v3, x86-64-v4, armv8-a ... for another; ARCH= for any.
# A build folder keeps what it was given last, so that make install installs it.

ARCH   ?= native
SAN    ?=
SEAM   ?=
CUDA   ?=
SIM    ?=
MPI    ?=
MPICC  ?= mpicc
ifeq ($(origin CC),default)
CC     := gcc
endif
ifneq ($(MPI),)
CC     := $(MPICC)
endif
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60

# The backend: common/cpu, or common/cuda by nvcc (CUDA=1) or for the simulator (SIM=1).
BACKEND   := $(if $(CUDA)$(SIM),cuda,cpu)
PRECISION ?= $(if $(filter cuda,$(BACKEND)),bf16,f32)
ifeq ($(filter f32 bf16,$(PRECISION)),)
$(error PRECISION is '$(PRECISION)', expected f32 or bf16)
endif
ifneq ($(MPI),)
ifneq ($(CUDA)$(SIM),)
$(error MPI=1 joins ranks on CPUs: in the CUDA build NCCL does)
endif
endif
# The name of a build tells a precision that is not its backend's usual one.
UNUSUAL := $(if $(filter cpu-bf16 cuda-f32,$(BACKEND)-$(PRECISION)),-$(PRECISION))
RANKS   := $(if $(MPI),-mpi)
CHECKED := $(if $(SAN),-$(if $(filter tsan,$(SAN)),tsan,asan))$(if $(SEAM),-seam)
BUILD   := build/$(if $(SIM),sim,$(BACKEND))$(UNUSUAL)$(RANKS)$(CHECKED)
BIN     := $(if $(SAN)$(SEAM)$(CUDA)$(SIM),$(BUILD)/bin,bin$(UNUSUAL)$(RANKS))

WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
          -Wno-missing-field-initializers -Werror
CFLAGS ?= -O3 -g
ALL_CFLAGS = -std=gnu11 $(CFLAGS) $(if $(ARCH),-march=$(ARCH)) -ffp-contract=fast -fno-math-errno -fno-trapping-math \
             $(WARN) $(if $(filter bf16,$(PRECISION)),-DACT_BF16) -I. -Icommon/$(BACKEND) -MMD -MP -pthread
LDLIBS := -ljansson -lpcre2-8 -lutf8proc -lz -lm -pthread
comma  := ,
# Optional libraries: libzstd (.zst files are read), libedit (chat edits lines), libmicrohttpd (chat --serve)
links   = $(shell echo 'int main(void) { return $(3) == 0; }' | $(CC) -include $(1) -x c - $(2) -o /dev/null 2>/dev/null && echo 1)
ZSTD   := $(call links,zstd.h,-lzstd,ZSTD_versionNumber())
EDIT   := $(call links,histedit.h,-ledit,history_init())
HTTP   := $(call links,microhttpd.h,-lmicrohttpd,MHD_get_version())
ALL_CFLAGS += $(if $(filter 1,$(ZSTD)),-DHAVE_ZSTD) $(if $(filter 1,$(EDIT)),-DHAVE_LIBEDIT) \
              $(if $(filter 1,$(HTTP)),-DHAVE_MICROHTTPD)
LDLIBS += $(if $(filter 1,$(ZSTD)),-lzstd) $(if $(filter 1,$(EDIT)),-ledit) $(if $(filter 1,$(HTTP)),-lmicrohttpd)
ifneq ($(SAN),)
SANITIZE := -fsanitize=$(if $(filter tsan,$(SAN)),thread,address$(comma)undefined)
ALL_CFLAGS += -O1 -fno-omit-frame-pointer $(SANITIZE) $(if $(filter tsan,$(SAN)),,-fno-sanitize-recover=all)
ALL_LDFLAGS += $(SANITIZE)
endif
# What the objects are built for: none given keeps it, another one builds all of them anew.
BUILT  := $(shell cat $(BUILD)/arch 2>/dev/null)
ifeq ($(origin ARCH)$(if $(BUILT),-kept),file-kept)
ARCH   := $(BUILT:any=)
endif
ifneq ($(BUILT),$(or $(ARCH),any))
.PHONY: $(BUILD)/arch
endif
SAY    := $(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),@:,@echo)      # V=1 shows the whole commands instead
QUIET  := $(if $(V),,@)

.DEFAULT_GOAL := all
# Every program has one file with main(); all other files go into one archive and the linker takes what it needs.
MAINS    := pretrain/main.c sft/main.c rm/main.c rlhf/main.c rlhf/chat/main.c format/ckpt/main.c
PROGRAMS := $(addprefix $(BIN)/,pretrain sft rm rlhf chat ckpt)
# What joins ranks: MPI, NCCL where the CUDA build finds it, or nothing.
CUDA_HOME ?= $(patsubst %/bin/,%,$(dir $(shell command -v nvcc 2>/dev/null)))
NCCL     := $(if $(CUDA)$(SIM),$(firstword $(wildcard $(NCCL_HOME)/include/nccl.h $(CUDA_HOME)/include/nccl.h \
              /usr/include/nccl.h)))
ENGINE   := common/$(if $(MPI),comm/engine_mpi.c,$(if $(NCCL),cuda/engine_nccl.cu,comm/engine_none.c))
SOURCES  := $(filter-out $(MAINS) $(if $(CUDA)$(SIM),common/cpu/%) \
              $(filter-out $(ENGINE),common/comm/engine_none.c common/comm/engine_mpi.c), \
              $(wildcard common/*/*.c format/*.c format/ckpt/*.c pretrain/*.c sft/*.c rm/*.c rlhf/*.c rlhf/chat/*.c))
OBJECTS  := $(SOURCES:%.c=$(BUILD)/%.o)
ifneq ($(CUDA)$(SIM),)
include common/cuda/cuda.mk
endif
LIB      := $(BUILD)/libquartet.a
include test/tests.mk

all: $(PROGRAMS)

$(BUILD)/format/ckpt/report_page.o: format/ckpt/report.css
$(BIN)/pretrain: $(BUILD)/pretrain/main.o
$(BIN)/sft:      $(BUILD)/sft/main.o
$(BIN)/rm:       $(BUILD)/rm/main.o
$(BIN)/rlhf:     $(BUILD)/rlhf/main.o
$(BIN)/chat:     $(BUILD)/rlhf/chat/main.o
$(BIN)/ckpt:     $(BUILD)/format/ckpt/main.o

$(PROGRAMS): $(LIB) $(SEAM_OBJECT)
	@mkdir -p $(@D)
	$(SAY) "  LINK $@"
	$(QUIET)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(filter-out $(SEAM_OBJECT),$(filter %.o,$^)) $(LIB) $(LDLIBS) -o $@

$(LIB): $(OBJECTS)
	@rm -f $@
	$(SAY) "  AR   $@"
	$(QUIET)ar rcs $@ $^

# Once a build: what is needed is there.
NEEDED = $(call links,jansson.h -include zlib.h -include utf8proc.h,-ljansson -lpcre2-8 -lutf8proc -lz,json_true())
$(BUILD)/needed:
	@mkdir -p $(@D)
	@$(if $(NEEDED),touch $@,$(error zlib, PCRE2, jansson and utf8proc are needed, with development files: run make packages))

$(BUILD)/arch:
	@mkdir -p $(@D)
	@echo $(or $(ARCH),any) >$@

$(BUILD)/%.o: %.c Makefile test/tests.mk $(BUILD)/arch | $(BUILD)/needed
	@mkdir -p $(@D)
	$(SAY) "  CC   $<"
	$(QUIET)$(CC) $(ALL_CFLAGS) -c $< -o $@

packages:
	@test/demo/packages.sh

demo: packages
	@$(MAKE) all $(BUILD)/test/demo/world
	@BIN=$(BIN) BUILD=$(BUILD) test/demo/demo.sh

include docs/packages.mk

clean:
	rm -rf build bin bin-bf16 bin-mpi bin-bf16-mpi

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

.PHONY: all packages demo clean
.SECONDARY:
