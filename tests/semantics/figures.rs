//! What is reported of a tokenizer, against its definitions.

use beit::apply::hard_codes::HardCodes;
use beit::models::dvae::pixels;

#[test]
fn psnr_usage_and_perplexity_by_hand() {
    let codes = HardCodes {
        squared_error: 0.75,
        sub_pixels: 300.0,
        counts: vec![8, 0, 4, 4, 0],
        ..HardCodes::default()
    };
    // −10 log₁₀ 0.0025; 3 of 5; 2^(½·1 + 2·¼·2).
    assert!((codes.psnr_db() - 26.020_599_913_279_625).abs() < 1e-12);
    assert_eq!((codes.positions(), codes.usage()), (16.0, 0.6));
    assert!((codes.perplexity() - 2f64.powf(1.5)).abs() < 1e-12);
}

#[test]
fn the_decoder_is_shown_by_the_inverse_of_the_map() {
    // logit(0.8 p + 0.1) for p in 0..1, and what lies outside; the three other channels are not looked at.
    let mu = |p: f64| {
        let x: f64 = 0.8 * p + 0.1;
        (x / (1.0 - x)).ln()
    };
    let out = [mu(0.0), mu(0.25), mu(1.0), 9.0, -9.0, 3.0, mu(0.7), -8.0, 8.0, 0.0, 1.0, 2.0];
    for (got, want) in pixels(&out).iter().zip([0.0, 0.25, 1.0, 0.7, 0.0, 1.0]) {
        assert!((got - want).abs() < 1e-12, "{got}, expected {want}");
    }
}
