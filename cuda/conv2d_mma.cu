// Convolution on tensor cores without writing X out (src/ops/conv2d.rs): tiles of X, the inputs under
// the kernel at 128 pixels, are gathered into shared memory 32 columns at a time while the tiles before
// are multiplied. bf16 operands, f32 sums; input channels in multiples of 8, output channels of 2.
// conv2d.cu has the plain form, which judges this one.
#include "prelude.cuh"

#if defined(BEIT_BF16)

// Pixels, columns of X and tiles in flight of one block.
#define PIXELS 128
#define DEPTH 32
#define STAGES 3
// Numbers of a row in shared memory: 8 more, so that rows lie in other banks.
#define PITCH (DEPTH + 8)

struct Image {
  Index first;  // of its numbers; -1 beyond the last pixel
  int row, col;
};

// Negative halves become 0.
DEV unsigned rectified(unsigned pair) { return pair & ~(((pair >> 15) & 0x00010001u) * 0xffffu); }

// `mine` is what one block makes: 128 pixels by N outputs. One of y (bf16) and sums (f32) is null.
//   y    = conv + bias, and 0 where `mask`, of the shape of y, is not above 0
//   sums = (add ? sums : 0) + scale (conv + bias)
template <int N>
DEV void convolve(const elem* x, const elem* weight, const master* bias, elem* y, master* sums,
                  const elem* mask, double scale, Index add, Index pixels, Index height,
                  Index width, Index input, Index output, Index kernel, Index relu) {
  DYNAMIC_SHARED(elem, a_tiles);                        // [STAGES,PIXELS,PITCH]
  elem* b_tiles = a_tiles + STAGES * PIXELS * PITCH;    // [STAGES,N,PITCH]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int chunk = threadIdx.x % 4 * 8, own_row = threadIdx.x / 4;  // of 64 rows
  const Index first_pixel = (Index)blockIdx.x * PIXELS, first_out = (Index)blockIdx.y * N;
  const int taps = (int)(kernel * kernel * input), pad = (int)kernel / 2;
  Image images[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const Index p = first_pixel + own_row + 64 * i;
    images[i] = {p < pixels ? p / (height * width) * height * width * input : -1,
                 (int)(p / width % height), (int)(p % width)};
  }
  const auto load = [&](int tile) {
    const int at = tile * DEPTH + chunk, stage = tile % STAGES;
    const int tap = at / (int)input, channel = at % (int)input;
    const int u = tap / (int)kernel - pad, v = tap % (int)kernel - pad;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = images[i].row + u, col = images[i].col + v;
      const bool inside = at < taps && images[i].first >= 0 && row >= 0 && row < (int)height &&
                          col >= 0 && col < (int)width;
      const Index from = inside ? images[i].first + ((Index)row * width + col) * input + channel : 0;
      cp_async16_zfill(a_tiles + (stage * PIXELS + own_row + 64 * i) * PITCH + chunk, x + from,
                       inside);
    }
#pragma unroll
    for (int i = 0; i < N / 64; ++i) {
      const Index o = first_out + own_row + 64 * i;
      const bool inside = at < taps && o < output;
      cp_async16_zfill(b_tiles + (stage * N + own_row + 64 * i) * PITCH + chunk,
                       weight + (inside ? o * taps + at : 0), inside);
    }
  };
  // Warps share the tile as 4 x 2: 32 pixels by N / 2 outputs each.
  const int own_pixels = warp % 4 * 32, own_outputs = warp / 4 * (N / 2);
  float acc[2][N / 16][4] = {};
  const int tiles = (taps + DEPTH - 1) / DEPTH;
#pragma unroll
  for (int tile = 0; tile < STAGES - 1; ++tile) {
    if (tile < tiles) load(tile);
    cp_async_commit();
  }
  for (int tile = 0; tile < tiles; ++tile) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // this tile is there for all, and all are done with the one before
    if (tile + STAGES - 1 < tiles) load(tile + STAGES - 1);
    cp_async_commit();
    const elem* a = a_tiles + (tile % STAGES * PIXELS + own_pixels) * PITCH;
    const elem* b = b_tiles + (tile % STAGES * N + own_outputs) * PITCH;
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
      unsigned fa[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        ldsm_x4(fa[m], a + (16 * m + lane % 16) * PITCH + k + lane / 16 * 8);
        if (relu) {
#pragma unroll
          for (int e = 0; e < 4; ++e) fa[m][e] = rectified(fa[m][e]);
        }
      }
#pragma unroll
      for (int n = 0; n < N / 32; ++n) {
        unsigned fb[4];
        const int matrix = lane / 8;
        ldsm_x4(fb, b + (16 * n + matrix / 2 * 8 + lane % 8) * PITCH + k + matrix % 2 * 8);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          mma_16816(acc[m][2 * n], fa[m], {fb[0], fb[1]});
          mma_16816(acc[m][2 * n + 1], fa[m], {fb[2], fb[3]});
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Index p = first_pixel + own_pixels + 16 * m + lane / 4 + 8 * half;
      if (p >= pixels) continue;
#pragma unroll
      for (int n = 0; n < N / 16; ++n) {
        const Index o = first_out + own_outputs + 8 * n + lane % 4 * 2;
        if (o >= output) continue;
        float low = acc[m][n][2 * half], high = acc[m][n][2 * half + 1];
        if (bias) {
          low += bias[o];
          high += bias[o + 1];
        }
        const Index at = p * output + o;
        if (y) {
          if (mask) {
            low = wide(mask[at]) > 0 ? low : 0;
            high = wide(mask[at + 1]) > 0 ? high : 0;
          }
          *reinterpret_cast<unsigned*>(y + at) = pack_bf16(low, high);
        } else {
          sums[at] = (add ? sums[at] : 0) + (float)scale * low;
          sums[at + 1] = (add ? sums[at + 1] : 0) + (float)scale * high;
        }
      }
    }
  }
}

// A block of 256 threads per 128 pixels (x) and N outputs (y).
#define MMA_KERNELS(N)                                                                            \
  KERNEL(conv2d_mma_##N)                                                                          \
  (const elem* x, const elem* weight, const master* bias, elem* y, master* sums, const elem* mask, \
   double scale, Index add, Index pixels, Index height, Index width, Index input, Index output,   \
   Index kernel, Index relu) {                                                                    \
    convolve<N>(x, weight, bias, y, sums, mask, scale, add, pixels, height, width, input, output, \
                kernel, relu);                                                                    \
  }                                                                                               \
  EXPORT(conv2d_mma_##N)

MMA_KERNELS(64)
MMA_KERNELS(128)
#undef MMA_KERNELS

#endif
