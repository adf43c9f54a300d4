//! Groups of CPU features.

use bitflags::bitflags;

bitflags! {
    /// Groups of CPU features: what `criu --cpu-cap` takes. None of them ignores the CPU.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct CpuCap: u32 {
        /// `fpu`: the floating-point unit fits.
        const FPU = 1;
        /// `cpu`: all features are the same.
        const CPU = 2;
        /// `ins`: all instructions used are there.
        const INS = 4;
        /// The image is written; CRIU adds it to any other.
        const IMAGE = 8;
        const _ = !0;
    }
}
