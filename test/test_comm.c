/* One rank: every call is the identity, and in a build without an engine a launcher's further processes are refused. */
#include "common/model/comm.h"
#include "common/model/device.h"
#include "test/test.h"

#include <stdlib.h>
#include <string.h>

enum { N = 7 };

static void test_identities(struct comm *c)
{
    static const float numbers[N] = {1, -2, 3.5f, 0, 1e-30f, 6, 7};
    double sums[3] = {0.1, -2, 5}, host[2] = {1, 2}, all[2] = {0};
    float *x = device_alloc(sizeof numbers), *y = device_alloc(sizeof numbers), seen[2][N];
    device_put(x, numbers, sizeof numbers);
    comm_sum(c, GROUP_TENSOR, x, N);
    comm_share(c, GROUP_WORLD, x, sizeof numbers, 0);
    comm_sum_scatter(c, GROUP_DATA, x, x, 0, N, N, false);
    comm_gather(c, GROUP_DATA, x, x, sizeof numbers);
    for (int gather = 0; gather < 2; gather++) {
        device_clear(y, sizeof numbers);
        if (gather) comm_gather(c, GROUP_DATA, y, x, sizeof numbers);
        else comm_sum_scatter(c, GROUP_DATA, y, x, 0, N, N, false);
        comm_wait(c);
        device_get(seen[0], x, sizeof numbers);
        device_get(seen[1], y, sizeof numbers);
        device_wait();
        CHECK(memcmp(seen[0], numbers, sizeof numbers) == 0 && memcmp(seen[1], numbers, sizeof numbers) == 0);
    }
    comm_gather_host(c, GROUP_WORLD, all, host, sizeof host);
    comm_add(c, GROUP_DATA, sums, 2, 1);
    CHECK(all[0] == 1 && all[1] == 2 && sums[0] == 0.1 && sums[1] == -2 && sums[2] == 5);
    device_free(x, sizeof numbers);
    device_free(y, sizeof numbers);
}

/* Variables of a launcher with their values; code: what comm_open says; word: what its sentence names. */
static void launched(int code, const char *word, const char *const variable[6])
{
    struct comm *c;
    struct error error = {0};
    for (int i = 0; i < 6 && variable[i]; i += 2) setenv(variable[i], variable[i + 1], 1);
    CHECK(comm_open(&c, NULL, 1, 1, &error) == (code ? -1 : 0) && error.exit_code == code);
    CHECK(!code || strstr(error.text, word));
    for (int i = 0; i < 6 && variable[i]; i += 2) unsetenv(variable[i]);
}

#define LAUNCHED(code, word, ...) launched(code, word, (const char *const[6]){__VA_ARGS__})

int main(void)
{
    static const char *const mine[] = {
        "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK", "WORLD_SIZE", "RANK",
        "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_ID"};
    struct comm *c;
    struct error error;
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) unsetenv(mine[i]);
    CHECK(comm_open(&c, NULL, 1, 1, &error) == 0);
    struct place p = comm_place(c);
    CHECK(p.rank == 0 && p.world == 1 && p.tensor == 0 && p.t == 1 && p.data == 0 && p.d == 1 && p.pipe == 0 && p.p == 1);
    CHECK(p.local == 0 && p.locals == 1 && comm_agree(c, 0, &error) == 0 && comm_agree(c, -1, &error) == -1);
    test_identities(c);
    if (*comm_engine()) return test_end("test_comm");          /* check_ranks.sh starts the ranks of such a build */
    const int no = EXIT_UNAVAILABLE, half = EXIT_USAGE;
    LAUNCHED(no, "one of 2 processes", "OMPI_COMM_WORLD_SIZE", "2", "OMPI_COMM_WORLD_RANK", "0");
    LAUNCHED(no, "one of 2 processes", "PMI_SIZE", "2", "PMI_RANK", "1");
    LAUNCHED(no, "one of 3 processes", "WORLD_SIZE", "3", "RANK", "2");
    LAUNCHED(no, "one of 2 processes", "SLURM_STEP_NUM_TASKS", "2", "SLURM_PROCID", "0", "SLURM_STEP_ID", "0");
    LAUNCHED(0, "", "SLURM_STEP_NUM_TASKS", "2", "SLURM_PROCID", "0");          /* a batch script without a step */
    LAUNCHED(0, "", "OMPI_COMM_WORLD_SIZE", "1", "OMPI_COMM_WORLD_RANK", "0", "WORLD_SIZE", "2");   /* the first whole one */
    LAUNCHED(half, "RANK is not", "WORLD_SIZE", "2");
    LAUNCHED(half, "PMI_SIZE is not", "PMI_RANK", "0");
    LAUNCHED(half, "'two'", "WORLD_SIZE", "two", "RANK", "0");
    LAUNCHED(half, "rank 2 of 2", "WORLD_SIZE", "2", "RANK", "2");
    return test_end("test_comm");
}
