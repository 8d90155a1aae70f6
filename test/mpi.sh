# mpi.sh - for scripts whose ranks MPI joins; sourced after lib.sh.  $launch starts them, $build holds their programs; kills: the
# launcher kills the other ranks at once, before they can say why.  MPICC=mpicc.mpich MPIRUN=mpirun.mpich for another library.
: "${MPICC:=mpicc}" "${MPIRUN:=mpirun}"
command -v "$MPICC" >/dev/null && command -v "$MPIRUN" >/dev/null || skip "no MPI ($MPICC and $MPIRUN: Debian's libopenmpi-dev and openmpi-bin, or mpich and libmpich-dev)"
case $("$MPIRUN" --version 2>&1) in
*"Open MPI"*|*OpenRTE*) library=openmpi launch="$MPIRUN -q --allow-run-as-root --oversubscribe --bind-to none" build=build/cpu-mpi kills= ;;
*) library=mpich launch="$MPIRUN" build=build/cpu-mpich kills=1 ;;
esac
# build_ranks FOLDER TARGET...: with programs for ranks in FOLDER, or the end
build_ranks() {
    bin=$1; shift
    make -s -j2 MPI=1 MPICC="$MPICC" BUILD="$build" BIN="$bin" "$@" >"$work/out" 2>&1 || { wrong "make MPI=1"; finish; }
}
