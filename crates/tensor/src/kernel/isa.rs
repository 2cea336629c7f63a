//! Instruction sets: what this CPU has, and the cap that the user sets.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set, as a cap on what kernels may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Isa {
    /// Plain Rust.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX2 and AVX-VNNI.
    AvxVnni,
    /// AVX-512 F, BW, VL, DQ, CD.
    Avx512,
    /// AVX-512 with VNNI.
    Avx512Vnni,
    /// NEON.
    Neon,
    /// NEON with `sdot`.
    NeonDotprod,
    /// NEON with `sdot` and the 8-bit matrix extension (`sudot`).
    NeonI8mm,
}

const ISAS: [(Isa, &str); 8] = [
    (Isa::Scalar, "scalar"),
    (Isa::Avx2, "avx2"),
    (Isa::AvxVnni, "avxvnni"),
    (Isa::Avx512, "avx512"),
    (Isa::Avx512Vnni, "avx512vnni"),
    (Isa::Neon, "neon"),
    (Isa::NeonDotprod, "neon-dotprod"),
    (Isa::NeonI8mm, "neon-i8mm"),
];

impl Isa {
    /// Whether a kernel of instruction set `other` may run under this cap.
    pub fn allows(self, other: Isa) -> bool {
        use Isa::*;
        match self {
            Scalar => other == Scalar,
            Avx2 => matches!(other, Scalar | Avx2),
            AvxVnni => matches!(other, Scalar | Avx2 | AvxVnni),
            Avx512 => matches!(other, Scalar | Avx2 | Avx512),
            Avx512Vnni => matches!(other, Scalar | Avx2 | AvxVnni | Avx512 | Avx512Vnni),
            Neon => matches!(other, Scalar | Neon),
            NeonDotprod => matches!(other, Scalar | Neon | NeonDotprod),
            NeonI8mm => matches!(other, Scalar | Neon | NeonDotprod | NeonI8mm),
        }
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        available_isas().contains(&self)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ISAS[*self as usize].1)
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = ISAS.iter().find(|(_, n)| *n == name);
        found.map(|&(isa, _)| isa).ok_or_else(|| isa_error(name, "no such instruction set"))
    }
}

fn isa_error(found: &str, reason: &'static str) -> Error {
    let names: Vec<String> = available_isas().iter().map(Isa::to_string).collect();
    Error::Isa { found: found.to_string(), reason, available: names.join(", ") }
}

/// The instruction sets of this CPU, the plainest first; the last one is the default.
pub fn available_isas() -> &'static [Isa] {
    static FOUND: OnceLock<Vec<Isa>> = OnceLock::new();
    FOUND.get_or_init(|| {
        #[allow(unused_mut, reason = "other architectures have only the scalar one")]
        let mut found = vec![Isa::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512cd");
            let sets = [
                (Isa::Avx2, avx2),
                (Isa::AvxVnni, avx2 && is_x86_feature_detected!("avxvnni")),
                (Isa::Avx512, avx512),
                (Isa::Avx512Vnni, avx512 && is_x86_feature_detected!("avx512vnni")),
            ];
            found.extend(sets.iter().filter(|s| s.1).map(|s| s.0));
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as detected;
            let neon = detected!("neon");
            let dotprod = neon && detected!("dotprod");
            let sets = [(Isa::Neon, neon), (Isa::NeonDotprod, dotprod), (Isa::NeonI8mm, dotprod && detected!("i8mm"))];
            found.extend(sets.iter().filter(|s| s.1).map(|s| s.0));
        }
        found
    })
}

/// The cap of [`set_isa`], or `UNSET`.
static CAP: AtomicU8 = AtomicU8::new(UNSET);
const UNSET: u8 = u8::MAX;

/// What `FIXNET_ISA` asks for, read once; without it the best that this CPU has.
///
/// # Errors
/// The variable names an instruction set that is unknown, or that this CPU cannot run.
pub fn isa_from_env() -> Result<Isa> {
    static ASKED: OnceLock<Result<Isa>> = OnceLock::new();
    ASKED
        .get_or_init(|| match std::env::var("FIXNET_ISA") {
            Ok(name) => name.parse().and_then(check_available),
            Err(_) => Ok(best()),
        })
        .clone()
}

fn best() -> Isa {
    *available_isas().last().expect("scalar is always there")
}

fn check_available(isa: Isa) -> Result<Isa> {
    if isa.is_available() { Ok(isa) } else { Err(isa_error(&isa.to_string(), "this CPU does not have it")) }
}

/// The instruction set in force: that of [`set_isa`], else of `FIXNET_ISA`, else the best one.
pub fn isa() -> Isa {
    match CAP.load(Ordering::Relaxed) {
        UNSET => isa_from_env().unwrap_or_else(|_| best()),
        cap => ISAS[cap as usize].0,
    }
}

/// Caps the instruction sets that kernels and element passes may use, for the whole process. Results do not change.
///
/// # Errors
/// This CPU does not have `cap`.
pub fn set_isa(cap: Isa) -> Result<()> {
    CAP.store(check_available(cap)? as u8, Ordering::Relaxed);
    Ok(())
}
