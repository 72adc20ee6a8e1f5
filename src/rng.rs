//! Philox 4x32-10, the counter-based generator behind every random choice.
//!
//! A counter-based generator has no hidden state: word `i` of a stream is a pure function of
//! (seed, stream, i). Sample order, masks, crops, drop path and Gumbel noise therefore depend only
//! on (seed, epoch, index), never on the number of threads, on the device or on where a run was
//! resumed. Source: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3",
//! SC 2011; constants and known answers from the authors' Random123 library.

use rand::TryRng;
use std::convert::Infallible;

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// What a stream of random numbers is for; two purposes never share a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights of a model; the stream is numbered by the parameter.
    Init = 1,
    /// Order of the samples within an epoch.
    Order = 2,
    /// Crop, flip and colour jitter of one sample.
    Augment = 3,
    /// Mask of one sample.
    Mask = 4,
    /// Drop-path factors of one step.
    DropPath = 5,
    /// Gumbel noise of one step.
    Gumbel = 6,
    /// Synthetic scenes.
    Scene = 7,
    /// Linear probe: initial weights and batch order.
    Probe = 8,
    /// Inputs of tests and gradient checks.
    Check = 9,
    /// Inputs of timings.
    Bench = 10,
    /// Images that are kept out of training.
    HeldOut = 11,
    /// Mixup and cutmix of one batch.
    Mix = 12,
    /// Patches that stand in the hidden places of one batch.
    Replace = 13,
    /// Dropped channels of one step.
    Dropout = 14,
    /// Normal noise of one step.
    Gaussian = 15,
}

/// One block of four random words: ten rounds of Philox 4x32 applied to `counter` under `key`.
#[inline]
pub fn philox_4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(MULTIPLIER[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIER[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A stream of random words, numbered by (seed, purpose, a, b); implements `rand`'s `Rng`, so that
/// `rand` and `rand_distr` draw from it. `a` and `b` are usually epoch and sample index.
#[derive(Clone, Debug)]
pub struct Philox {
    key: [u32; 2],
    stream: [u32; 3],
    block: u32,
    words: [u32; 4],
    used: usize,
}

impl Philox {
    /// The stream (seed, purpose, a, b), from its first word.
    pub fn new(seed: u64, purpose: Purpose, a: u32, b: u32) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            stream: [purpose as u32, a, b],
            block: 0,
            words: [0; 4],
            used: 4,
        }
    }

    /// Block `block` of four words of this stream, without moving it.
    #[inline]
    pub fn block_at(&self, block: u32) -> [u32; 4] {
        let [p, a, b] = self.stream;
        philox_4x32_10([block, p, a, b], self.key)
    }

    #[inline]
    fn next_word(&mut self) -> u32 {
        if self.used == 4 {
            self.words = self.block_at(self.block);
            // A stream holds 2^34 words. Wrapping would repeat numbers silently.
            self.block = self.block.checked_add(1).expect("philox: stream exhausted");
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Uniform real in `[0, 1)` on the 2^-53 grid.
    pub fn unit(&mut self) -> f64 {
        let (lo, hi) = (self.next_word(), self.next_word());
        ((u64::from(hi) << 32 | u64::from(lo)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform real in `[lo, hi)`; a reversed interval is legal and covers the same numbers.
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.unit()
    }

    /// Uniform integer in `0..=max`, without bias.
    pub fn integer(&mut self, max: usize) -> usize {
        use rand::RngExt;
        self.random_range(0..=max)
    }
}

impl TryRng for Philox {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next_word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let (lo, hi) = (self.next_word(), self.next_word());
        Ok(u64::from(hi) << 32 | u64::from(lo))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(4) {
            let word = self.next_word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // Random123, kat_vectors, lines "philox4x32 10".
        assert_eq!(
            philox_4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox_4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox_4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |a| {
            let mut r = Philox::new(7, Purpose::Mask, a, 3);
            [r.unit(), r.unit(), r.uniform(2.0, 1.0)]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!((1.0..=2.0).contains(&draw(1)[2]));
    }
}
