//! Instruction sets: what the CPU has, and the one in force.
//!
//! The choice is made once at run time. `FIXNET_ISA` or [`set_isa`] caps it, for tests and comparisons: the results are
//! the same bits whatever is chosen.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set with kernels of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Isa {
    /// Plain Rust; defines every result.
    Scalar = 1,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
}

const NAMES: [(Isa, &str); 3] = [(Isa::Scalar, "scalar"), (Isa::Avx2, "avx2"), (Isa::Avx512Vnni, "avx512vnni")];
/// Instruction sets that other machines have; known here so that the message can say so.
const ELSEWHERE: [&str; 5] = ["avxvnni", "avx512", "neon", "neon-dotprod", "neon-i8mm"];

impl Isa {
    /// Whether kernels of `other` may run under this cap: its own and everything below it.
    pub fn allows(self, other: Self) -> bool {
        other <= self
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(i, _)| i == self).map_or("", |(_, n)| n))
    }
}

fn refused(name: &str, reason: &'static str) -> Error {
    let available = available_isas().iter().map(Isa::to_string).collect::<Vec<_>>().join(", ");
    Error::Isa { found: name.to_string(), reason, available }
}

impl FromStr for Isa {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        match NAMES.iter().find(|(_, n)| *n == s) {
            Some((isa, _)) => Ok(*isa),
            None if ELSEWHERE.contains(&s) => Err(refused(s, "there are no kernels for it in this build")),
            None => Err(refused(s, "the name is unknown")),
        }
    }
}

/// The instruction sets that this CPU can run, slowest first.
pub fn available_isas() -> Vec<Isa> {
    NAMES.iter().map(|(isa, _)| *isa).filter(|isa| isa.is_available()).collect()
}

/// The cap in force; 0 stands for "not chosen yet".
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// The instruction set in force: the one set last, else that of `FIXNET_ISA`, else the best of this CPU.
///
/// A `FIXNET_ISA` that cannot be used counts as absent here; [`isa_from_env`] reports it.
pub fn isa() -> Isa {
    let known = CHOSEN.load(Ordering::Relaxed);
    if let Some((isa, _)) = NAMES.iter().find(|(isa, _)| *isa as u8 == known) {
        return *isa;
    }
    let best = available_isas().last().copied().unwrap_or(Isa::Scalar);
    let isa = isa_from_env().ok().flatten().unwrap_or(best);
    CHOSEN.store(isa as u8, Ordering::Relaxed);
    isa
}

/// The instruction set that `FIXNET_ISA` asks for, if it is set.
///
/// # Errors
/// The name is unknown, or this CPU cannot run it.
pub fn isa_from_env() -> Result<Option<Isa>> {
    match std::env::var("FIXNET_ISA") {
        Ok(name) if !name.is_empty() => {
            let isa: Isa = name.parse()?;
            check(isa).map(Some)
        }
        _ => Ok(None),
    }
}

fn check(isa: Isa) -> Result<Isa> {
    if isa.is_available() { Ok(isa) } else { Err(refused(&isa.to_string(), "this CPU lacks it")) }
}

/// Caps the instruction set for the whole process.
///
/// # Errors
/// This CPU cannot run it.
pub fn set_isa(isa: Isa) -> Result<()> {
    CHOSEN.store(check(isa)? as u8, Ordering::Relaxed);
    Ok(())
}
