//! Runs a loop over floats, compiled for the vector level in force: one source for all instruction sets.

/// Runs `f` compiled for the vector level in force. `f` should be a plain loop marked `#[inline(always)]`.
#[inline]
pub fn dispatch<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::kernel::Isa;
        match crate::kernel::isa() {
            Isa::Avx512 | Isa::Avx512Vnni => {
                if let Some(level) = pulp::x86::V4::try_new() {
                    return level.vectorize(f);
                }
            }
            Isa::Avx2 | Isa::AvxVnni => {
                if let Some(level) = pulp::x86::V3::try_new() {
                    return level.vectorize(f);
                }
            }
            _ => {}
        }
    }
    #[cfg(target_arch = "aarch64")]
    if crate::kernel::isa() != crate::kernel::Isa::Scalar
        && let Some(level) = pulp::aarch64::Neon::try_new()
    {
        return level.vectorize(f);
    }
    f()
}
