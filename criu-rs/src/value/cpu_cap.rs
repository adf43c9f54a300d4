//! Groups of CPU features.

use bitflags::bitflags;

bitflags! {
    /// Groups of CPU features to check (`criu --cpu-cap`). The empty set ignores the CPU.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct CpuCap: u32 {
        /// `fpu`: the floating-point unit must be compatible.
        const FPU = 1;
        /// `cpu`: all features must be the same.
        const CPU = 2;
        /// `ins`: all instructions in use must be available.
        const INS = 4;
        /// Writes the CPU image. CRIU adds this bit to any other.
        const IMAGE = 8;
        const _ = !0;
    }
}
