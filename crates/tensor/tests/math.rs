//! The vectorized functions have the same bits on every instruction set.
//!
//! The instruction set in force belongs to the process, so this is a test program of its own.

use fixnet_tensor::kernel::{Isa, available_isas, set_isa};
use fixnet_tensor::{map, math};

#[test]
fn every_instruction_set_has_the_same_bits() {
    let dense = (-200_000..200_000).map(|i| i as f32 * 0.000_6);
    let bits = (0..200_001u32).map(|i| f32::from_bits(i.wrapping_mul(21_475)));
    let x: Vec<f32> = dense.chain(bits).collect();
    let of = |isa| {
        set_isa(isa).unwrap();
        let mut found = vec![[0f32; 3]; x.len()];
        map::map1(&x, &mut found, |&x| {
            let (share, density) = math::normal(x);
            [math::exp(x), share, density]
        });
        found
    };
    let scalar = of(Isa::Scalar);
    for &isa in available_isas() {
        for (found, expected) in of(isa).iter().flatten().zip(scalar.iter().flatten()) {
            assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{isa:?}");
        }
    }
}
