//! Elementary functions in single precision, the same bits on every machine.
//!
//! Additions and multiplications only, in a fixed order and never fused, so that any instruction set that rounds as IEEE
//! asks gives the same result; no branches, so that loops over them become vector code. The stated errors are bounds
//! over all floats that the tests sample densely.

/// 1.5 * 2^23: a sum with it has no room for a fraction, so adding rounds, halves to the even integer, and the low bits
/// of the sum are the integer.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// `x` rounded to the nearest integer, halves to the even one.
#[inline(always)]
pub(crate) fn round_half_even(x: f32) -> f32 {
    let rounded = (x.abs() + 8_388_608.0) - 8_388_608.0;
    let whole = if x.abs() < 8_388_608.0 { rounded } else { x.abs() };
    whole.copysign(x)
}

/// `x` rounded to the nearest integer, halves to the even one; its magnitude is at most 2^22.
#[inline(always)]
pub(crate) fn small_integer(x: f32) -> i32 {
    ((x + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32)
}

/// `x` rounded down.
#[inline(always)]
pub(crate) fn floor(x: f32) -> f32 {
    let nearest = round_half_even(x);
    let down = if nearest > x { nearest - 1.0 } else { nearest };
    // -0.0 stays, and what rounds down to zero keeps its sign.
    if down == 0.0 { down.copysign(x) } else { down }
}

/// `x` rounded up.
#[inline(always)]
pub(crate) fn ceil(x: f32) -> f32 {
    -floor(-x)
}

/// `x` rounded towards zero.
#[inline(always)]
pub(crate) fn trunc(x: f32) -> f32 {
    floor(x.abs()).copysign(x)
}

/// The square root, rounded once.
#[inline(always)]
pub(crate) fn sqrt(x: f32) -> f32 {
    // The standard library has it where there is one.
    #[cfg(not(feature = "minimal"))]
    return x.sqrt();
    #[cfg(feature = "minimal")]
    sqrt_by_bits(x)
}

/// The square root, bit by bit.
#[cfg(any(test, feature = "minimal"))]
fn sqrt_by_bits(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 || x == f32::INFINITY {
        return x;
    }
    // x = mantissa * 2^exponent with an even exponent and 2^50 <= mantissa < 2^53, whose root has 26 bits or more: one
    // below those of the result rounds it, and a remainder keeps what looks like a tie from being one.
    let bits = x.to_bits();
    let (mut mantissa, mut exponent) = (u64::from(bits & 0x007f_ffff), (bits >> 23) as i32 - 150);
    if exponent == -150 {
        exponent += 1;
    } else {
        mantissa |= 1 << 23;
    }
    let shift = mantissa.leading_zeros() as i32 - 11;
    let shift = shift - (exponent - shift) % 2;
    let (mantissa, exponent) = (mantissa << shift, exponent - shift);
    let mut root = 0u64;
    for bit in (0..27).rev() {
        let with = root | 1 << bit;
        if with * with <= mantissa {
            root = with;
        }
    }
    let sticky = u64::from(root * root != mantissa);
    // Both factors are exact, so that only the conversion to 24 bits rounds.
    ((root << 1 | sticky) as f32) * power_of_two(exponent / 2 - 1)
}

/// 2 to the power of `n`, for `n` from -126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// e to the power of `x`, within 1 ulp.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Past these the result is 0 or infinite anyway; the comparison keeps NaN.
    let low = if x < -104.0 { -104.0 } else { x };
    let x = if low > 89.0 { 89.0 } else { low };
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, of which the first has few bits: n * the first part is exact.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // In two halves, so that results below the normal numbers are rounded once and 2^128 is reached.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let n = if x.is_nan() { 0 } else { n };
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n - half)
}

/// The natural logarithm, within 1 ulp.
#[inline(always)]
pub(crate) fn log(x: f32) -> f32 {
    // Numbers below the normal ones are scaled by 2^23 first.
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits() as i32;
    let exponent = (bits >> 23) - 126 - if tiny { 23 } else { 0 };
    let mantissa = f32::from_bits(((bits & 0x007f_ffff) | 0x3f00_0000) as u32);
    // mantissa in [1/2, 1); centred around 1.
    let small = mantissa < core::f32::consts::FRAC_1_SQRT_2;
    let e = (exponent - i32::from(small)) as f32;
    let m = if small { mantissa + mantissa - 1.0 } else { mantissa - 1.0 };
    let z = m * m;
    let mut p = 7.037_683_6e-2;
    p = p * m - 0.115_146_1;
    p = p * m + 0.116_769_98;
    p = p * m - 0.124_201_41;
    p = p * m + 0.142_493_23;
    p = p * m - 0.166_680_58;
    p = p * m + 0.200_007_14;
    p = p * m - 0.249_999_94;
    p = p * m + 0.333_333_3;
    let mut y = p * m * z;
    y += e * -2.121_944_4e-4;
    y -= 0.5 * z;
    let y = (m + y) + e * 0.693_359_4;
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x < 0.0 || x.is_nan() { f32::NAN } else { y }
}

/// The logistic function `1 / (1 + exp(-x))`, within 3 ulp.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x * sigmoid(x)`
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The hyperbolic tangent, within 2 ulp.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * z + 2.063_909e-2;
    p = p * z - 5.373_971_6e-2;
    p = p * z + 0.133_314_42;
    p = p * z - 0.333_332_8;
    let near = p * z * x + x;
    let far = (1.0 - 2.0 / (exp(a + a) + 1.0)).copysign(x);
    let y = if a < 0.625 { near } else { far };
    if x.is_nan() { x } else { y }
}

/// The error function, within 3 ulp.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let mut r = -1.728_534_7e-5 * t + 3.831_971_3e-4;
    let u = -3.883_964_4e-3 * t + 2.425_462_2e-2;
    r = r * s + u;
    r = r * t - 0.106_777_88;
    r = r * t - 0.634_846_7;
    r = r * t - 0.128_717_51;
    r = r * t - t;
    let r = if t > 4.0 { -20.0 } else { r };
    let far = (1.0 - exp(r)).copysign(x);
    let mut p = -5.967_617e-4;
    p = p * s + 4.991_194_2e-3;
    p = p * s - 2.676_813_5e-2;
    p = p * s + 0.112_819_93;
    p = p * s - 0.376_125_34;
    p = p * s + 0.128_379_17;
    let near = p * x + x;
    // Both are computed and one is taken by its bits, so that no branch comes between.
    let mask = if t > 0.927_734_4 { u32::MAX } else { 0 };
    let y = f32::from_bits((far.to_bits() & mask) | (near.to_bits() & !mask));
    if x.is_nan() { x } else { y }
}

/// `x * (1 + erf(x / sqrt 2)) / 2`
#[inline(always)]
pub(crate) fn gelu_erf(x: f32) -> f32 {
    x * (0.5 * (1.0 + erf(x * core::f32::consts::FRAC_1_SQRT_2)))
}

/// The approximation of GELU by tanh.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    x * (0.5 * (1.0 + tanh(inner)))
}

/// -1, 0 or 1 by the sign; NaN for NaN.
#[inline(always)]
pub(crate) fn sign(x: f32) -> f32 {
    let s = if x > 0.0 { 1.0 } else { 0.0 };
    let s = if x < 0.0 { -1.0 } else { s };
    if x.is_nan() { x } else { s }
}

/// The smaller one; NaN if either is.
#[inline(always)]
pub(crate) fn min(a: f32, b: f32) -> f32 {
    let m = if b < a { b } else { a };
    if b.is_nan() { b } else { m }
}

/// The larger one; NaN if either is.
#[inline(always)]
pub(crate) fn max(a: f32, b: f32) -> f32 {
    let m = if b > a { b } else { a };
    if b.is_nan() { b } else { m }
}

/// `x` limited to `[lo, hi]`; NaN stays.
#[inline(always)]
pub(crate) fn clip(x: f32, lo: f32, hi: f32) -> f32 {
    min(max(x, lo), hi)
}

/// `max(x, 0)`; NaN stays.
#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `a` to the power of `b`, within 1 ulp: computed in double precision and rounded once.
pub(crate) fn pow(a: f32, b: f32) -> f32 {
    if b == 0.0 || a == 1.0 {
        return 1.0;
    }
    if a.is_nan() || b.is_nan() {
        return f32::NAN;
    }
    let whole = trunc(b) == b;
    // From 2^24 on every float is even.
    let odd = whole && b.abs() < 16_777_216.0 && (b.abs() as i32) & 1 == 1;
    let negative = a.is_sign_negative() && odd;
    if a == 0.0 || a.is_infinite() || b.is_infinite() {
        let magnitude = a.abs();
        // Whether the magnitude grows with b: to infinity, else to zero.
        let result = if magnitude == 1.0 {
            1.0
        } else if (magnitude > 1.0) == (b > 0.0) {
            f32::INFINITY
        } else {
            0.0
        };
        return if negative { -result } else { result };
    }
    if a < 0.0 && !whole {
        return f32::NAN;
    }
    let result = exp_f64(f64::from(b) * log_f64(f64::from(a.abs()))) as f32;
    if negative { -result } else { result }
}

/// The natural logarithm of a positive normal number, to about 1e-15.
fn log_f64(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) as i64) - 1023;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > core::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    // log m == 2 * atanh((m - 1) / (m + 1))
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 0.0;
    for k in (0..12u32).rev() {
        p = p * z + 1.0 / f64::from(2 * k + 1);
    }
    exponent as f64 * core::f64::consts::LN_2 + 2.0 * s * p
}

/// e to the power of `x`, to about 1e-15; 0 or infinity far outside the range of `f32`.
fn exp_f64(x: f64) -> f64 {
    let x = x.clamp(-200.0, 200.0);
    let n = (x * core::f64::consts::LOG2_E + 6_755_399_441_055_744.0) - 6_755_399_441_055_744.0;
    let r = (x - n * 0.693_147_180_369_123_8) - n * 1.908_214_929_270_587_7e-10;
    let mut p = 1.0;
    for k in (1..=14u32).rev() {
        p = p * r / f64::from(k) + 1.0;
    }
    p * f64::from_bits(((n as i64 + 1023) << 52) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units in the last place of the exact value.
    fn ulps(found: f32, exact: f64) -> f64 {
        if (found.is_nan() && exact.is_nan()) || f64::from(found) == exact {
            return 0.0;
        }
        let rounded = exact as f32;
        if rounded == found {
            return 0.5;
        }
        let ulp = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
        (f64::from(found) - exact).abs() / ulp
    }

    /// Every 4099th float in the order of bits, and some particular ones.
    fn sample() -> impl Iterator<Item = f32> {
        let particular = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1e-45, f32::MAX];
        (0..=u32::MAX / 4099).map(|i| f32::from_bits(i * 4099)).filter(|x| !x.is_nan()).chain(particular)
    }

    fn worst(function: fn(f32) -> f32, exact: fn(f64) -> f64, over: impl Iterator<Item = f32>) -> (f64, f32) {
        over.map(|x| (ulps(function(x), exact(f64::from(x))), x)).fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
    }

    /// The error function by its series and its continued fraction.
    fn erf_f64(x: f64) -> f64 {
        let a = x.abs();
        if a < 3.0 {
            let (mut term, mut sum) = (a, a);
            for k in 1..100 {
                term *= -a * a / f64::from(k);
                sum += term / f64::from(2 * k + 1);
            }
            return (sum * 2.0 / core::f64::consts::PI.sqrt()).copysign(x);
        }
        let mut fraction = 0.0;
        for k in (1..60).rev() {
            fraction = f64::from(k) / 2.0 / (a + fraction);
        }
        (1.0 - (-a * a).exp() / ((a + fraction) * core::f64::consts::PI.sqrt())).copysign(x)
    }

    #[test]
    fn errors_are_within_the_stated_bounds() {
        let check = |name: &str, (found, at): (f64, f32), bound: f64| {
            assert!(found <= bound, "{name}: {found} ulp at {at:e}");
        };
        check("exp", worst(exp, f64::exp, sample()), 1.0);
        check("log", worst(log, f64::ln, sample().filter(|&x| x >= 0.0)), 1.0);
        check("tanh", worst(tanh, f64::tanh, sample()), 2.0);
        check("erf", worst(erf, erf_f64, sample()), 3.0);
        check("sigmoid", worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), sample().filter(|&x| x > -80.0)), 3.0);
    }

    #[test]
    fn rounding_agrees_with_the_standard_library() {
        let halves = (-9..=9).map(|i| i as f32 + 0.5);
        for x in sample().chain(halves).chain([8_388_607.5, 8_388_609.0, -4_194_303.5, 0.499_999_97]) {
            assert_eq!(round_half_even(x).to_bits(), x.round_ties_even().to_bits(), "{x:e}");
            assert_eq!(floor(x).to_bits(), x.floor().to_bits(), "{x:e}");
            assert_eq!(ceil(x).to_bits(), x.ceil().to_bits(), "{x:e}");
            assert_eq!(trunc(x).to_bits(), x.trunc().to_bits(), "{x:e}");
            let root = sqrt_by_bits(x);
            assert!(root.to_bits() == x.sqrt().to_bits() || root.is_nan() && x < 0.0, "{x:e}");
        }
    }

    #[test]
    fn powers_agree_with_double_precision() {
        let bases = [0.0f32, -0.0, 0.5, 1.0, -1.0, 2.0, -2.0, 3.7, -3.0, 1e-30, 1e30, f32::INFINITY, f32::NEG_INFINITY];
        let exponents = [0.0f32, 1.0, -1.0, 2.0, 3.0, -3.0, 0.5, -0.5, 2.5, 40.0, -41.0, 1e9, f32::INFINITY];
        for a in bases {
            for b in exponents.into_iter().chain([f32::NEG_INFINITY]) {
                let exact = f64::from(a).powf(f64::from(b));
                let error = ulps(pow(a, b), if exact.abs() > 3.5e38 { exact.signum() * f64::INFINITY } else { exact });
                assert!(error <= 1.0, "pow({a}, {b}) = {} instead of {exact}", pow(a, b));
            }
        }
        assert!(pow(f32::NAN, 1.0).is_nan());
        assert_eq!(pow(f32::NAN, 0.0), 1.0);
    }

    #[test]
    fn not_a_number_stays_one() {
        for f in [exp, log, tanh, erf, sigmoid, silu, gelu_erf, gelu_tanh, sign, relu, floor, ceil, round_half_even] {
            assert!(f(f32::NAN).is_nan());
        }
        assert!(min(f32::NAN, 1.0).is_nan() && min(1.0, f32::NAN).is_nan());
        assert!(max(f32::NAN, 1.0).is_nan() && max(1.0, f32::NAN).is_nan());
        assert!(clip(f32::NAN, 0.0, 1.0).is_nan());
    }
}
