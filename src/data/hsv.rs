//! Hue, saturation and value of bytes, as OpenCV has them: hue in steps of two degrees, 0 to 179.

/// Fractional bits of a reciprocal.
const BITS: u32 = 12;
/// Hues of the circle.
const HUES: i32 = 180;

/// `numerator / x` in [`BITS`] fractional bits, rounded.
fn reciprocal(numerator: i32, x: i32) -> i32 {
    match x {
        0 => 0,
        x => (f64::from(numerator << BITS) / f64::from(x)).round_ties_even() as i32,
    }
}

/// `x` without its fractional bits, rounded.
fn rounded(x: i32) -> i32 {
    (x + (1 << (BITS - 1))) >> BITS
}

/// Hue, saturation and value of red, green and blue; bit-identical to OpenCV's.
pub fn to_hsv(rgb: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = rgb.map(i32::from);
    let v = r.max(g).max(b);
    let spread = v - r.min(g).min(b);
    let s = rounded(spread * reciprocal(255, v));
    let sixth = if v == r {
        g - b
    } else if v == g {
        b - r + 2 * spread
    } else {
        r - g + 4 * spread
    };
    // 180/6 and not 180/(6 spread): the quotient is rounded once.
    let h = rounded(sixth * reciprocal(HUES / 6, spread));
    [if h < 0 { h + HUES } else { h } as u8, s as u8, v as u8]
}

/// Red, green and blue of hue (below 180), saturation and value; bit-identical to OpenCV's where it works on
/// whole vectors. There it truncates; of the last pixels of a row, fewer than a vector, it rounds.
pub fn from_hsv([h, s, v]: [u8; 3]) -> [u8; 3] {
    let unit = |x: u8| f32::from(x) * (1.0 / 255.0);
    let (s, v) = (unit(s), unit(v));
    let h = f32::from(h) * (6.0 / HUES as f32);
    let (sector, part) = (h.floor(), h - h.floor());
    // Products are not rounded before they are subtracted, as by a fused operation.
    let less = |share: f32| v * (1.0 - f64::from(s) * f64::from(share)) as f32;
    let (low, falling, rising) = (less(1.0), less(part), less(1.0 - part));
    let rgb = match sector as u8 {
        0 => [v, rising, low],
        1 => [falling, v, low],
        2 => [low, v, rising],
        3 => [low, falling, v],
        4 => [rising, low, v],
        _ => [v, low, falling],
    };
    rgb.map(|x| (x * 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_stays_near() {
        let levels = || (0..=255u8).step_by(5);
        let mut most = 0;
        for r in levels() {
            for g in levels() {
                for b in levels() {
                    let back = from_hsv(to_hsv([r, g, b]));
                    let apart = [r, g, b].into_iter().zip(back).map(|(a, b)| a.abs_diff(b));
                    most = most.max(apart.max().unwrap_or(0));
                }
            }
        }
        // OpenCV's own. Two degrees of hue are 255/30 levels; half of that, and what is cut off.
        assert_eq!(most, 6);
    }

    #[test]
    fn colours_by_hand() {
        for (rgb, hsv) in [
            ([255, 0, 0], [0, 255, 255]),
            ([0, 255, 0], [60, 255, 255]),
            ([0, 0, 255], [120, 255, 255]),
            ([255, 255, 0], [30, 255, 255]),
            ([0, 255, 255], [90, 255, 255]),
            ([0, 0, 0], [0, 0, 0]),
            ([77, 77, 77], [0, 0, 77]),
        ] {
            assert_eq!(to_hsv(rgb), hsv);
            let back = from_hsv(hsv);
            assert!(rgb.into_iter().zip(back).all(|(x, y)| x.abs_diff(y) <= 1), "{back:?}");
        }
    }
}
