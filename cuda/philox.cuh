// Philox 4x32-10, the same words as src/rng.rs.
#pragma once
#include "prelude.cuh"

// Word i mod 4 of block i / 4 of the stream (key, purpose, a, b).
DEV unsigned philox_word(Index i, unsigned purpose, unsigned a, unsigned b, unsigned key0,
                         unsigned key1) {
  unsigned c0 = (unsigned)(i / 4), c1 = purpose, c2 = a, c3 = b;
  for (int round = 0; round < 10; ++round) {
    const unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  const Index word = i % 4;
  return word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
}

// -ln(-ln u), u = (word + 1/2) / 2^32, in f64 as on the CPU: at f32, u would round to 1.
DEV master gumbel(unsigned word) {
  const double u = ((double)word + 0.5) * (1.0 / 4294967296.0);
  return (master)(-log(-log(u)));
}

// Element i of the stream in standard normal numbers, in f64 as on the CPU: elements 2j and 2j + 1 are
// the two coordinates that Box and Muller make of words 2j and 2j + 1.
DEV master normal(Index i, unsigned purpose, unsigned a, unsigned b, unsigned key0, unsigned key1) {
  const Index even = i - i % 2;
  const unsigned first = philox_word(even, purpose, a, b, key0, key1);
  const unsigned second = philox_word(even + 1, purpose, a, b, key0, key1);
  const double u = ((double)first + 0.5) * (1.0 / 4294967296.0);
  const double angle = ((double)second + 0.5) * (6.283185307179586477 / 4294967296.0);
  return (master)(sqrt(-2 * log(u)) * (i % 2 == 0 ? cos(angle) : sin(angle)));
}
