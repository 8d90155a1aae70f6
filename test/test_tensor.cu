/* test_tensor.cu - each wrapper of tensor.h by itself, against the layouts that the PTX manual gives: products of
 * numbered matrices, elements that are loaded, copies to shared memory.  The same on a GPU and in the simulator. */
#include "common/cuda/tensor.h"
#include "test/test.h"

enum { M = 16, N = 8, K = 16, LD = 24 };        /* rows of 48 bytes: three times 16, as rows of a padded tile */

/* Rows and columns of a lane's elements, in the words of the PTX manual ("Matrix Fragments for mma.m16n8k16"). */
__host__ __device__ static int a_row(int lane, int i)
{
    return (i < 2 || (i >= 4 && i < 6)) ? lane >> 2 : (lane >> 2) + 8;
}
__host__ __device__ static int a_column(int lane, int i) { return lane % 4 * 2 + (i & 1) + (i < 4 ? 0 : 8); }
__host__ __device__ static int b_row(int lane, int i) { return lane % 4 * 2 + (i & 1) + (i < 2 ? 0 : 8); }
__host__ __device__ static int b_column(int lane) { return lane >> 2; }
__host__ __device__ static int c_row(int lane, int i) { return i < 2 ? lane >> 2 : (lane >> 2) + 8; }
__host__ __device__ static int c_column(int lane, int i) { return lane % 4 * 2 + (i & 1); }

/* c += a b, by one warp */
static __global__ void product(float *c, const float *a, const float *b)
{
    int lane = (int)threadIdx.x;
    float sum[4];
    uint32_t x[4], y[2];
    for (int i = 0; i < 4; i++) sum[i] = c[c_row(lane, i) * N + c_column(lane, i)];
    for (int i = 0; i < 8; i += 2)
        x[i / 2] = pair_of(a[a_row(lane, i) * K + a_column(lane, i)], a[a_row(lane, i) * K + a_column(lane, i + 1)]);
    for (int i = 0; i < 4; i += 2)
        y[i / 2] = pair_of(b[b_row(lane, i) * N + b_column(lane)], b[b_row(lane, i + 1) * N + b_column(lane)]);
    multiply_add(sum, x, y[0], y[1]);
    for (int i = 0; i < 4; i++) c[c_row(lane, i) * N + c_column(lane, i)] = sum[i];
}

/* Four matrices (8,8), at rows 8 m of `from` (32,LD): loaded has the 8 elements of each lane. */
static __global__ void loads(float *loaded, const half_t *from, int turned)
{
    __shared__ uint4 memory[WARP][LD / 8];
    int lane = (int)threadIdx.x;
    half_t *row = (half_t *)memory[lane];
    for (int i = 0; i < LD / 8; i++) copy_16(row + 8 * i, from + lane * LD + 8 * i, true);
    copies_close();
    copies_wait<0>();
    __syncthreads();
    uint32_t x[4];
    if (turned) load_turned(x, row + 8);         /* the matrices are columns 8 to 15 */
    else load_matrices(x, row + 8);
    for (int m = 0; m < 4; m++)
        for (int i = 0; i < 2; i++) {
            half_t element;
            memcpy((void *)&element, (const char *)&x[m] + 2 * i, sizeof element);
            loaded[lane * 8 + 2 * m + i] = to_float(element);
        }
}

/* Two groups of copies, each of 16 bytes and of 4, and what is not there becomes 0. */
static __global__ void copies(float *to, const float *from)
{
    __shared__ uint4 memory[WARP * 5 / 4];
    float *rows = (float *)memory;
    int lane = (int)threadIdx.x;
    copy_16(rows + 4 * lane, from + 4 * lane, lane % 3 != 0);
    copies_close();
    copy_4(rows + 4 * WARP + lane, from + 4 * WARP + lane, lane % 5 != 0);
    copies_close();
    copies_wait<1>();
    __syncthreads();
    for (int i = 0; i < 4; i++) to[4 * lane + i] = rows[4 * (WARP - 1 - lane) + i];
    copies_wait<0>();
    __syncthreads();
    to[4 * WARP + lane] = rows[4 * WARP + WARP - 1 - lane];
}

static void *on_device(const void *host, size_t bytes)
{
    void *p = device_alloc(bytes);
    device_put(p, host, bytes);
    device_wait();
    return p;
}

static void from_device(void *host, void *device, size_t bytes)
{
    device_get(host, device, bytes);
    device_wait();
    device_free(device, bytes);
}

/* Whole numbers, so that every sum is exact in every order. */
static void check_product(void)
{
    float a[M * K], b[K * N], c[M * N], want[M * N];
    for (int i = 0; i < M * K; i++) a[i] = (float)(i * 37 % 113 - 56);
    for (int i = 0; i < K * N; i++) b[i] = (float)(i * 53 % 97 - 48);
    for (int i = 0; i < M * N; i++) want[i] = c[i] = (float)(1000 * i);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            for (int k = 0; k < K; k++) want[i * N + j] += a[i * K + k] * b[k * N + j];
    float *x = (float *)on_device(a, sizeof a), *y = (float *)on_device(b, sizeof b);
    float *z = (float *)on_device(c, sizeof c);
    product<<<1, WARP, 0, cuda_stream()>>>(z, x, y);
    cuda_launched("product");
    from_device(c, z, sizeof c);
    for (int i = 0; i < M * N; i++)
        test_check(c[i] == want[i], __FILE__, __LINE__, "element %d is %g, expected %g", i, (double)c[i],
                   (double)want[i]);
    device_free(x, sizeof a);
    device_free(y, sizeof b);
}

/* "ldmatrix": thread i holds elements (i / 4, 2 (i % 4)) and (i / 4, 2 (i % 4) + 1); with .trans rows and columns
 * change places. */
static void check_loads(int turned)
{
    half_t rows[WARP * LD];
    float loaded[WARP * 8];
    for (int i = 0; i < WARP * LD; i++) rows[i] = __float2bfloat16((float)(i % 128 + 128 * (i / 128 % 2)));
    half_t *from = (half_t *)on_device(rows, sizeof rows);
    float *to = (float *)device_alloc(sizeof loaded);
    loads<<<1, WARP, 0, cuda_stream()>>>(to, from, turned);
    cuda_launched("loads");
    from_device(loaded, to, sizeof loaded);
    for (int lane = 0; lane < WARP; lane++)
        for (int m = 0; m < 4; m++)
            for (int i = 0; i < 2; i++) {
                int row = lane / 4, column = lane % 4 * 2 + i, at = lane * 8 + 2 * m + i;
                float want = to_float(turned ? rows[(8 * m + column) * LD + 8 + row]
                                             : rows[(8 * m + row) * LD + 8 + column]);
                test_check(loaded[at] == want, __FILE__, __LINE__, "turned %d lane %d matrix %d: %g, expected %g",
                           turned, lane, m, (double)loaded[at], (double)want);
            }
    device_free(from, sizeof rows);
}

static void check_copies(void)
{
    float numbers[WARP * 5], got[WARP * 5];
    for (int i = 0; i < WARP * 5; i++) numbers[i] = (float)(i + 1);
    float *from = (float *)on_device(numbers, sizeof numbers), *to = (float *)device_alloc(sizeof got);
    copies<<<1, WARP, 0, cuda_stream()>>>(to, from);
    cuda_launched("copies");
    from_device(got, to, sizeof got);
    for (int lane = 0; lane < WARP; lane++) {
        int other = WARP - 1 - lane;
        for (int i = 0; i < 4; i++) CHECK(got[4 * lane + i] == (other % 3 ? numbers[4 * other + i] : 0));
        CHECK(got[4 * WARP + lane] == (other % 5 ? numbers[4 * WARP + other] : 0));
    }
    device_free(from, sizeof numbers);
}

int main(void)
{
    check_product();
    check_loads(0);
    check_loads(1);
    check_copies();
    return test_end("test_tensor");
}
